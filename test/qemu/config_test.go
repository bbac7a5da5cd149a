package qemu

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"imgbuild/test/image"
)

// The password of the user who logs in on the console, and of one whose password is
// given as a hash, by `openssl passwd -6 -salt saltsalt`.
const (
	plainPassword  = "correct horse battery"
	hashedPassword = "staple"
	passwordHash   = "$6$saltsalt$d2mLGRU0VjSxPyEwqEGrv8pTd9345HIvopwFXKO8OaUr.VF3Q11jA9.jPy8NWemge45JJp99UK5qiw4jJc41u/"
)

// fullBlueprint has every key that is applied. Its arguments are a public key, a
// local file and a certificate.
const fullBlueprint = `
name = "everything"
version = "1.0.0"
distro = "debian-14"
architecture = "x86_64"

[customizations]
hostname = "customized.example.com"
partitioning_mode = "raw"
fips = true

[customizations.kernel]
append = "sample=\"a b\" audit=0 systemd.default_timeout_start_sec=15min"

[[customizations.sshkey]]
user = "root"
key = %[1]q

[[customizations.user]]
name = "admin"
description = "The Administrator"
password = "` + plainPassword + `"
key = %[1]q
shell = "/bin/bash"
groups = ["sudo", "operators"]
uid = 1500
gid = 1600

[[customizations.user]]
name = "hashed"
password = "` + passwordHash + `"
home = "/var/home/elsewhere"
shell = "/bin/sh"
expiredate = 30000

[[customizations.user]]
name = "fresh"
password = "` + plainPassword + `"
force_password_reset = true

[[customizations.group]]
name = "operators"
gid = 1600

[customizations.timezone]
timezone = "Europe/Berlin"
ntpservers = ["10.0.2.2", "ntp.example.com"]

[customizations.locale]
languages = ["C.UTF-8"]
keyboard = "de"

[customizations.firewall]
ports = ["8080:tcp", "imap:tcp"]
services.enabled = ["https"]
services.disabled = ["dhcpv6-client"]
zones = [{ name = "internal", sources = ["192.0.2.0/24"] }]

[customizations.cacerts]
pem_certs = ["""
%[3]s"""]

[customizations.sshd]
password_authentication = true
client_alive_interval = 77
permit_root_login = "prohibit-password"
kbd_interactive_authentication = false

[customizations.ignition.firstboot]
url = "https://example.com/config.ign"

[customizations.bootloader.grub2]
terminal_input = ["console", "serial"]
terminal_output = ["console", "serial"]
serial = "serial --unit=0 --speed=115200"

[customizations.dnf]
config.set_releasever = true

[[customizations.firstboot.scripts]]
type = "custom"
name = "once"
contents = "echo once >>/var/lib/once"

[[customizations.firstboot.scripts]]
type = "custom"
ignore_failure = true
after = ["example.service"]
contents = "#!/bin/bash\nfalse\n"

[customizations.services]
enabled = ["example", "firewalld", "systemd-timesyncd"]
disabled = ["fstrim.timer"]
masked = ["ctrl-alt-del.target"]

[[customizations.directories]]
path = "/etc/example.d/deep"
user = "admin"
group = "operators"
mode = "0750"
ensure_parents = true

[[customizations.files]]
path = "/etc/example.d/deep/local.conf"
user = 1500
group = "operators"
mode = "0640"
uri = "file://%[2]s"

[[customizations.files]]
path = "/etc/example.d/authority.pem"
data = """
%[3]s"""

[[customizations.files]]
path = "/usr/local/bin/example"
mode = "755"
data = "#!/bin/sh\necho example\n"

[[customizations.files]]
path = "/etc/systemd/system/example.service"
data = """
[Unit]
Description=Example
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/example
[Install]
WantedBy=multi-user.target
"""
`

