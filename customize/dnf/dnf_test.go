package dnf

import (
	"testing"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

func TestApply(t *testing.T) {
	for _, tc := range []struct {
		files map[string]string
		want  string
		class fault.Class
	}{
		{map[string]string{"etc/dnf/dnf.conf": "", "usr/lib/os-release": "ID=centos\nVERSION_ID=\"10\"\n"}, "10\n", 0},
		{map[string]string{"usr/bin/dnf": "", "etc/os-release": "-> ../usr/lib/os-release", "usr/lib/os-release": "VERSION_ID=42"}, "42\n", 0},
		{map[string]string{"usr/lib/os-release": "VERSION_ID=42"}, "", fault.Unsupported},
		{map[string]string{"usr/bin/dnf": "", "usr/lib/os-release": "ID=x\n"}, "", fault.BadImage},
		{map[string]string{"usr/bin/dnf": ""}, "", fault.BadImage},
	} {
		sys := systems.System(t, tc.files)
		_, err := Apply(sys, Config{SetReleaseVer: true})
		if err == nil && tc.class != 0 || err != nil && fault.ClassOf(err) != tc.class || systems.Text(t, sys, "etc/dnf/vars/releasever") != tc.want {
			t.Errorf("%v: %v, %q", tc.files, err, systems.Text(t, sys, "etc/dnf/vars/releasever"))
		}
		if _, err := Apply(sys, Config{}); err != nil {
			t.Error(err)
		}
	}
}
