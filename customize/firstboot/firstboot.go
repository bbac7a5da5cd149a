// Package firstboot installs scripts that run once, when the system boots first.
package firstboot

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "firstboot".
type Config struct {
	Scripts []Script
}

// Script is an item of "firstboot.scripts". Which fields there are depends on the
// type.
type Script struct {
	Type          string // custom, satellite or aap
	Name          string
	IgnoreFailure bool
	After, Before []string // units
	Contents      string   // custom
	CACerts       []string // satellite, aap
	Command       string   // satellite
	// JobTemplateURL and HostConfigKey are those of aap.
	JobTemplateURL, HostConfigKey string
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("firstboot cannot be applied")
}
