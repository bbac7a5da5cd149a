// Package ignition prepares the first boot of systems that Ignition sets up.
package ignition

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "ignition".
type Config struct {
	Embedded  *Embedded
	Firstboot *Firstboot
}

// Embedded is the table "ignition.embedded".
type Embedded struct {
	Config string // in base64
}

// Firstboot is the table "ignition.firstboot".
type Firstboot struct {
	URL   string
	Empty bool
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (effects customize.Effects, warnings customize.Problems, err error) {
	return customize.Effects{}, nil, errors.New("ignition cannot be applied")
}
