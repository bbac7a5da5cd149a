package hostname

import (
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

func TestFirstboot(t *testing.T) {
	for _, name := range []string{"box", "Box-1.example.com", strings.Repeat("x", 64), "a.b", "1", "localhost",
		"", "-a", "a-", "a..b", ".a", "a.", "a_b", "ä", "a b", "a\nb", "a.-b", strings.Repeat("x", 65)} {
		want, ok := systems.Run(t, "--hostname="+name, "etc/hostname")
		sys := systems.System(t, nil)
		_, err := Apply(sys, name)
		if (err == nil) != ok || err == nil && systems.Text(t, sys, "etc/hostname") != want {
			t.Errorf("%q: %v, %q; systemd-firstboot: %v, %q", name, err, systems.Text(t, sys, "etc/hostname"), ok, want)
		}
		if err != nil && fault.ClassOf(err) != fault.Usage {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What is there is replaced, not followed.
func TestLink(t *testing.T) {
	sys := systems.System(t, map[string]string{"etc/hostname": "-> other", "etc/other": "x"})
	if _, err := Apply(sys, "new"); err != nil {
		t.Fatal(err)
	}
	if systems.Text(t, sys, "etc/hostname") != "new\n" || systems.Text(t, sys, "etc/other") != "x" {
		t.Error("the link was followed")
	}
}
