package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imgbuild/customize"
	"imgbuild/test/systems"
	"imgbuild/tree"
)

// nobody is the user that sshd runs as where the tests run as root.
const nobody = 65534

// effective returns what the real server makes of the configuration, for all
// connections.
func effective(t *testing.T, sys *customize.System) map[string]string {
	t.Helper()
	program, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatalf("%v: make tools fetches it", err)
	}
	// Include is below /etc/ssh whatever the file, so the paths are changed.
	dir, err := os.MkdirTemp("", "imgbuild-sshd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := tree.Walk(sys.Lookup("/etc/ssh"), func(p string, i *tree.Inode) error {
		at := filepath.Join(dir, p)
		if i.IsDir() {
			return os.MkdirAll(at, 0o755)
		}
		text, err := i.Content.ReadAll(maxConf)
		if err != nil {
			return err
		}
		changed := strings.ReplaceAll(string(text), "/etc/ssh/", dir+"/")
		changed = strings.ReplaceAll(changed, "include sshd_config.d", "include "+dir+"/sshd_config.d")
		return os.WriteFile(at, []byte(changed), 0o600)
	}); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "hostkey")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command(program, "-T", "-f", filepath.Join(dir, "sshd_config"), "-h", key, "-C", "user=nobody,host=h,addr=192.0.2.1")
	if os.Geteuid() == 0 {
		// For root it wants a user of its own.
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
			if err == nil {
				err = os.Chown(p, nobody, nobody)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[strings.ToLower(k)] = v
	}
	return found
}

func TestApply(t *testing.T) {
	all := Config{PasswordAuthentication: no(), ClientAliveInterval: seconds(42), PermitRootLogin: "forced-commands-only", KbdInteractiveAuthentication: no()}
	want := map[string]string{"passwordauthentication": "no", "clientaliveinterval": "42", "permitrootlogin": "forced-commands-only", "kbdinteractiveauthentication": "no"}
	for _, tc := range []struct {
		name   string
		files  map[string]string // below /etc/ssh
		dropIn bool
		main   string // what sshd_config becomes, "" where it stays
	}{
		{"Debian", map[string]string{"sshd_config": "# c\nInclude /etc/ssh/sshd_config.d/*.conf\n#Port 22\nUsePAM yes\n"}, true, ""},
		{"Fedora", map[string]string{"sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n", "sshd_config.d/50-redhat.conf": "PasswordAuthentication yes\nKbdInteractiveAuthentication yes\n"}, true, ""},
		{"relative", map[string]string{"sshd_config": "include sshd_config.d/[0-9]*.conf\nPermitRootLogin yes\n"}, true, ""},
		{"set before", map[string]string{"sshd_config": "PasswordAuthentication=yes\n ChallengeResponseAuthentication \"yes\" # c\nInclude /etc/ssh/sshd_config.d/*.conf\n"}, true,
			"PasswordAuthentication no\nKbdInteractiveAuthentication no\nInclude /etc/ssh/sshd_config.d/*.conf\n"},
		{"file before", map[string]string{"sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n", "sshd_config.d/00-a.conf": "PermitRootLogin yes\nPermitRootLogin no\n"}, true, ""},
		{"no include", map[string]string{"sshd_config": "Port 22\nPasswordAuthentication yes\nMatch User x\nPermitRootLogin yes\n"}, false,
			"Port 22\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nClientAliveInterval 42\nPermitRootLogin forced-commands-only\nMatch User x\nPermitRootLogin yes\n"},
		{"include in a block", map[string]string{"sshd_config": "Match User x\nInclude /etc/ssh/sshd_config.d/*.conf\n"}, false,
			"PasswordAuthentication no\nKbdInteractiveAuthentication no\nClientAliveInterval 42\nPermitRootLogin forced-commands-only\nMatch User x\nInclude /etc/ssh/sshd_config.d/*.conf\n"},
		{"empty", map[string]string{"sshd_config": "Port 22"}, false, "Port 22\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nClientAliveInterval 42\nPermitRootLogin forced-commands-only\n"},
		{"set already", map[string]string{"sshd_config": "PasswordAuthentication no\nKbdInteractiveAuthentication no\nClientAliveInterval 42\nPermitRootLogin forced-commands-only\n"}, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := map[string]string{"usr/sbin/sshd": "x", "etc/ssh/sshd_config.d/x": ""}
			for p, text := range tc.files {
				files["etc/ssh/"+p] = text
			}
			sys := systems.System(t, files)
			if _, err := Apply(sys, all); err != nil {
				t.Fatal(err)
			}
			if tc.main == "" {
				tc.main = tc.files["sshd_config"]
			}
			if got := systems.Text(t, sys, "etc/ssh/sshd_config"); got != tc.main {
				t.Errorf("%q, want %q", got, tc.main)
			}
			if got := systems.Text(t, sys, dropIn); (got != "") != tc.dropIn {
				t.Errorf("drop-in %q", got)
			}
			got := effective(t, sys)
			for k, v := range want {
				if got[k] != v {
					t.Errorf("sshd -T: %s %s, want %s", k, got[k], v)
				}
			}
		})
	}
}
