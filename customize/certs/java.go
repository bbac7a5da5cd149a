package certs

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"imgbuild/customize"
)

// A Java key store (JKS, version 2, big endian): header, entries, SHA-1 over a
// password and all before. p11-kit writes trusted certificates only.
const (
	javaMagic   = 0xfeedfeed
	javaVersion = 2
	sizeJava    = 12 // magic, version, number of entries
	tagTrusted  = 2
	javaType    = "X.509"
)

// javaSalt is the password "changeit" in UTF-16 and what Sun added to it.
func javaSalt() []byte {
	var b []byte
	for _, c := range []byte("changeit") {
		b = append(b, 0, c)
	}
	return append(b, "Mighty Aphrodite"...)
}

var errJava = errors.New("not a Java key store that can be changed")

// addJava adds a certificate to a key store, unless it is in it.
func addJava(sys *customize.System, text []byte, c *x509.Certificate) ([]byte, error) {
	if len(text) < sizeJava+sha1.Size || binary.BigEndian.Uint32(text) != javaMagic || binary.BigEndian.Uint32(text[4:]) != javaVersion {
		return nil, errJava
	}
	body := text[:len(text)-sha1.Size]
	if sum := javaSum(body); !bytes.Equal(sum[:], text[len(body):]) {
		return nil, fmt.Errorf("%w: its digest is another", errJava)
	}
	aliases, has, err := readJava(body, c.Raw)
	if err != nil || has {
		return text, err
	}
	alias := javaAlias(label(c))
	for n := 1; aliases[alias]; n++ {
		alias = fmt.Sprintf("%s-%d", javaAlias(label(c)), n)
	}
	out := bytes.Clone(body)
	binary.BigEndian.PutUint32(out[8:], binary.BigEndian.Uint32(out[8:])+1)
	out = binary.BigEndian.AppendUint32(out, tagTrusted)
	out = appendString(out, alias)
	out = binary.BigEndian.AppendUint64(out, uint64(sys.Time()*1000))
	out = appendString(out, javaType)
	out = binary.BigEndian.AppendUint32(out, uint32(len(c.Raw)))
	out = append(out, c.Raw...)
	sum := javaSum(out)
	return append(out, sum[:]...), nil
}

func javaSum(body []byte) [sha1.Size]byte {
	return sha1.Sum(append(javaSalt(), body...))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// readJava returns the aliases of a key store, and whether it has a certificate.
func readJava(body, raw []byte) (aliases map[string]bool, has bool, err error) {
	aliases = map[string]bool{}
	n := binary.BigEndian.Uint32(body[8:])
	r := body[sizeJava:]
	take := func(size int) []byte {
		if size > len(r) {
			err = errJava
			r = nil
			return make([]byte, min(size, 8))
		}
		b := r[:size]
		r = r[size:]
		return b
	}
	for ; n > 0 && err == nil; n-- {
		if binary.BigEndian.Uint32(take(4)) != tagTrusted {
			return nil, false, errJava
		}
		aliases[string(take(int(binary.BigEndian.Uint16(take(2)))))] = true
		take(8) // date
		take(int(binary.BigEndian.Uint16(take(2))))
		if bytes.Equal(take(int(binary.BigEndian.Uint32(take(4)))), raw) {
			has = true
		}
	}
	if err == nil && len(r) > 0 {
		err = errJava
	}
	return aliases, has, err
}

// javaAlias is the alias that p11-kit makes of a label: lower case, without blanks.
func javaAlias(l string) string {
	alias := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == ' ' || r >= '\t' && r <= '\r':
			return -1
		}
		return r
	}, l)
	return alias[:min(len(alias), 1<<15)]
}
