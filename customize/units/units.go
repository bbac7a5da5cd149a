// Package units enables, disables and masks systemd units as systemctl --root
// does, by the rules of systemd 255 to 262 (src/shared/install.c): the [Install]
// section with its drop-ins, aliases, templates and linked units. Presets are left
// alone. What is in /run is not looked at, for nothing is in it when the system
// boots.
package units

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "services". The names are those of units; one without a
// suffix is a service. A unit to enable may also be the path of a unit file, which
// is linked then.
type Config struct {
	Enabled, Disabled, Masked []string
}

// Validate returns everything that is wrong with the names whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	seen := map[string]string{}
	for _, l := range c.lists() {
		for i, name := range l.names {
			field := l.field(i)
			unit, err := mangle(name, l.key == "enabled")
			if err != nil {
				p.Add(field, fault.New(fault.Usage, err, `a unit is named as systemctl names it: "sshd" or "fstrim.timer"`))
				continue
			}
			// A unit may well be disabled and masked; the other pairs contradict each
			// other, as what comes later undoes what came before, or fails.
			at := path.Base(unit)
			if other := seen[at]; other != "" && (other == "enabled" || other == l.key) {
				if other == l.key {
					p.Add(field, fault.New(fault.Usage, fmt.Errorf("%s is in the list twice", name), ""))
				} else {
					p.Add(field, fault.New(fault.Usage, fmt.Errorf("%s is in services.%s as well", name, other), ""))
				}
				continue
			}
			seen[at] = l.key
		}
	}
	return p
}

// list is one of the lists of a Config.
type list struct {
	key   string
	names []string
	apply func(*installer, string) error
}

func (c Config) lists() []list {
	return []list{
		{"enabled", c.Enabled, (*installer).enable},
		{"disabled", c.Disabled, (*installer).disable},
		{"masked", c.Masked, (*installer).mask},
	}
}

func (l list) field(i int) string { return fmt.Sprintf("services.%s[%d]", l.key, i) }

// mangle returns the unit that systemctl takes a name for.
func mangle(name string, paths bool) (string, error) {
	switch {
	case name == "":
		return "", errors.New("the name is empty")
	case strings.HasPrefix(name, "/") && paths:
		if path.Clean(name) != name || classify(path.Base(name)) == invalidName {
			return "", fmt.Errorf("%q is not the path of a unit file", name)
		}
		return name, nil
	case strings.ContainsAny(name, "*?["):
		return "", fmt.Errorf("%q: patterns are not supported", name)
	case classify(name) != invalidName:
		return name, nil
	}
	unit := name + ".service"
	if classify(unit) == invalidName {
		return "", fmt.Errorf("%q is not the name of a unit", name)
	}
	return unit, nil
}

// ValidName tells whether a name, with its suffix, is one that a unit can have.
func ValidName(name string) bool { return classify(name) != invalidName }

// Apply enables, then disables, then masks, one unit after the other. The error is
// customize.Problems where the units and the image do not fit, and any other error
// where the image cannot be read; the system is to be given up then.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return nil, p
	}
	var problems customize.Problems
	for _, l := range c.lists() {
		for i, name := range l.names {
			unit, err := mangle(name, l.key == "enabled")
			if err != nil {
				return nil, err
			}
			in := &installer{sys: sys, known: map[string]*info{}}
			err = l.apply(in, unit)
			for _, w := range in.warnings {
				warnings.Add(l.field(i), fault.New(fault.Usage, errors.New(w), ""))
			}
			problems.Add(l.field(i), err)
		}
	}
	return warnings, problems.Err()
}
