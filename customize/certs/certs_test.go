package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/test/systems"
)

// value is an attribute of a name with a string type of ASN.1.
type value struct {
	oid  asn1.ObjectIdentifier
	tag  int
	text string
}

var (
	cn = asn1.ObjectIdentifier{2, 5, 4, 3}
	ou = asn1.ObjectIdentifier{2, 5, 4, 11}
	o  = asn1.ObjectIdentifier{2, 5, 4, 10}
)

// name encodes sets of attributes.
func name(t testing.TB, sets ...[]value) []byte {
	t.Helper()
	var all []byte
	for _, set := range sets {
		var b []byte
		for _, v := range set {
			one, err := asn1.Marshal(attribute{v.oid, asn1.RawValue{Tag: v.tag, Bytes: []byte(v.text)}})
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, one...)
		}
		s, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: b})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s...)
	}
	b, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: all})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// make certificate of a subject. A serial number of 0 is a random one.
func certificateOf(t testing.TB, subject []byte, serial int64, ca bool) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number := big.NewInt(serial)
	if serial == 0 {
		if number, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
			t.Fatal(err)
		}
	}
	c := &x509.Certificate{SerialNumber: number, RawSubject: subject, Subject: pkix.Name{}, NotBefore: time.Unix(1700000000, 0), NotAfter: time.Unix(2500000000, 0),
		BasicConstraintsValid: true, IsCA: ca}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func simple(t testing.TB, common string) []byte {
	t.Helper()
	return name(t, []value{{o, asn1.TagUTF8String, "Example"}}, []value{{cn, asn1.TagUTF8String, common}})
}

// subjects are names with everything that the canonical form is about.
func subjects(t testing.TB) [][]byte {
	return [][]byte{
		simple(t, "Example Root CA"),
		name(t, []value{{cn, asn1.TagPrintableString, "  Two   Blanks \t and Tabs  "}}),
		name(t, []value{{o, asn1.TagUTF8String, "Größe ÄÖÜ"}}, []value{{ou, asn1.TagT61String, "Gr\xf6\xdfe"}}),
		name(t, []value{{cn, asn1.TagBMPString, "\x00A\x20\xac"}}),
		name(t, []value{{cn, tagUniversalString, "\x00\x00\x00A\x00\x00\x00b"}}),
		name(t, []value{{cn, asn1.TagUTF8String, "B"}, {o, asn1.TagUTF8String, "a"}, {ou, asn1.TagIA5String, "Many In One"}}),
		name(t, []value{{ou, asn1.TagUTF8String, "a"}, {cn, asn1.TagUTF8String, "Behind The Other"}, {o, asn1.TagUTF8String, "B"}}),
		name(t, []value{{asn1.ObjectIdentifier{2, 5, 4, 45}, asn1.TagBitString, "\x00\x01"}}, []value{{cn, asn1.TagUTF8String, ""}}),
		name(t),
	}
}

func tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: make tools fetches it", err)
	}
	return p
}

func TestHashes(t *testing.T) {
	openssl := tool(t, "openssl")
	for i, s := range subjects(t) {
		cmd := exec.Command(openssl, "x509", "-noout", "-subject_hash", "-subject_hash_old")
		cmd.Stdin = bytes.NewReader(certificateOf(t, s, 0, true))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		hash, err := nameHash(s)
		if got := hash + "\n" + oldHash(s) + "\n"; err != nil || got != string(out) {
			t.Errorf("%d: %q, %v, openssl %q", i, got, err, out)
		}
	}
}

