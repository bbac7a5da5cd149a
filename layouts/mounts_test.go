package layouts

import (
	"os/exec"
	"strings"
	"testing"
)

// Names of units are those of systemd-escape.
func TestEscapePath(t *testing.T) {
	tool, err := exec.LookPath("systemd-escape")
	if err != nil {
		t.Fatal("needs systemd-escape (Debian package systemd)")
	}
	for _, p := range []string{"/", "/var", "/var/lib/a-b", "/.hidden", "/var/.hidden", "/a b", `/back\slash`, "/ü", "/x:y_z.w", "/%n",
		"/dev/disk/by-uuid/7B77-95E7"} {
		out, err := exec.Command(tool, "--path", "--", p).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := EscapePath(p), strings.TrimSpace(string(out)); got != want {
			t.Errorf("%q: %q, want %q", p, got, want)
		}
	}
}
