// Package hostname sets the name of the system.
package hostname

import (
	"errors"

	"imgbuild/customize"
)

// Validate returns what is wrong with a name.
func Validate(name string) customize.Problems { return nil }

// Apply writes /etc/hostname.
func Apply(sys *customize.System, name string) (warnings customize.Problems, err error) {
	return nil, errors.New("hostname cannot be applied")
}
