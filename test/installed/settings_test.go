//go:build linux

package installed

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"imgbuild/customize"
	"imgbuild/customize/certs"
	"imgbuild/customize/clock"
	"imgbuild/customize/files"
	"imgbuild/customize/hostname"
	"imgbuild/customize/locale"
	"imgbuild/customize/sshd"
	"imgbuild/customize/units"
	"imgbuild/fault"
	"imgbuild/tree"
)

// settings is the full fixture as a directory to run its own tools in, and as the
// tree that imgbuild changes.
type settings struct {
	image    *tree.Inode
	root     string // to chroot to
	pristine string // its etc and var
}

func newSettings(t *testing.T) *settings {
	t.Helper()
	needRoot(t)
	fixtures := os.Getenv("IMGBUILD_FIXTURES")
	if fixtures == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	s := &settings{image: flattened(t, filepath.Join(fixtures, "full")), root: t.TempDir()}
	materialise(t, s.image, s.root)
	s.pristine = filepath.Join(t.TempDir(), "pristine")
	run(t, "mkdir", s.pristine)
	run(t, "cp", "-a", filepath.Join(s.root, "usr/etc"), filepath.Join(s.pristine, "etc"))
	run(t, "cp", "-a", filepath.Join(s.root, "var"), s.pristine)
	if err := os.WriteFile(filepath.Join(s.root, "dev/null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh puts etc and var back and returns the system with them.
func (s *settings) fresh(t *testing.T) *customize.System {
	t.Helper()
	run(t, "rm", "-rf", filepath.Join(s.root, "etc"), filepath.Join(s.root, "var"))
	run(t, "cp", "-a", filepath.Join(s.pristine, "etc"), filepath.Join(s.pristine, "var"), s.root)
	return customize.New(s.image, read(t, filepath.Join(s.root, "etc")), read(t, filepath.Join(s.root, "var")), accountsTime, accountsSeed)
}

// same reports where etc and var on disk differ from those of the system.
func (s *settings) same(t *testing.T, sys *customize.System) {
	t.Helper()
	differences(t, "etc", read(t, filepath.Join(s.root, "etc")), sys.Root().Child("etc"))
	differences(t, "var", read(t, filepath.Join(s.root, "var")), sys.Root().Child("var"))
}

// write writes files of the system to the disk.
func (s *settings) write(t *testing.T, sys *customize.System, dir string) {
	t.Helper()
	at := sys.Lookup(dir)
	if at == nil {
		t.Fatalf("no %s", dir)
	}
	if err := tree.Walk(at, func(p string, i *tree.Inode) error {
		p = filepath.Join(s.root, dir, p)
		if i.IsDir() {
			return os.MkdirAll(p, 0o755)
		}
		text, err := i.Content.ReadAll(1 << 24)
		if err != nil {
			return err
		}
		if err := os.WriteFile(p, text, 0o644); err != nil {
			return err
		}
		return os.Chmod(p, os.FileMode(i.Perm()))
	}); err != nil {
		t.Fatal(err)
	}
}

// unitNames lists the units of the image, and instances of its templates.
func unitNames(t *testing.T, image *tree.Inode) (names []string) {
	t.Helper()
	for _, dir := range []string{"usr/lib/systemd/system", "usr/etc/systemd/system"} {
		for _, e := range tree.Lookup(image, dir).Entries() {
			if !units.ValidName(e.Name) || e.Inode.IsDir() || slices.Contains(names, e.Name) {
				continue
			}
			names = append(names, e.Name)
			if prefix, suffix, ok := strings.Cut(e.Name, "@."); ok {
				names = append(names, prefix+"@one."+suffix)
			}
		}
	}
	if len(names) < 100 {
		t.Fatalf("%d units", len(names))
	}
	return append(names, "gone.service")
}

// TestSettings has the image's own tools do what imgbuild does.
func TestSettings(t *testing.T) {
	s := newSettings(t)
	for _, sub := range []struct {
		name string
		test func(*testing.T, *settings)
	}{
		{"units", testUnits}, {"names", testNames}, {"certificates", testCertificates}, {"sshd", testSSHD}, {"files", testFiles}, {"locale", testLocale},
	} {
		t.Run(sub.name, func(t *testing.T) { sub.test(t, s) })
	}
}

// Every unit of the image is enabled, disabled, enabled again and masked, one after
// the other, and some by themselves.
func testUnits(t *testing.T, s *settings) {
	names := unitNames(t, s.image)
	sys := s.fresh(t)
	for _, verb := range []string{"enable", "disable", "enable", "mask"} {
		out := inside(t, s.root, []string{"SYSTEMD_OFFLINE=1"},
			"for u in "+strings.Join(names, " ")+"; do if systemctl "+verb+" -- $u >/tmp/log 2>&1; then echo \"ok $u\"; else echo \"failed $u\"; fi; done")
		for line := range strings.Lines(out) {
			verdict, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			var c units.Config
			switch verb {
			case "enable":
				c.Enabled = []string{name}
			case "disable":
				c.Disabled = []string{name}
			case "mask":
				c.Masked = []string{name}
			}
			if _, err := units.Apply(sys, c); (err == nil) != (verdict == "ok") {
				t.Errorf("%s %s: systemctl %s, this: %v", verb, name, verdict, err)
			}
		}
		if n := strings.Count(out, "ok "); n+strings.Count(out, "failed ") != len(names) || n < 10 {
			t.Fatalf("%s: %s", verb, out)
		}
		s.same(t, sys)
		if t.Failed() {
			t.Fatalf("after %s", verb)
		}
	}
	for _, c := range []units.Config{
		{Enabled: []string{"debug-shell", "fstrim.timer", "getty@tty5", "systemd-networkd"}, Disabled: []string{"ssh"}, Masked: []string{"rescue", "systemd-timesyncd"}},
		{Disabled: []string{"getty@", "systemd-networkd.service", "e2scrub_reap", "ssh.socket"}, Masked: []string{"getty@tty1.service", "ssh.socket"}},
		{Enabled: []string{"ssh.socket", "serial-getty@ttyS1"}, Disabled: []string{"grub2-common"}},
	} {
		sys := s.fresh(t)
		var script strings.Builder
		for _, l := range []struct {
			verb  string
			names []string
		}{{"enable", c.Enabled}, {"disable", c.Disabled}, {"mask", c.Masked}} {
			for _, n := range l.names {
				fmt.Fprintf(&script, "systemctl %s %s >/tmp/log 2>&1 || { cat /tmp/log; false; }\n", l.verb, n)
			}
		}
		inside(t, s.root, []string{"SYSTEMD_OFFLINE=1"}, script.String())
		if _, err := units.Apply(sys, c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		s.same(t, sys)
	}
}

// The host name, the time zone and the language, as systemd-firstboot writes them.
func testNames(t *testing.T, s *settings) {
	sys := s.fresh(t)
	name, zone := "box.example.com", "America/Argentina/Buenos_Aires"
	for _, err := range []error{
		func() error { _, err := hostname.Apply(sys, name); return err }(),
		func() error { _, err := clock.Apply(sys, clock.Config{Timezone: &zone}); return err }(),
		func() error { _, err := locale.Apply(sys, locale.Config{Languages: []string{"C.UTF-8"}}); return err }(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	inside(t, s.root, nil, "rm -f /etc/hostname /etc/localtime")
	// That of the image wants /proc.
	run(t, "systemd-firstboot", "--root="+s.root, "--hostname="+name, "--timezone="+zone, "--locale=C.UTF-8")
	s.same(t, sys)
}

// Authorities are what update-ca-certificates of the image makes of the same anchors,
// and openssl of the image verifies what they sign.
func testCertificates(t *testing.T, s *settings) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(0x1234abcd), Subject: pkix.Name{CommonName: "Example Root", Organization: []string{"Example  Ltd."}},
		NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(4000000000, 0), BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	sys := s.fresh(t)
	if _, err := certs.Apply(sys, certs.Config{PEM: []string{string(text)}}); err != nil {
		t.Fatal(err)
	}
	const anchors = "/usr/local/share/ca-certificates"
	s.write(t, sys, "/var/usrlocal/share")
	out := inside(t, s.root, nil, "update-ca-certificates 2>&1")
	if !strings.Contains(out, "1 added, 0 removed") {
		t.Errorf("%s", out)
	}
	s.same(t, sys)
	inside(t, s.root, nil, "openssl verify -no-CAfile -CApath /etc/ssl/certs "+anchors+"/1234abcd.crt && openssl verify -no-CApath -CAfile /etc/ssl/certs/ca-certificates.crt "+anchors+"/1234abcd.crt")
}

// The SSH server of the image takes the settings.
func testSSHD(t *testing.T, s *settings) {
	sys := s.fresh(t)
	no, n := false, int64(77)
	if _, err := sshd.Apply(sys, sshd.Config{PasswordAuthentication: &no, ClientAliveInterval: &n, PermitRootLogin: "no", KbdInteractiveAuthentication: &no}); err != nil {
		t.Fatal(err)
	}
	s.write(t, sys, "/etc/ssh/sshd_config.d")
	out := strings.ToLower(inside(t, s.root, nil, "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /tmp/key </dev/null; sshd -T -h /tmp/key"))
	for _, want := range []string{"passwordauthentication no\n", "clientaliveinterval 77\n", "permitrootlogin no\n", "kbdinteractiveauthentication no\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s", want)
		}
	}
}

// Files and directories as install(1) makes them.
func testFiles(t *testing.T, s *settings) {
	sys := s.fresh(t)
	id := int64(1234)
	c := files.Config{
		Directories: []files.Directory{
			{Path: "/etc/app/conf.d", EnsureParents: true, Mode: "0750", Group: files.Owner{Name: "adm"}},
			{Path: "/etc/app/data", User: files.Owner{Name: "daemon"}, Group: files.Owner{ID: &id}},
		},
		Files: []files.File{
			{Path: "/etc/app/conf.d/a.conf", Data: "a = 1\n", Mode: "0640", User: files.Owner{Name: "daemon"}, Group: files.Owner{Name: "adm"}},
			{Path: "/etc/motd", Data: "hello\n"},
			{Path: "/etc/vconsole.conf", Data: "KEYMAP=us\n"},
		},
	}
	if _, err := files.Apply(t.Context(), sys, c, files.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	inside(t, s.root, nil, `umask 022
		install -d -m 750 -g adm /etc/app/conf.d; install -d -o daemon -g 1234 /etc/app/data
		echo 'a = 1' >/tmp/a; install -m 640 -o daemon -g adm /tmp/a /etc/app/conf.d/a.conf
		rm -f /etc/motd; echo hello >/etc/motd; rm /etc/vconsole.conf; echo KEYMAP=us >/etc/vconsole.conf`)
	s.same(t, sys)

	// /usr/local leads to /var here, /usr/bin does not.
	sys = s.fresh(t)
	_, err := files.Apply(t.Context(), sys, files.Config{Files: []files.File{{Path: "/usr/local/bin/x"}, {Path: "/usr/bin/x"}}}, files.Options{Allow: []string{"/usr/bin"}}, nil)
	if fault.ClassOf(err) != fault.Unsupported || strings.Count(fmt.Sprint(err), "read-only") != 1 || sys.Lookup("/var/usrlocal/bin/x") == nil {
		t.Errorf("%v", err)
	}
}

// What the image does not have is refused.
func testLocale(t *testing.T, s *settings) {
	sys := s.fresh(t)
	keymap := "de"
	_, err := locale.Apply(sys, locale.Config{Languages: []string{"de_DE.UTF-8"}, Keyboard: &keymap})
	var p bytes.Buffer
	fmt.Fprint(&p, err)
	if fault.ClassOf(err) != fault.Unsupported || strings.Count(p.String(), "\n") > 1 || !strings.Contains(p.String(), "the locale de_DE.UTF-8 is not in the image") {
		t.Errorf("%v", err)
	}
	if _, err := clock.Apply(sys, clock.Config{NTPServers: []string{"a"}}); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "apt-get install -y chrony") {
		t.Errorf("%v", err)
	}
}
