// Package dnf sets variables of DNF, dnf.conf(5).
package dnf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "dnf.config".
type Config struct {
	// SetReleaseVer fixes the variable releasever to the image's version.
	SetReleaseVer bool
}

const field = "dnf.config.set_releasever"

// Validate returns everything that is wrong whatever the image: nothing.
func Validate(Config) customize.Problems { return nil }

// Apply writes /etc/dnf/vars/releasever. The error is customize.Problems where the
// configuration and the image do not fit; the system is to be given up after any
// error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if !c.SetReleaseVer {
		return nil, nil
	}
	if sys.Lookup("/etc/dnf") == nil && sys.Lookup("/usr/bin/dnf") == nil {
		return nil, customize.Problems{{Field: field, Err: fault.New(fault.Unsupported, errors.New("there is no DNF in the image"), "")}}
	}
	version, err := versionID(sys)
	if err != nil {
		return nil, customize.Problems{{Field: field, Err: fault.New(fault.BadImage, err, "")}}
	}
	return nil, sys.WriteFile("/etc/dnf/vars/releasever", 0o644, []byte(version+"\n"))
}

// versionID returns VERSION_ID of os-release.
func versionID(sys *customize.System) (string, error) {
	for _, p := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if sys.Lookup(p) == nil {
			continue
		}
		text, err := sys.ReadFile(p, 1<<20)
		if err != nil {
			return "", err
		}
		for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
			if v, ok := strings.CutPrefix(s.Text(), "VERSION_ID="); ok {
				if v = strings.Trim(v, `"'`); v != "" && !strings.ContainsAny(v, " /\t") {
					return v, nil
				}
			}
		}
		return "", fmt.Errorf("%s has no VERSION_ID", p)
	}
	return "", errors.New("there is no os-release in the image")
}
