package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const blueprint = `
[[customizations.user]]
name = "admin"
password = "plain text"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrxPYuZ4jDdgrjzJ4MkPAAUO8bTuoHdDQCtvaM1lFTF admin@example.com"
groups = ["operators"]

[[customizations.group]]
name = "operators"

[[customizations.directories]]
path = "/etc/example.d"
mode = "0750"

[[customizations.directories]]
path = "/etc/systemd/system"
ensure_parents = true

[[customizations.files]]
path = "/etc/example.d/local.conf"
uri = "local.conf"
user = "admin"

[[customizations.files]]
path = "/etc/systemd/system/example.service"
data = "[Service]\nExecStart=/usr/bin/true\n[Install]\nWantedBy=multi-user.target\n"

[customizations.services]
enabled = ["example"]

[customizations.kernel]
append = "example=\"a b\""
`

// The same config gives the same bytes; another one leaves the commit as it is and
// gives other identifiers; and what it asks for is on the disk.
func TestConfig(t *testing.T) {
	image := "oci:" + sample(t)
	cache := t.TempDir()
	work := t.TempDir()
	config, local := filepath.Join(work, "config.toml"), filepath.Join(work, "local.conf")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(local, "local = 1\n")
	write(config, strings.Replace(blueprint, `"local.conf"`, `"file://`+local+`"`, 1))
	type plan struct {
		Commit string
		Disk   struct{ ID string }
		Config struct{ Files, Applied, Warnings []string }
	}
	raw := func(args ...string) (string, plan) {
		t.Helper()
		dir, r := build(t, append([]string{"--type", "raw", "--size", "min", "--cache", cache, image}, args...)...)
		text, err := os.ReadFile(filepath.Join(dir, "manifest-raw.json"))
		if err != nil {
			t.Fatal(err)
		}
		var p plan
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatal(err)
		}
		if len(args) > 0 && !strings.Contains(r.stderr, "imgbuild: warning: "+config+":4:1: customizations.user[0].password: ") {
			t.Errorf("no warning of the plain password: %s", r.stderr)
		}
		if strings.Contains(r.stderr, "plain text") && strings.Contains(r.stderr, "plain text\"") {
			t.Errorf("the password itself is printed: %s", r.stderr)
		}
		return filepath.Join(dir, "image/disk.raw"), p
	}
	disk, with := raw("--config", config)
	again, _ := raw("--config", config)
	if sum(t, disk) != sum(t, again) {
		t.Error("two builds with one config differ")
	}
	_, without := raw()
	if with.Commit != without.Commit {
		t.Errorf("the config changes what the repository holds: %s, %s", with.Commit, without.Commit)
	}
	if with.Disk.ID == without.Disk.ID {
		t.Error("a config does not change the identifiers")
	}
	write(local, "local = 2\n")
	if _, changed := raw("--config", config); changed.Disk.ID == with.Disk.ID {
		t.Error("what a file of the config holds does not change the identifiers")
	}
	if got := strings.Join(with.Config.Applied, " "); got != "customizations.kernel customizations.user customizations.group customizations.services customizations.directories customizations.files" {
		t.Errorf("applied: %s", got)
	}

	root := partition(t, disk, 4)
	deployment := "/ostree/deploy/default/deploy/" + with.Commit + ".0"
	debugfs := func(request string) string {
		return check(t, "debugfs", "e2fsprogs", "-R", request, root)
	}
	for path, want := range map[string]string{
		deployment + "/etc/passwd":                                   "\nadmin:x:1000:100::/home/admin:/bin/sh\n",
		deployment + "/etc/group":                                    "\noperators:x:",
		deployment + "/etc/example.d/local.conf":                     "local = 1\n",
		"/ostree/deploy/default/var/home/admin/.ssh/authorized_keys": "ssh-ed25519 AAAA",
	} {
		if got := debugfs("cat " + path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	for path, want := range map[string]string{
		deployment + "/etc/example.d":                                              "Mode:  0750",
		deployment + "/etc/example.d/local.conf":                                   "User:  1000",
		deployment + "/etc/systemd/system/multi-user.target.wants/example.service": "symlink",
		deployment + "/usr/etc/passwd":                                             "Type: regular",
		"/ostree/deploy/default/var/home/admin":                                    "User:  1000",
	} {
		if got := debugfs("stat " + path); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if got := debugfs("cat " + deployment + "/usr/etc/passwd"); strings.Contains(got, "admin") {
		t.Error("the image's own /etc has changed")
	}
}

// What depends on the image is refused before anything is made, with its place.
func TestConfigOfAnotherImage(t *testing.T) {
	work := t.TempDir()
	config := filepath.Join(work, "config.json")
	text := `{"customizations": {
 "user": [{"name": "a", "groups": ["nowhere"]}, {"name": "b", "shell": "/no/shell"}],
 "services": {"enabled": ["nothing"]}}}`
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--output", "out"}, {"plan"}} {
		cmd := command(t, append(args, "--config", config, "--no-cache", "oci:"+sample(t))...)
		r := run(t, cmd)
		for _, want := range []string{"imgbuild: 3 problems in the configuration\n", config + ":2:36: customizations.user[0].groups[0]: ", config + ":2:63: customizations.user[1].shell: ", config + ":3:27: customizations.services.enabled[0]: "} {
			if r.code != 9 || !strings.Contains(r.stderr, want) {
				t.Errorf("%v: exit %d, no %q in\n%s", args, r.code, want, r.stderr)
			}
		}
		if left := files(t, cmd.Dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