// checks are commands that root runs in the booted system, and what they print, as
// a regular expression.
var checks = [][2]string{
	{"hostname", `customized\.example\.com`},
	{"cat /proc/cmdline", `.* (?:sample="a b"|"sample=a b") audit=0 .*`},
	{"id admin", `uid=1500\(admin\) gid=1600\(operators\) groups=1600\(operators\),27\(sudo\)`},
	{"getent passwd admin", `admin:x:1500:1600:The Administrator:/home/admin:/bin/bash`},
	{"getent passwd hashed", `hashed:x:\d+:\d+::/var/home/elsewhere:/bin/sh`},
	{"getent shadow hashed", `hashed:\$6\$saltsalt\$[^:]+:\d+:\d*:99999:7::30000:`},
	{"getent shadow fresh", `fresh:\$y\$[^:]+:0:\d*:99999:7:::`},
	{"grep -c : /etc/subuid", `3`},
	{"stat -c '%U:%G %a' /var/home/admin /var/home/admin/.ssh /var/home/admin/.ssh/authorized_keys", `admin:operators 7\d\d\nadmin:operators 700\nadmin:operators 600`},
	{"test -e /var/home/admin/.bashrc && echo skel", `skel`},
	{"stat -c '%U:%G %a' /root/.ssh /root/.ssh/authorized_keys", `root:root 700\nroot:root 600`},
	{"stat -c '%U:%G %a' /etc/example.d /etc/example.d/deep /etc/example.d/deep/local.conf", `root:root 755\nadmin:operators 750\nadmin:operators 640`},
	{"cat /etc/example.d/deep/local.conf", `local = 1`},
	{"/usr/local/bin/example", `example`},
	{"timedatectl show -p Timezone --value; date +%Z", `Europe/Berlin\nCES?T`},
	{"timedatectl show-timesync -p SystemNTPServers --value", `10\.0\.2\.2 ntp\.example\.com`},
	{"localectl --no-pager", `(?s) *System Locale: LANG=C\.UTF-8\n *VC Keymap: de\n *X11 Layout: de\n.*`},
	{"firewall-cmd --list-ports; firewall-cmd --list-services; firewall-cmd --zone=internal --list-sources", `143/tcp 8080/tcp\nhttps ssh\n192\.0\.2\.0/24`},
	{"openssl x509 -in /etc/example.d/authority.pem >/dev/null && openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt /etc/example.d/authority.pem", `/etc/example\.d/authority\.pem: OK`},
	{"openssl verify -CApath /etc/ssl/certs /etc/example.d/authority.pem", `/etc/example\.d/authority\.pem: OK`},
	{"sshd -T | tr A-Z a-z | grep -E '^(passwordauthentication|clientaliveinterval|permitrootlogin|kbdinteractiveauthentication) ' | sort",
		`clientaliveinterval 77\nkbdinteractiveauthentication no\npasswordauthentication yes\npermitrootlogin (?:prohibit-password|without-password)`},
	{"cat /boot/ignition.firstboot", `set ignition_network_kcmdline=.*ignition\.config\.url=https://example\.com/config\.ign.*`},
	{"cat /boot/grub2/console.cfg", `serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial`},
	{"cat /etc/dnf/vars/releasever", `14`},
	{"cat /etc/system-fips; grep -o fips=1 /proc/cmdline", `# FIPS module installation complete\nfips=1`},
	{"cat /var/lib/once", `once`},
	{"systemctl is-enabled example fstrim.timer ctrl-alt-del.target", `enabled\ndisabled\nmasked`},
	{"systemctl is-active example fstrim.timer", `active\ninactive`},
	{"systemctl --failed --no-legend --plain", ``},
	{"systemctl is-system-running", `running`},
}

