// Package accounts adds users and groups to a system that is about to be
// deployed, and changes those it has.
//
// The files are what useradd(8), usermod(8), groupadd(8) and chpasswd(8) of shadow
// 4.20 leave: passwd(5), shadow(5), group(5), gshadow(5), subuid(5) and subgid(5)
// under /etc, the settings being the image's login.defs(5) and
// /etc/default/useradd. The ways in which older versions differ follow the image's
// own useradd (see version).
//
// What the tools leave and this package does not: the backups /etc/passwd- and so
// on, which hold what each file was one step earlier, and the lock
// /etc/.pwd.lock. What it does and the tools do not: groups and users that are not
// in /etc, but come from nss-altfiles or sysusers.d, are copied there first, as
// the tools change files of /etc only.
//
// Not supported and refused: MAX_MEMBERS_PER_GROUP and USE_TCB of login.defs.
package accounts

import (
	"errors"
	"fmt"
	"strings"

	"imgbuild/customize"
)

// User is one account as the configuration asks for it. Of an account that the
// image has, only what is given is changed.
type User struct {
	Name string
	// Description is the GECOS field.
	Description *string
	// Password is a hash as crypt(3) makes them, one of the locks "!", "!!", "*" and
	// "!*", or plain text, which is hashed. An empty one locks the account's password.
	Password *string
	// Keys are the lines to add to the account's authorized_keys, one key each, with
	// options before it if need be.
	Keys []string
	// Home is an absolute path of the running system, below /var or below a link that
	// leads there, as /home. An empty one means that a new account has the default
	// and no directory is made.
	Home *string
	// Shell is the path of a program of the image. An empty one counts as absent.
	Shell *string
	// Groups are the supplementary groups, by name or by number. An account that the
	// image has leaves all others, as with usermod --groups; with none given, it
	// stays in those it is in.
	Groups []string
	UID    *int64
	// GID is the number of the primary group, which the image or a Group has.
	GID *int64
	// ExpireDate is the day the account expires, in days since 1970-01-01; -1 is
	// never.
	ExpireDate *int64
	// ForcePasswordReset asks for a new password at the first login.
	ForcePasswordReset bool
}

// Group is one group as the configuration asks for it.
type Group struct {
	Name string
	GID  *int64
}

// Subject says whether a Problem is one of a user or of a group.
type Subject string

// The subjects, as the tables of a blueprint are called.
const (
	InUser  Subject = "user"
	InGroup Subject = "group"
)

// Problem is what is wrong with one field of one user or group.
type Problem struct {
	Subject Subject
	// Index is the place in the list of users or groups, from 0.
	Index int
	// Name is the user's or group's name as it was given.
	Name string
	// Field is the field as a blueprint calls it: name, description, password, key,
	// home, shell, groups, uid, gid, expiredate, force_password_reset.
	Field string
	// Item is the place in the list that the field is (groups, key), or -1.
	Item int
	Err  error
}

// Error is "user "name": field: why".
func (p Problem) Error() string {
	return fmt.Sprintf("%s %q: %s: %v", p.Subject, p.Name, p.Field, p.Err)
}

// Unwrap returns why.
func (p Problem) Unwrap() error { return p.Err }

// Problems are all problems of a configuration, or its warnings, in the order of
// groups, then users.
type Problems []Problem

// Error has one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each problem as an error.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i := range p {
		errs[i] = p[i]
	}
	return errs
}

// Validate returns everything that is wrong with users and groups whatever the
// image, or nil.
func Validate(users []User, groups []Group) Problems {
	v := &validator{}
	v.groups(groups)
	v.users(users)
	return v.problems
}

// Warnings returns what is allowed and yet unwise whatever the image: a password
// in plain text, a hash that can be broken.
func Warnings(users []User) Problems {
	v := &validator{}
	for i := range users {
		v.warnings(i, &users[i])
	}
	return v.problems
}

// Apply makes the groups, then the users, in the system. The error is a Problems
// where the configuration and the image do not fit, and any other error where the
// image's files cannot be used; the system is then not changed. The warnings are
// those of Warnings and what the image adds to them.
func Apply(sys *customize.System, users []User, groups []Group) (warnings Problems, err error) {
	if p := Validate(users, groups); len(p) > 0 {
		return nil, p
	}
	if len(users)+len(groups) == 0 {
		return nil, nil
	}
	s, err := load(sys)
	if err != nil {
		return nil, fmt.Errorf("accounts of the image: %w", err)
	}
	s.warnings = Warnings(users)
	for i := range groups {
		s.addGroup(i, &groups[i])
	}
	for i := range users {
		if err := s.user(i, &users[i]); err != nil {
			return nil, err
		}
	}
	if len(s.problems) > 0 {
		return nil, s.problems
	}
	return s.warnings, s.commit()
}

// errUnknownGroup says that neither the image nor the configuration has a group.
var errUnknownGroup = errors.New("no such group, in the image or among those to be made")
