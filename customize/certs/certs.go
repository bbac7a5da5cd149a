// Package certs adds certificate authorities to those that the system trusts.
package certs

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "cacerts".
type Config struct {
	// PEM are certificates, one or more in each item.
	PEM []string
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("cacerts cannot be applied")
}