// TestConfig boots an image with everything that a config file can ask for, and
// again after the real ostree deployed another commit: what was asked for is there,
// users can log in, and the upgrade kept it.
func TestConfig(t *testing.T) {
	fixtures := os.Getenv("IMGBUILD_FIXTURES")
	if fixtures == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	signer, public := newKey(t)
	authority := newCertificate(t)
	work := t.TempDir()
	local := filepath.Join(work, "local.conf")
	config := filepath.Join(work, "config.toml")
	for name, text := range map[string]string{local: "local = 1\n", config: fmt.Sprintf(fullBlueprint, public, local, authority)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disks := built(t, withPrograms(t, filepath.Join(fixtures, "full"), filepath.Join(work, "image")),
		"--type", "qcow2", "--qcow2-compression", "none", "--config", config)
	disk := filepath.Join(disks, "qcow2/disk.qcow2")

	m, first := start(ctx, t, disk)
	root := dial(ctx, t, m, "root", signer)
	inspect(t, root)
	logIn(ctx, t, m)
	admin := dial(ctx, t, m, "admin", signer)
	if out, err := remote(admin, "echo '"+plainPassword+"' | sudo -S -p '' id -un"); err != nil || out != "root" {
		t.Errorf("sudo of a member of group sudo: %q, %v", out, err)
	}
	if _, err := connect(m.SSH, clientConfig("admin", ssh.Password("wrong"))); err == nil {
		t.Error("a wrong password logs in")
	}

	// An upgrade: another commit, deployed by the system's own ostree.
	for _, c := range []string{
		"mkdir -p /var/tmp/over/usr/share && echo second >/var/tmp/over/usr/share/second",
		"ostree commit --branch=second --tree=ref=ostree/1/1/0 --tree=dir=/var/tmp/over",
		"ostree admin deploy --os=default second",
	} {
		if out, err := remote(root, c); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	_, _ = remote(root, "systemctl reboot")
	if err := m.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	m.Stop()

	m, second := start(ctx, t, disk)
	root = dial(ctx, t, m, "root", signer)
	if out, err := remote(root, "cat /usr/share/second"); err != nil || out != "second" || first == second {
		t.Errorf("the second commit is not what is booted: %q, %v; deployments %s and %s", out, err, first, second)
	}
	inspect(t, root)
	if err := dial(ctx, t, m, "admin", signer).Close(); err != nil {
		t.Error(err)
	}
}

// newKey returns a new key of a client, and its line of authorized_keys.
func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " test@example.com"
}

// newCertificate returns the certificate of a new authority, in PEM.
func newCertificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(240 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// withPrograms returns the layout of an image that has on top of another what some
// settings need: firewalld and systemd-timesyncd, a keymap, a version, the marks of
// DNF, Ignition and dracut's module fips, and a GRUB that reads console.cfg.
func withPrograms(t *testing.T, from, to string) string {
	t.Helper()
	wrapper, err := exec.LookPath("firewall-offline-cmd")
	if err != nil {
		t.Fatalf("%v: make tools", err)
	}
	root := filepath.Join(filepath.Dir(wrapper), "../root")
	const lib = "usr/lib/x86_64-linux-gnu/"
	files, err := image.Tree(root,
		"usr/sbin/firewalld", "usr/bin/firewall-cmd", "usr/lib/firewalld", "etc/firewalld", "usr/lib/systemd/system/firewalld.service",
		"usr/share/dbus-1/system.d/FirewallD.conf", "usr/lib/python3/dist-packages",
		lib+"libnftables.so.*", lib+"libnftnl.so.*", lib+"libmnl.so.*", lib+"libxtables.so.*", lib+"libjansson.so.*", lib+"libedit.so.*", lib+"libbsd.so.*",
		lib+"libgirepository-2.0.so.*", lib+"girepository-1.0", lib+"libglib-2.0.so.*", lib+"libgio-2.0.so.*", lib+"libgobject-2.0.so.*",
		lib+"libgmodule-2.0.so.*", lib+"libffi.so.*", lib+"libcap-ng.so.*",
		"usr/lib/systemd/systemd-timesyncd", "usr/lib/systemd/system/systemd-timesyncd.service", "usr/lib/sysusers.d/systemd-timesync.conf",
		"usr/share/dbus-1/system.d/org.freedesktop.timesync1.conf", "usr/lib/systemd/ntp-units.d",
	)
	if err != nil {
		t.Fatal(err)
	}
	read := func(pattern string) (string, []byte) {
		name, data, err := image.ReadFile(from, pattern)
		if err != nil {
			t.Fatal(err)
		}
		return name, data
	}
	text := func(name, data string) {
		files = append(files, image.File{Name: name, Mode: 0o644, Data: []byte(data)})
	}
	dir := func(name string) { files = append(files, image.File{Name: name, Mode: 0o755, Dir: true}) }
	dir("usr/share/keymaps")
	text("usr/share/keymaps/de.map", "keymaps 0-127\nkeycode 21 = z\nkeycode 44 = y\n")
	dir("etc/dnf")
	dir("usr/lib/dracut/modules.d/30ignition")
	release, old := read("usr/lib/os-release")
	text(release, string(old)+"VERSION_ID=\"14\"\n")
	// As bootupd's and Fedora CoreOS' static configurations have it.
	text("usr/lib/bootupd/grub2-static/configs.d/05_test.cfg", `if [ -f $prefix/console.cfg ]; then
  source $prefix/console.cfg
fi
if [ -f /ignition.firstboot ]; then
  source /ignition.firstboot
fi
`)
	initramfs, content := read("usr/lib/modules/*/initramfs.img")
	text(initramfs, cpioFile("usr/lib/dracut/modules.txt", "fips\n")+string(content))
	if err := image.Derive(from, to, files); err != nil {
		t.Fatal(err)
	}
	return to
}

// cpioFile returns an archive of one file and its directories as the kernel unpacks it,
// padded so that another may follow.
func cpioFile(name, data string) string {
	var b strings.Builder
	entry := func(mode int, name, data string) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		for _, part := range []string{name + "\x00", data} {
			b.WriteString(part)
			for b.Len()%4 != 0 {
				b.WriteByte(0)
			}
		}
	}
	for i, c := range name {
		if c == '/' {
			entry(0o040755, name[:i], "")
		}
	}
	entry(0o100644, name, data)
	entry(0, "TRAILER!!!", "")
	return b.String() + strings.Repeat("\x00", (512-b.Len()%512)%512)
}

// start boots a disk until its marker, which must be well, and returns the machine
// and its deployment.
func start(ctx context.Context, t *testing.T, disk string) (*Machine, string) {
	t.Helper()
	for restarts := 0; ; restarts++ {
		m, err := Start(ctx, disk, Options{Firmware: UEFI, Memory: 2048, SSH: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Stop)
		m.patience = 3 * time.Minute // a kernel may be quiet
		begin := time.Now()
		_, err = m.Expect(ctx, regexp.MustCompile(`(?m)^FIXTURE-BOOT-OK .*\n`))
		if errors.Is(err, ErrHung) && restarts < maxRestarts {
			m.Stop()
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		marker, ok, err := FindMarker(m.Log())
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if err := marker.Check(UEFI); err != nil {
			t.Errorf("%v\n%s\n%s", err, marker.Line, strings.Join(marker.Notes, "\n"))
		}
		t.Logf("%.1f s, %s", time.Since(begin).Seconds(), marker.Line)
		return m, marker.Deployment
	}
}

func clientConfig(user string, auth ssh.AuthMethod) *ssh.ClientConfig {
	return &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{auth}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: time.Minute}
}

// connect logs in, or fails when a machine takes the connection and says nothing.
func connect(address string, config *ssh.ClientConfig) (*ssh.Client, error) {
	conn, err := net.DialTimeout("tcp", address, config.Timeout)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Minute))
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}

