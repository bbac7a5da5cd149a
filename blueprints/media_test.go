package blueprints

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/document"
	"imgbuild/fault"
)

const mediaConfig = `
[[customizations.user]]
name = "admin"
[customizations.installer]
unattended = true
sudo-nopasswd = ["admin", "%wheel.x"]
[customizations.installer.modules]
enable = ["org.example.Module"]
[customizations.installer.kickstart]
contents = "autopart"
[[customizations.directories]]
path = "/etc/x"
`

// What is applied and what is refused depends on the medium.
func TestMedia(t *testing.T) {
	for _, c := range []struct {
		media Media
		want  []string
	}{
		{"", []string{"c.toml:4:17: customizations.installer: not applied: is for installation media"}},
		{OwnInstaller, []string{"c.toml:7:27: customizations.installer.modules: not applied: these are modules of Anaconda"}},
		{Anaconda, []string{
			"customizations.directories: not applied: Anaconda writes the disk",
			"customizations.user: excludes installer.kickstart.contents, which Anaconda takes as it is (write a line user)",
			"customizations.installer.unattended: excludes installer.kickstart.contents, which Anaconda takes as it is (write lines clearpart, autopart and reboot)",
			"customizations.installer.sudo-nopasswd: excludes installer.kickstart.contents, which Anaconda takes as it is (write a %post)",
		}},
	} {
		_, err := Load([]Source{{"c.toml", []byte(mediaConfig)}}, Options{Media: c.media})
		text := err.Error() + "\n" + strings.Join(fault.DetailsOf(err), "\n")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%q: no %q in\n%s", c.media, want, text)
			}
		}
		if n := strings.Count(text, "customizations."); n != len(c.want) {
			t.Errorf("%q: %d problems, want %d:\n%s", c.media, n, len(c.want), text)
		}
	}
}

func TestSudoersFiles(t *testing.T) {
	c, err := Load([]Source{{"c.toml", []byte("customizations.installer.sudo-nopasswd = ['admin', '%wheel.x']\n")}}, Options{Media: OwnInstaller})
	if err != nil {
		t.Fatal(err)
	}
	want := []File{
		{Path: "/etc/sudoers.d/admin", Mode: "0440", Data: "admin\tALL=(ALL)\tNOPASSWD: ALL\n"},
		{Path: "/etc/sudoers.d/%wheel_x", Mode: "0440", Data: "%wheel.x\tALL=(ALL)\tNOPASSWD: ALL\n"},
	}
	if d := cmp.Diff(want, c.Blueprint.Customizations.Files); d != "" {
		t.Error(d)
	}
}

// With adds lists up, with the places of both, and leaves what it is called on.
func TestWith(t *testing.T) {
	c, err := Load([]Source{{"c.toml", []byte(`
[customizations]
kernel.append = "a=b"
[[customizations.user]]
name = "x"
[customizations.services]
enabled = ["sshd"]
`)}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	host := "h"
	own := Customizations{
		Hostname: &host, Kernel: &Kernel{Append: "c"}, User: []User{{Name: "y"}, {Name: "bad name"}},
		Services: &Services{Enabled: []string{"cups"}, Disabled: []string{"x"}},
	}
	places := document.Places{"": {File: "ks"}, "customizations.user[1]": {File: "ks", Line: 7}}
	if _, err = c.With("ks", own, places); err == nil || !strings.HasPrefix(err.Error(), "ks:7: customizations.user[2].name: ") {
		t.Fatal(err)
	}
	own.User = own.User[:1]
	d, err := c.With("ks", own, places)
	if err != nil {
		t.Fatal(err)
	}
	b := d.Blueprint.Customizations
	if *b.Hostname != "h" || b.Kernel.Append != "a=b c" || len(b.User) != 2 || len(b.Services.Enabled) != 2 || len(b.Services.Disabled) != 1 {
		t.Errorf("%+v", b)
	}
	if b := c.Blueprint.Customizations; b.Hostname != nil || b.Kernel.Append != "a=b" || len(b.User) != 1 || len(b.Services.Enabled) != 1 {
		t.Errorf("the original has changed: %+v", b)
	}
	if _, err := d.With("again", own, document.Places{"": {File: "again"}}); err == nil || !strings.Contains(err.Error(), "again: customizations.hostname: is set in ks as well") {
		t.Error(err)
	}
	if d, err = (*Config)(nil).With("ks", own, places); err != nil || len(d.Blueprint.Customizations.User) != 1 {
		t.Error(err)
	}
}
