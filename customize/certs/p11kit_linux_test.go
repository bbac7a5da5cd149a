package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"imgbuild/test/systems"
)

// nobody runs trust, which reads no configuration of root's.
const nobody = 65534

// extract does what update-ca-trust does with anchors, and returns the files below
// /etc/pki/ca-trust/extracted.
func extract(t *testing.T, anchors map[string]string) map[string]string {
	t.Helper()
	program := tool(t, "trust")
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(filepath.Dir(real), "../root/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-trust.so")
	if _, err := os.Stat(module); err != nil {
		t.Fatalf("%v: put .cache/tools/bin of make tools first in PATH", err)
	}
	dir, err := os.MkdirTemp("", "imgbuild-trust-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
			if err == nil && i.IsDir() {
				err = os.Chmod(p, 0o755)
			}
			return err
		})
		os.RemoveAll(dir)
	})
	write := func(p, text string) {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for n, text := range anchors {
		write("source/anchors/"+n+".pem", text)
	}
	write("home/.config/pkcs11/pkcs11.conf", "user-config: only\n")
	write("home/.config/pkcs11/modules/trust.module", fmt.Sprintf("module: %s\ntrust-policy: yes\npriority: 1\nx-init-reserved: paths=%s/source\n", module, dir))
	for _, d := range []string{"pem", "openssl", "edk2", "java"} {
		if err := os.MkdirAll(filepath.Join(dir, "out", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var as *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
			if err == nil {
				err = os.Chown(p, nobody, nobody)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{
		"--format=openssl-bundle --filter=certificates --comment %s/openssl/ca-bundle.trust.crt",
		"--format=pem-bundle --filter=ca-anchors --comment --purpose=server-auth %s/pem/tls-ca-bundle.pem",
		"--format=pem-bundle --filter=ca-anchors --comment --purpose=email %s/pem/email-ca-bundle.pem",
		"--format=pem-bundle --filter=ca-anchors --comment --purpose=code-signing %s/pem/objsign-ca-bundle.pem",
		"--format=java-cacerts --filter=ca-anchors --purpose=server-auth %s/java/cacerts",
		"--format=edk2-cacerts --filter=ca-anchors --purpose=server-auth %s/edk2/cacerts.bin",
		"--format=pem-directory-hash --filter=ca-anchors --purpose=server-auth %s/pem/directory-hash",
	} {
		fields := strings.Fields(fmt.Sprintf(args, filepath.Join(dir, "out")))
		cmd := exec.Command(program, append([]string{"extract", "--overwrite"}, fields...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir+"/home", "XDG_CONFIG_HOME="+dir+"/home/.config")
		cmd.SysProcAttr = as
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	found := map[string]string{}
	out := filepath.Join(dir, "out")
	if err := filepath.Walk(out, func(p string, i os.FileInfo, err error) error {
		if err != nil || i.IsDir() {
			return err
		}
		rel, err := filepath.Rel(out, p)
		if err != nil {
			return err
		}
		if target, err := os.Readlink(p); err == nil {
			found[rel] = "-> " + target
			return nil
		}
		text, err := os.ReadFile(p)
		found[rel] = string(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// sorted returns the parts of an extracted file in an order that does not depend on
// that of the certificates.
func sorted(t *testing.T, name, text string) string {
	t.Helper()
	var list []string
	switch {
	case strings.HasPrefix(name, "pem/directory-hash"):
		return text
	case name == "edk2/cacerts.bin":
		for b := []byte(text); len(b) > 0; {
			n := binary.LittleEndian.Uint32(b[16:])
			list = append(list, string(b[:n]))
			b = b[n:]
		}
	case name == "java/cacerts":
		b := []byte(text)
		body := b[:len(b)-20]
		if sum := javaSum(body); !bytes.Equal(sum[:], b[len(body):]) {
			t.Errorf("%s: wrong digest", name)
		}
		r := body[sizeJava:]
		for range binary.BigEndian.Uint32(body[8:]) {
			n := int(binary.BigEndian.Uint16(r[4:]))
			alias := string(r[6 : 6+n])
			r = r[6+n+8+7:] // without the date, which is now
			n = int(binary.BigEndian.Uint32(r))
			list = append(list, alias+string(r[4:4+n]))
			r = r[4+n:]
		}
		if len(r) > 0 {
			t.Errorf("%s: %d bytes are left", name, len(r))
		}
	default:
		list = strings.Split(strings.TrimSuffix(text, "\n"), "\n\n")
	}
	slices.Sort(list)
	return strings.Join(list, "\n\n")
}

// The files of update-ca-trust are what they would be with the anchors, but for
// the order of the certificates in them.
func TestP11(t *testing.T) {
	base := map[string]string{}
	for i, n := range []string{"First CA", "Second (CA) ÄÖ"} {
		base[fmt.Sprint("base", i)] = string(certificateOf(t, simple(t, n), 0, true))
	}
	same := simple(t, "Same-Name. CA_1")
	added := []string{
		string(certificateOf(t, same, 7, true)), string(certificateOf(t, same, 8, true)),
		string(certificateOf(t, name(t, []value{{o, asn1.TagUTF8String, "Without CN"}}), 7, true)),
		string(certificateOf(t, simple(t, "no authority"), 0, false)), base["base0"],
	}
	files := map[string]string{"etc/pki/ca-trust/source/anchors/README": "x"}
	for p, text := range extract(t, base) {
		files["etc/pki/ca-trust/extracted/"+p] = text
	}
	sys := systems.System(t, files)
	warnings, err := Apply(sys, Config{PEM: added})
	if err != nil || len(warnings) != 1 || warnings[0].Field != "cacerts.pem_certs[3]" {
		t.Fatalf("%v, %v", warnings, err)
	}
	anchors := map[string]string{}
	for k, v := range base {
		anchors[k] = v
	}
	for _, e := range sys.Lookup("/etc/pki/ca-trust/source/anchors").Entries() {
		if n, ok := strings.CutSuffix(e.Name, ".pem"); ok {
			anchors[n] = systems.Text(t, sys, "etc/pki/ca-trust/source/anchors/"+e.Name)
		}
	}
	if len(anchors) != 7 {
		t.Errorf("%d anchors", len(anchors))
	}
	want := extract(t, anchors)
	n := 0
	for p, text := range want {
		at := "etc/pki/ca-trust/extracted/" + p
		got := systems.Text(t, sys, at)
		if strings.HasPrefix(p, "pem/directory-hash/") && strings.Contains(p, "Same") || strings.HasPrefix(text, "-> Same") {
			// Which of the two comes first is p11-kit's order.
			if got == "" {
				t.Errorf("%s is missing", p)
			}
			n++
			continue
		}
		if sorted(t, p, got) != sorted(t, p, text) {
			t.Errorf("%s: got\n%s\nwant\n%s", p, got, text)
		}
		n++
	}
	if n < 12 {
		t.Errorf("%d files compared", n)
	}
	for _, dir := range []string{"pem", "pem/directory-hash", "openssl", "edk2", "java"} {
		for _, e := range sys.Lookup("/etc/pki/ca-trust/extracted/" + dir).Entries() {
			if _, ok := want[dir+"/"+e.Name]; !ok && !e.Inode.IsDir() {
				t.Errorf("%s/%s is too much", dir, e.Name)
			}
		}
	}
	// Once more changes nothing.
	before := systems.Text(t, sys, "etc/pki/ca-trust/extracted/java/cacerts") + systems.Text(t, sys, "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem")
	if _, err := Apply(sys, Config{PEM: added}); err != nil || before != systems.Text(t, sys, "etc/pki/ca-trust/extracted/java/cacerts")+systems.Text(t, sys, "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem") {
		t.Errorf("again: %v", err)
	}
	if !isCA(&x509.Certificate{Version: 1}) {
		t.Error("version 1")
	}
}
