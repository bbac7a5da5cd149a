package files

import (
	"fmt"
	"path"
	"strings"
)

// policy says what may be written: of the entries that a path is or is below, the
// longest decides.
type policy map[string]bool

// The policies of image-builder for systems of ostree and bootc.
func directoryPolicy() policy { return policy{"/": false, "/etc": true} }

func filePolicy() policy {
	return policy{
		"/": false, "/etc": true, "/root": true, "/usr/local/bin": true, "/usr/local/sbin": true,
		"/etc/fstab": false, "/etc/shadow": false, "/etc/passwd": false, "/etc/group": false,
	}
}

// allow adds what else may be written.
func (p policy) allow(paths []string) policy {
	for _, a := range paths {
		p[a] = true
	}
	return p
}

// allows tells whether a clean absolute path may be written, and which entry says
// so.
func (p policy) allows(name string) (ok bool, entry string) {
	for entry = name; ; entry = path.Dir(entry) {
		if ok, found := p[entry]; found || entry == "/" {
			return ok, entry
		}
	}
}

// check returns what is wrong with a path whatever the image.
func (p policy) check(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is missing")
	case !strings.HasPrefix(name, "/"):
		return fmt.Errorf("%q is not absolute", name)
	case strings.Contains(name, "\x00"):
		return fmt.Errorf("%q has a NUL byte", name)
	case path.Clean(name) != name:
		return fmt.Errorf("%q is not written plainly, which is %q", name, path.Clean(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > 255 {
			return fmt.Errorf("%.30q… has a name of more than 255 bytes", name)
		}
	}
	if len(name) >= 4096 {
		return fmt.Errorf("%.30q… is longer than a path may be", name)
	}
	if ok, entry := p.allows(name); !ok {
		if entry == "/" {
			return fmt.Errorf("%s is not among the paths that may be written: %s", name, p.allowed())
		}
		return fmt.Errorf("%s may not be written, as it belongs to other settings", name)
	}
	return nil
}

// allowed lists the entries that allow.
func (p policy) allowed() string {
	var list []string
	for _, known := range []string{"/etc", "/root", "/usr/local/bin", "/usr/local/sbin"} {
		if p[known] {
			list = append(list, known)
		}
	}
	return strings.Join(list, ", ")
}
