// Package firewalld writes zones of firewalld as firewall-offline-cmd does.
package firewalld

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "firewall".
type Config struct {
	// Ports are ports and ranges, "22:tcp", "8000-8080:udp" or "imap:tcp", opened in
	// the default zone.
	Ports []string
	// Enabled and Disabled are services of the default zone.
	Enabled, Disabled []string
	Zones             []Zone
}

// Zone is an item of "firewall.zones".
type Zone struct {
	Name    string
	Sources []string
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("firewall cannot be applied")
}
