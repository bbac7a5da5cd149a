// Package hostname sets the name of the system, hostname(5).
package hostname

import (
	"fmt"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// maxName is HOST_NAME_MAX of Linux.
const maxName = 64

const file = "/etc/hostname"

// Validate returns what is wrong with a name, by the rules of systemd-firstboot.
func Validate(name string) customize.Problems {
	if err := check(name); err != nil {
		return customize.Problems{{Field: "hostname", Err: fault.New(fault.Usage, err, "letters, digits and hyphens, with dots between the parts")}}
	}
	return nil
}

func check(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case len(name) > maxName:
		return fmt.Errorf("%.20q… is longer than %d characters", name, maxName)
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return fmt.Errorf("%q is not a host name: a part is empty, or begins or ends with a hyphen", name)
		}
		for i := range len(part) {
			c := part[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return fmt.Errorf("%q is not a host name: %q is not allowed", name, rune(c))
			}
		}
	}
	return nil
}

// Apply writes /etc/hostname as systemd-firstboot does, in place of what is there.
func Apply(sys *customize.System, name string) (warnings customize.Problems, err error) {
	if p := Validate(name); len(p) > 0 {
		return nil, p
	}
	if _, err := sys.Remove(file); err != nil {
		return nil, err
	}
	return nil, sys.WriteFile(file, 0o644, []byte(name+"\n"))
}
