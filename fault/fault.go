// Package fault classes errors by what the user can do about them. The class
// becomes the exit code, the hint the line after the message.
package fault

import "errors"

// Class is a kind of failure; its value is the exit code of the command.
type Class int

const (
	Internal    Class = 1   // a defect of imgbuild, or an error nobody classed
	Usage       Class = 2   // flags and arguments
	NotFound    Class = 3   // the image does not exist, or its source cannot be reached
	Auth        Class = 4   // credentials are missing or refused
	BadImage    Class = 5   // the image is damaged, hostile or not bootable by design
	Unsupported Class = 6   // a sound request that imgbuild cannot fulfil
	NoSpace     Class = 7   // the content does not fit the disk asked for, or the host is full
	Output      Class = 8   // the result or the cache cannot be written
	Config      Class = 9   // a config file is broken, or contradicts itself or the image
	Upload      Class = 10  // a cloud refused the result, or could not be reached
	Device      Class = 11  // a disk to install to is in use, holds data, or fails
	Untrusted   Class = 12  // the image is not signed as the policy wants it
	Interrupted Class = 130 // SIGINT or SIGTERM
)

// Error is an error with its class and, where one helps, a hint: what to do or
// to type instead, in one line without a full stop.
type Error struct {
	Class Class
	Err   error
	Hint  string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// New returns err with a class and a hint, which may be empty. The class and
// hint of an error further down the chain are hidden. New of nil is nil.
func New(class Class, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Class: class, Err: err, Hint: hint}
}

// Default returns err with the class, unless it has one already.
func Default(class Class, err error) error {
	if err == nil || errors.As(err, new(*Error)) {
		return err
	}
	return &Error{Class: class, Err: err}
}

// ClassOf returns the class of err, Internal where it has none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Internal
}

// DetailsOf returns the lines that err has to add to its message, for an error
// that is about several things: they have a method Details.
func DetailsOf(err error) []string {
	var d interface{ Details() []string }
	if errors.As(err, &d) {
		return d.Details()
	}
	return nil
}

// HintOf returns the hint of err, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
