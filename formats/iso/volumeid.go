package iso

import (
	"errors"
	"fmt"
	"strings"

	"imgbuild/fault"
)

// maxVolumeID is the room for a volume identifier in the primary descriptor.
const maxVolumeID = 32

// VolumeID returns the volume identifier for an installer of the system that the
// fields of os-release describe, as image-builder chooses it: osinfo recognises
// media of Fedora, CentOS and RHEL by it. Arch is as `uname -m` spells it.
func VolumeID(osRelease map[string]string, arch string) string {
	version := osRelease["VERSION_ID"]
	id := ""
	switch osRelease["ID"] {
	case "fedora":
		id = fmt.Sprintf("Fedora-S-dvd-%s-%s", arch, version)
	case "centos":
		id = fmt.Sprintf("CentOS-Stream-%s-BaseOS-%s", version, arch)
	case "rhel":
		major, minor, _ := strings.Cut(version, ".")
		if minor == "" {
			minor = "0"
		}
		id = fmt.Sprintf("RHEL-%s-%s-BaseOS-%s", major, minor, arch)
	}
	if version == "" || CheckVolumeID(id) != nil {
		return "Container-Installer-" + arch
	}
	return id
}

// CheckVolumeID tells whether s can be a volume identifier: one to 32 letters,
// digits, underscores and hyphens. A blank, or what boot loaders and udev would
// have to escape, gives media that do not find themselves. The error is of class
// fault.Config.
func CheckVolumeID(s string) error {
	err := checkVolumeID(s)
	if err == nil {
		return nil
	}
	return fault.New(fault.Config, fmt.Errorf("volume id %.64q: %w", s, err), "letters, digits, _ and - are possible, 32 at most")
}

func checkVolumeID(s string) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case len(s) > maxVolumeID:
		return fmt.Errorf("it has %d characters, and %d are possible", len(s), maxVolumeID)
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return fmt.Errorf("%q is not possible in it", c)
		}
	}
	return nil
}
