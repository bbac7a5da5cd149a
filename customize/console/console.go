// Package console sets the terminals of GRUB.
package console

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "bootloader.grub2".
type Config struct {
	TerminalInput, TerminalOutput []string
	// Serial is GRUB's command that sets up the serial port.
	Serial string
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (effects customize.Effects, warnings customize.Problems, err error) {
	return customize.Effects{}, nil, errors.New("bootloader cannot be applied")
}
