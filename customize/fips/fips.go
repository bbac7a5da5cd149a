// Package fips turns FIPS mode on.
package fips

import (
	"errors"

	"imgbuild/customize"
)

// Config is the key "fips".
type Config struct {
	Enabled bool
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (effects customize.Effects, warnings customize.Problems, err error) {
	return customize.Effects{}, nil, errors.New("fips cannot be applied")
}