func TestValidate(t *testing.T) {
	one, two := string(certificateOf(t, simple(t, "a"), 0, true)), string(certificateOf(t, simple(t, "b"), 0, true))
	for _, tc := range []struct {
		items []string
		want  string
	}{
		{[]string{one, "text before\n" + one + "between\n" + two}, ""},
		{[]string{""}, "cacerts.pem_certs[0]: there is no certificate"},
		{[]string{one, "junk"}, "cacerts.pem_certs[1]: there is no certificate"},
		{[]string{one + "-----BEGIN CERTIFICATE-----\nAAAA"}, "what follows certificate 1 is damaged"},
		{[]string{"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "certificate 1: x509"},
		{[]string{"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "there is a private key"},
		{[]string{strings.Repeat(" ", maxItem+1)}, "more than"},
	} {
		p := Validate(Config{PEM: tc.items})
		if (len(p) == 0) != (tc.want == "") || !strings.Contains(p.Error(), tc.want) || len(p) > 0 && fault.ClassOf(p[0].Err) != fault.Usage {
			t.Errorf("%.80q: %v, want %s", tc.items, p, tc.want)
		}
	}
}

func TestRefused(t *testing.T) {
	c := Config{PEM: []string{string(certificateOf(t, simple(t, "a"), 0, true))}}
	sys := systems.System(t, map[string]string{"etc/pki/trust/anchors/x": "x"})
	if _, err := Apply(sys, c); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "COPY ca.crt /etc/pki/trust/anchors/ and RUN update-ca-certificates") {
		t.Errorf("%v: %s", err, fault.HintOf(err))
	}
	if _, err := Apply(sys, Config{}); err != nil {
		t.Errorf("nothing to add: %v", err)
	}
}

// Images of Debian, with /usr/local of the image and with one in /var.
func TestDebian(t *testing.T) {
	program, openssl := tool(t, "update-ca-certificates"), tool(t, "openssl")
	vendor := map[string]string{}
	for _, n := range []string{"A", "B (old), C", "without"} {
		vendor[n] = string(certificateOf(t, simple(t, n), 0, true))
	}
	vendor["B (old), C"] = strings.TrimSuffix(vendor["B (old), C"], "\n")
	same := simple(t, "Same name")
	added := []string{string(certificateOf(t, same, 7, true)), string(certificateOf(t, same, 8, true)) + string(certificateOf(t, simple(t, "third"), 7, true)), vendor["A"]}
	for _, local := range []bool{false, true} {
		t.Run(fmt.Sprint("local ", local), func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{"etc/ca-certificates.conf": "# comment\n\nmozilla/A.crt\nmozilla/B (old), C.crt\n!mozilla/without.crt\nmozilla/gone.crt\n",
				"etc/ca-certificates/update.d/hook": "x"}
			for n, text := range vendor {
				files["usr/share/ca-certificates/mozilla/"+n+".crt"] = text
			}
			if local {
				files["var/usrlocal/share/ca-certificates/zz.crt"] = string(certificateOf(t, same, 9, true))
			}
			write := func(p, text string) {
				p = filepath.Join(dir, p)
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for p, text := range files {
				if !strings.Contains(p, "update.d") {
					write(p, text)
				}
			}
			if err := os.MkdirAll(filepath.Join(dir, "etc/ssl/certs"), 0o755); err != nil {
				t.Fatal(err)
			}
			if local {
				if err := os.Symlink("../var/usrlocal", filepath.Join(dir, "usr/local")); err != nil {
					t.Fatal(err)
				}
				files["usr/local"] = "-> ../var/usrlocal"
			}
			update := func() map[string]string {
				cmd := exec.Command(program, "--sysroot", dir)
				cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(openssl)+":"+os.Getenv("PATH"), "LC_ALL=C")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				found := map[string]string{}
				entries, err := os.ReadDir(filepath.Join(dir, "etc/ssl/certs"))
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					p := filepath.Join(dir, "etc/ssl/certs", e.Name())
					if target, err := os.Readlink(p); err == nil {
						// As without --sysroot.
						target = strings.TrimPrefix(target, dir+"/")
						found[e.Name()] = "-> " + target
						continue
					}
					text, err := os.ReadFile(p)
					if err != nil {
						t.Fatal(err)
					}
					found[e.Name()] = string(text)
				}
				return found
			}
			// What is in the image, then what it is with the anchors.
			for name, text := range update() {
				files["etc/ssl/certs/"+name] = text
			}
			sys := systems.System(t, files)
			if err := setExecutable(sys, "/etc/ca-certificates/update.d/hook"); err != nil {
				t.Fatal(err)
			}
			warnings, err := Apply(sys, Config{PEM: added})
			if err != nil || len(warnings) != 1 || !strings.Contains(warnings.Error(), "hook is not run") {
				t.Fatalf("%v, %v", warnings, err)
			}
			own := "etc/ca-certificates/imgbuild"
			if local {
				own = "var/usrlocal/share/ca-certificates"
			}
			write("etc/ca-certificates.conf", systems.Text(t, sys, "etc/ca-certificates.conf"))
			for _, e := range sys.Lookup("/" + own).Entries() {
				write(own+"/"+e.Name, systems.Text(t, sys, own+"/"+e.Name))
			}
			want := update()
			got := sys.Lookup("/etc/ssl/certs").Entries()
			for _, e := range got {
				if text := systems.Text(t, sys, "etc/ssl/certs/"+e.Name); text != want[e.Name] {
					t.Errorf("%s: %.60q, want %.60q", e.Name, text, want[e.Name])
				}
			}
			for name := range want {
				if sys.Lookup("/etc/ssl/certs").Child(name) == nil {
					t.Errorf("%s is missing, which is %.60q", name, want[name])
				}
			}
			if len(sys.Lookup("/"+own).Entries()) < 3 {
				t.Error("anchors are missing")
			}
			// Once more changes nothing.
			before := systems.Text(t, sys, "etc/ssl/certs/ca-certificates.crt") + systems.Text(t, sys, "etc/ca-certificates.conf")
			if _, err := Apply(sys, Config{PEM: added}); err != nil || before != systems.Text(t, sys, "etc/ssl/certs/ca-certificates.crt")+systems.Text(t, sys, "etc/ca-certificates.conf") {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func setExecutable(sys *customize.System, p string) error {
	sys.Lookup(p).Mode |= 0o111
	return nil
}

func TestJavaErrors(t *testing.T) {
	cert, err := parsePEM(certificateOf(t, simple(t, "a"), 0, true))
	if err != nil {
		t.Fatal(err)
	}
	sys := systems.System(t, nil)
	for _, text := range []string{"", strings.Repeat("x", 40), "\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x00" + strings.Repeat("x", 20)} {
		if _, err := addJava(sys, []byte(text), cert[0]); err == nil {
			t.Errorf("%q is a key store", text)
		}
	}
}

func FuzzJava(f *testing.F) {
	f.Add([]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05X.509\x00\x00\x00\x01c"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) >= sizeJava {
			_, _, _ = readJava(body, nil)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range subjects(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		canonical, err := canonicalName(b)
		if err != nil {
			return
		}
		if len(canonical) > 8*len(b)+16 {
			t.Errorf("%d bytes become %d", len(b), len(canonical))
		}
		label(&x509.Certificate{RawSubject: b})
	})
}
