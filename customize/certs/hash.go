package certs

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// attribute is AttributeTypeAndValue of RFC 5280.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// oldHash returns X509_NAME_hash_old of OpenSSL.
func oldHash(name []byte) string {
	sum := md5.Sum(name)
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:]))
}

// nameHash returns X509_NAME_hash of OpenSSL, by which it looks for certificates in
// a directory: the start of SHA-1 over the name in canonical form.
func nameHash(name []byte) (string, error) {
	canonical, err := canonicalName(name)
	if err != nil {
		return "", err
	}
	sum := sha1.Sum(canonical)
	return fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum[:])), nil
}

var errName = errors.New("the subject is not a valid name")

// canonicalName is x509_name_canon of OpenSSL: the sets of attributes without the
// sequence around them, text in UTF-8, lower case and with single blanks.
func canonicalName(name []byte) ([]byte, error) {
	sets, err := parts(name, asn1.TagSequence)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, set := range sets {
		attributes, err := parts(set.FullBytes, asn1.TagSet)
		if err != nil {
			return nil, err
		}
		var encoded [][]byte
		for _, a := range attributes {
			var at attribute
			if rest, err := asn1.Unmarshal(a.FullBytes, &at); err != nil || len(rest) > 0 {
				return nil, errName
			}
			at.Value, err = canonicalValue(at.Value)
			if err != nil {
				return nil, err
			}
			b, err := asn1.Marshal(at)
			if err != nil {
				return nil, errName
			}
			encoded = append(encoded, b)
		}
		slices.SortFunc(encoded, bytes.Compare) // DER sorts sets
		b, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: bytes.Join(encoded, nil)})
		if err != nil {
			return nil, errName
		}
		out = append(out, b...)
	}
	return out, nil
}

// parts returns the elements of a sequence or set.
func parts(b []byte, tag int) (list []asn1.RawValue, err error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(b, &outer); err != nil || len(rest) > 0 || outer.Class != asn1.ClassUniversal || outer.Tag != tag || !outer.IsCompound {
		return nil, errName
	}
	for b = outer.Bytes; len(b) > 0; {
		var v asn1.RawValue
		if b, err = asn1.Unmarshal(b, &v); err != nil {
			return nil, errName
		}
		list = append(list, v)
	}
	return list, nil
}

// tagVisibleString and tagUniversalString are not in encoding/asn1.
const (
	tagVisibleString   = 26
	tagUniversalString = 28
)

// canonicalValue returns text in its canonical form, and other values as they are.
func canonicalValue(v asn1.RawValue) (asn1.RawValue, error) {
	text, ok, err := decodeText(v)
	if err != nil || !ok {
		return v, err
	}
	var b []byte
	blank := false
	for i := range len(text) {
		c := text[i]
		switch c {
		case ' ', '\t', '\n', '\v', '\f', '\r':
			blank = true
			continue
		}
		if blank && len(b) > 0 {
			b = append(b, ' ')
		}
		blank = false
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagUTF8String, Bytes: b}, nil
}

// decodeText returns a string of any of ASN.1's types as UTF-8; ok is false for
// other values.
func decodeText(v asn1.RawValue) (text string, ok bool, err error) {
	if v.Class != asn1.ClassUniversal {
		return "", false, nil
	}
	switch v.Tag {
	case asn1.TagUTF8String:
		if !utf8.Valid(v.Bytes) {
			return "", false, errName
		}
		return string(v.Bytes), true, nil
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagT61String, tagVisibleString:
		r := make([]rune, len(v.Bytes)) // ISO 8859-1
		for i, c := range v.Bytes {
			r[i] = rune(c)
		}
		return string(r), true, nil
	case asn1.TagBMPString:
		if len(v.Bytes)%2 != 0 {
			return "", false, errName
		}
		u := make([]uint16, len(v.Bytes)/2)
		for i := range u {
			u[i] = binary.BigEndian.Uint16(v.Bytes[2*i:])
		}
		return string(utf16.Decode(u)), true, nil
	case tagUniversalString:
		if len(v.Bytes)%4 != 0 {
			return "", false, errName
		}
		r := make([]rune, len(v.Bytes)/4)
		for i := range r {
			r[i] = rune(binary.BigEndian.Uint32(v.Bytes[4*i:]))
		}
		return string(r), true, nil
	}
	return "", false, nil
}

// The attributes that a certificate is called by, in this order.
var labelTypes = []asn1.ObjectIdentifier{{2, 5, 4, 3}, {2, 5, 4, 11}, {2, 5, 4, 10}} // CN, OU, O

// label returns what p11-kit calls a certificate: its common name, or its unit or
// organization, or "".
func label(c *x509.Certificate) string {
	sets, err := parts(c.RawSubject, asn1.TagSequence)
	if err != nil {
		return ""
	}
	for _, want := range labelTypes {
		for _, set := range sets {
			attributes, err := parts(set.FullBytes, asn1.TagSet)
			if err != nil {
				return ""
			}
			for _, a := range attributes {
				var at attribute
				if _, err := asn1.Unmarshal(a.FullBytes, &at); err != nil || !at.Type.Equal(want) {
					continue
				}
				if text, ok, err := decodeText(at.Value); ok && err == nil {
					return text
				}
			}
		}
	}
	return ""
}

// subject names a certificate in messages.
func subject(c *x509.Certificate) string {
	if l := label(c); l != "" {
		return fmt.Sprintf("%q", l)
	}
	return "number " + c.SerialNumber.Text(16)
}
