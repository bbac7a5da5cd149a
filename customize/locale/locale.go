// Package locale sets the language and the keyboard.
package locale

import (
	"errors"

	"imgbuild/customize"
)

// Config is the table "locale".
type Config struct {
	// Languages are locales, the first of which becomes the system's.
	Languages []string
	// Keyboard is the keymap of the console; the layout of X11 follows it.
	Keyboard *string
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems { return nil }

// Apply applies the table. The error is customize.Problems where the configuration
// and the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	return nil, errors.New("locale cannot be applied")
}
