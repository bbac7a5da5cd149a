package fault

import (
	"errors"
	"syscall"
)

// OfWrite classes an error of writing a file of the host: NoSpace where the
// file system is full or a quota is used up, Output otherwise. An error that
// has a class already keeps it.
func OfWrite(err error) error {
	switch {
	case err == nil || errors.As(err, new(*Error)):
		return err
	case isFull(err):
		return New(NoSpace, err, "free some space, or write to another file system")
	case errors.Is(err, syscall.EFBIG):
		return New(Output, err, "the file system or a limit of the user (ulimit -f) does not allow a file this large")
	}
	return New(Output, err, "")
}
