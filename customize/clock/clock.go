// Package clock sets the time zone and the servers of network time.
package clock

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "timezone".
type Config struct {
	Timezone   *string
	NTPServers []string
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("timezone cannot be applied")
}
