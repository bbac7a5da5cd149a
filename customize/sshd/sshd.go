// Package sshd configures the SSH server.
package sshd

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "sshd".
type Config struct {
	PasswordAuthentication       *bool
	ClientAliveInterval          *int64 // seconds
	PermitRootLogin              string // as in sshd_config(5), "" leaves it
	KbdInteractiveAuthentication *bool
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("sshd cannot be applied")
}
