package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// Where update-ca-trust looks, and where it writes.
const (
	p11Anchors   = "/etc/pki/ca-trust/source/anchors"
	p11Extracted = "/etc/pki/ca-trust/extracted"
)

// extracted are the files that update-ca-trust makes with trust extract. A file
// that the system does not have is left out.
var extracted = []struct {
	path string
	all  bool // other certificates than those of authorities as well
	add  func(sys *customize.System, text []byte, c *x509.Certificate) ([]byte, error)
}{
	{"pem/tls-ca-bundle.pem", false, addBundle},
	{"pem/email-ca-bundle.pem", false, addBundle},
	{"pem/objsign-ca-bundle.pem", false, addBundle},
	{"openssl/ca-bundle.trust.crt", true, addTrusted},
	{"edk2/cacerts.bin", false, addEDK2},
	{"java/cacerts", false, addJava},
}

// addP11 adds anchors, and adds them to what was extracted. trust extract would
// write all certificates anew, in an order of its own.
func addP11(sys *customize.System, list []certificate) error {
	for i, name := range names(list) {
		if err := sys.WriteFile(path.Join(p11Anchors, name+".pem"), 0o644, encode(list[i].cert)); err != nil {
			return err
		}
	}
	for _, e := range extracted {
		p := path.Join(p11Extracted, e.path)
		if f := sys.Lookup(p); f == nil || !f.IsFile() {
			continue
		}
		text, err := sys.ReadFile(p, maxBundle)
		if err != nil {
			return err
		}
		for _, c := range list {
			if !e.all && !isCA(c.cert) {
				continue
			}
			if text, err = e.add(sys, text, c.cert); err != nil {
				return fault.New(fault.BadImage, fmt.Errorf("%s: %w", p, err), "")
			}
		}
		if err := sys.WriteFile(p, 0o444, text); err != nil {
			return err
		}
	}
	dir := path.Join(p11Extracted, "pem/directory-hash")
	if i := sys.Lookup(dir); i == nil || !i.IsDir() {
		return nil
	}
	for _, c := range list {
		if !isCA(c.cert) {
			continue
		}
		if err := addDirectory(sys, dir, c.cert); err != nil {
			return err
		}
	}
	return nil
}

// addBundle adds a certificate with its label to a bundle, unless it is in it.
func addBundle(_ *customize.System, text []byte, c *x509.Certificate) ([]byte, error) {
	return addBlock(text, c, encode(c)), nil
}

// addBlock adds a block of PEM to a bundle, unless it is in it.
func addBlock(text []byte, c *x509.Certificate, block []byte) []byte {
	if bytes.Contains(text, block) {
		return text
	}
	var b bytes.Buffer
	b.Write(text)
	if len(text) > 0 {
		b.WriteByte('\n')
	}
	if l := label(c); l != "" {
		b.WriteString("# " + strings.Map(printable, l) + "\n")
	}
	b.Write(block)
	return b.Bytes()
}

// printable keeps a label on its line.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f || r == utf8.RuneError {
		return ' '
	}
	return r
}

// addTrusted adds a certificate to OpenSSL's bundle: with its alias, and no
// restriction of its use.
func addTrusted(_ *customize.System, text []byte, c *x509.Certificate) ([]byte, error) {
	aux := struct {
		Alias string `asn1:"utf8,optional"`
	}{label(c)}
	more, err := asn1.Marshal(aux)
	if err != nil {
		return nil, err
	}
	return addBlock(text, c, pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: append(bytes.Clone(c.Raw), more...)})), nil
}

// The GUIDs of EFI_SIGNATURE_LIST and of the owner that p11-kit uses, UEFI 2.10
// section 32.4.1, in the order of their bytes.
var (
	guidX509  = []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	guidOwner = []byte{0x50, 0x3b, 0xdd, 0xdc, 0x05, 0xf4, 0xfd, 0x43, 0x96, 0xbe, 0xbd, 0x33, 0xb1, 0x73, 0x47, 0x76}
)

// addEDK2 adds a signature list of one certificate, unless there is one.
func addEDK2(_ *customize.System, text []byte, c *x509.Certificate) ([]byte, error) {
	const sizeList = 16 + 3*4
	one := make([]byte, 0, sizeList+16+len(c.Raw))
	one = append(one, guidX509...)
	one = binary.LittleEndian.AppendUint32(one, uint32(sizeList+16+len(c.Raw)))
	one = binary.LittleEndian.AppendUint32(one, 0) // no header
	one = binary.LittleEndian.AppendUint32(one, uint32(16+len(c.Raw)))
	one = append(one, guidOwner...)
	one = append(one, c.Raw...)
	if bytes.Contains(text, one) {
		return text, nil
	}
	return append(text, one...), nil
}

// fileName is the name that p11-kit makes of a label.
func fileName(l string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '.' || r >= 0x80 {
			return r
		}
		return '_'
	}, l)
}

// addDirectory adds a certificate to a directory with links by hash, the newer and
// the older one.
func addDirectory(sys *customize.System, dir string, c *x509.Certificate) error {
	base := fileName(label(c))
	if base == "" {
		base = "certificate"
	}
	text := encode(c)
	name := base + ".pem"
	for n := 1; ; n++ {
		old, err := sys.ReadFile(path.Join(dir, name), maxItem)
		if err != nil {
			break
		}
		if bytes.Equal(old, text) {
			return nil
		}
		name = fmt.Sprintf("%s.%d.pem", base, n)
	}
	if !tree.ValidName(name) {
		name = c.SerialNumber.Text(16) + ".pem"
	}
	if err := sys.WriteFile(path.Join(dir, name), 0o444, text); err != nil {
		return err
	}
	hash, err := nameHash(c.RawSubject)
	if err != nil {
		return err
	}
	for _, h := range []string{hash, oldHash(c.RawSubject)} {
		n := 0
		for sys.Lookup(dir).Child(fmt.Sprintf("%s.%d", h, n)) != nil {
			n++
		}
		if err := sys.Link(fmt.Sprintf("%s/%s.%d", dir, h, n), name); err != nil {
			return err
		}
	}
	return nil
}
