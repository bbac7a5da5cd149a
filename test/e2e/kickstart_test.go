package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a file and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// fromISO returns a file of an ISO.
func fromISO(t *testing.T, iso, path string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "file")
	check(t, "xorriso", "xorriso", "-osirrox", "on", "-indev", iso, "-extract", path, out)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What is wrong with a kickstart is said when the medium is made, with its lines.
func TestKickstartRefused(t *testing.T) {
	image := "oci:" + sample(t)
	good := write(t, "good.ks", "user --name=admin --lock\nautopart --type=plain --fstype=xfs\n")
	part := write(t, "part.ks", "part / --grow\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"syntax", []string{"--type", "iso", "--kickstart", write(t, "bad.ks", "\nfrob\nuser --name\n")}, 9,
			[]string{"2 problems in the kickstart", `line 2: no command "frob"`, "line 3: user --name: needs a value"}},
		{"unsupported", []string{"--type", "iso", "--kickstart", write(t, "bad.ks", "%include /tmp/x\nautopart --encrypted\n%packages\n@core\n%end\n")}, 6,
			[]string{"line 1: %include: not applied:", "line 2: autopart --encrypted: not applied: imgbuild writes no LUKS", "line 3: %packages: not applied:"}},
		{"no image", []string{"--type", "iso", "--kickstart", "/nonexistent"}, 2, []string{"--kickstart: open /nonexistent"}},
		{"empty", []string{"--type", "iso", "--kickstart", write(t, "bad.ks", " \n")}, 9, []string{"bad.ks: empty"}},
		{"large", []string{"--type", "iso", "--kickstart", write(t, "bad.ks", "lang en_US\n"+strings.Repeat("# a comment\n", 30000))}, 9, []string{"are reserved for them"}},
		{"of a disk", []string{"--type", "raw", "--kickstart", good}, 2, []string{"--kickstart: is about type iso"}},
		{"beside a disk", []string{"--type", "raw", "--type", "iso", "--kickstart", good}, 2, []string{"make them in two runs"}},
		{"twice", []string{"--type", "iso", "--kickstart", good, "--config", write(t, "c.toml", "customizations.installer.kickstart.contents = 'lang C'\n")}, 9,
			[]string{"c.toml:1:36: customizations.installer.kickstart.contents: there is --kickstart"}},
		{"what the image lacks", []string{"--type", "iso", "--kickstart", write(t, "bad.ks", "user --name=a --groups=nogroups\nservices --enabled=none\n")}, 9,
			[]string{`bad.ks:1: customizations.user[0].groups[0]: "nogroups": no such group`, "bad.ks:2: customizations.services.enabled[0]: "}},
		{"root file system", []string{"--type", "iso", "--kickstart", good, "--rootfs", "btrfs"}, 9, []string{"autopart asks for xfs, and the root file system is to be btrfs"}},
		{"layout", []string{"--type", "iso", "--kickstart", part, "--config", write(t, "c.toml", "[[customizations.filesystem]]\nmountpoint='/'\nminsize='5 GiB'\n")}, 9,
			[]string{"lines part, and the configuration has"}},
		{"hostname", []string{"--type", "iso", "--kickstart", write(t, "host.ks", "network --hostname=a\n"), "--config", write(t, "c.toml", "[customizations]\nhostname = 'b'\n")}, 9,
			[]string{"host.ks:1: customizations.hostname: is set in", "c.toml:2:1 as well (say it in one place)"}},
		{"user", []string{"--type", "iso", "--kickstart", good, "--config", write(t, "c.toml", "[[customizations.user]]\nname = 'admin'\n")}, 9,
			[]string{"good.ks:1: customizations.user[1].name: the same name as user 1"}},
		{"modules", []string{"--type", "iso", "--config", write(t, "c.toml", "customizations.installer.modules.enable = ['x']\n")}, 6, []string{"these are modules of Anaconda"}},
		{"sudoers", []string{"--type", "iso", "--config", write(t, "c.toml", "customizations.installer.sudo-nopasswd = ['a b']\n")}, 9, []string{"neither a user nor a %group"}},
		{"no sudo", []string{"--type", "iso", "--config", write(t, "c.toml", "customizations.installer.sudo-nopasswd = ['%sudo']\n")}, 9, []string{"there is no directory /etc/sudoers.d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			r := run(t, command(t, append(c.args, "--no-cache", "--output", out, image)...))
			for _, want := range c.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("no %q in\n%s", want, r.stderr)
				}
			}
			if r.code != c.code {
				t.Errorf("exit %d, want %d\n%s", r.code, c.code, r.stderr)
			}
			if left := files(t, out); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// A sound kickstart is in the settings of the medium.
func TestKickstartOnMedium(t *testing.T) {
	config := write(t, "c.toml", `
[customizations.installer.kickstart]
contents = """
user --name=admin --groups=sudo --lock
part /boot --size=1024 --fstype=ext4
part / --size=4096 --grow --fstype=xfs
%post
touch /etc/installed
%end
reboot
"""
`)
	dir, _ := build(t, "--type", "iso", "--no-cache", "--config", config, "oci:"+sample(t))
	iso := filepath.Join(dir, "bootiso/install.iso")
	if got := fromISO(t, iso, "/images/imgbuild.conf"); !strings.Contains(got, `part / --size=4096 --grow --fstype=xfs\n%post\ntouch /etc/installed\n%end\nreboot\n`) {
		t.Errorf("settings: %.2000s", strings.TrimRight(got, "\x00"))
	}
}
