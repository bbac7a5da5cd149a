// Package dnf sets variables of DNF.
package dnf

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "dnf.config".
type Config struct {
	// SetReleaseVer fixes the variable releasever to the image's version.
	SetReleaseVer bool
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("dnf cannot be applied")
}