// dial logs in by key.
func dial(ctx context.Context, t *testing.T, m *Machine, user string, key ssh.Signer) *ssh.Client {
	t.Helper()
	for {
		c, err := connect(m.SSH, clientConfig(user, ssh.PublicKeys(key)))
		if err == nil {
			t.Cleanup(func() { c.Close() })
			context.AfterFunc(ctx, func() { c.Close() }) // what waits for the machine ends then
			return c
		}
		if ctx.Err() != nil || strings.Contains(err.Error(), "unable to authenticate") {
			t.Fatalf("login of %s: %v\n%s", user, err, tail(m.Log()))
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// remote runs a command in the system and returns what it prints, without the last newline.
func remote(c *ssh.Client, line string) (string, error) {
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	var stderr bytes.Buffer
	s.Stderr = &stderr
	out, err := s.Output(line)
	text := strings.TrimRight(string(out), "\n")
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return text, err
}

// inspect runs the checks, all in one session: the machine is slow.
func inspect(t *testing.T, root *ssh.Client) {
	t.Helper()
	const end = "\x1e"
	var script strings.Builder
	script.WriteString("export SYSTEMD_BUS_TIMEOUT=600\n") // of 25 seconds, which a service may take to start
	for _, c := range checks {
		fmt.Fprintf(&script, "( %s\n) 2>&1; printf '\\036'\n", c[0])
	}
	out, err := remote(root, script.String())
	if err != nil {
		t.Error(err)
	}
	parts := strings.Split(out, end)
	if len(parts) != len(checks)+1 {
		t.Fatalf("%d answers of %d: %q", len(parts)-1, len(checks), out)
	}
	for i, c := range checks {
		if got := strings.TrimRight(parts[i], "\n"); !regexp.MustCompile(`^(?:` + c[1] + `)$`).MatchString(got) {
			t.Errorf("%s: %s, want %s", c[0], strconv.Quote(got), c[1])
		}
	}
}

// logIn logs in by passwords on the console.
func logIn(ctx context.Context, t *testing.T, m *Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	for _, user := range [][2]string{{"admin", plainPassword}, {"hashed", hashedPassword}} {
		for _, step := range []struct{ expect, send string }{
			{"", "\n"}, {`login: `, user[0] + "\n"}, {`Password: `, user[1] + "\n"}, {`[$#] `, "echo I am $(id -un).\n"}, {"I am " + user[0] + `\.`, "exit\n"},
		} {
			if step.expect != "" {
				if _, err := m.Expect(ctx, regexp.MustCompile(step.expect)); err != nil {
					t.Errorf("%s on the console: %v", user[0], err)
					return
				}
			}
			if err := m.Send(step.send); err != nil {
				t.Fatal(err)
			}
		}
	}
}
