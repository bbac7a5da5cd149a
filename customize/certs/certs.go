// Package certs adds certificate authorities to those that the system trusts: as
// anchors, and in what update-ca-trust of Fedora and its relatives (p11-kit) and
// update-ca-certificates of Debian make of them, without running these.
package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "cacerts".
type Config struct {
	// PEM are certificates, one or more in each item.
	PEM []string
	// Field is the list in messages, "cacerts.pem_certs" by default.
	Field string
}

// maxItem bounds an item, and maxCertificates their number in it.
const (
	maxItem         = 4 << 20
	maxCertificates = 1000
)

// certificate is one certificate of the configuration.
type certificate struct {
	field string
	cert  *x509.Certificate
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	_, problems := parse(c)
	return problems
}

// parse returns the certificates of all items. One that is there twice is taken
// once.
func parse(c Config) (list []certificate, problems customize.Problems) {
	seen := map[[32]byte]bool{}
	if c.Field == "" {
		c.Field = "cacerts.pem_certs"
	}
	for i, text := range c.PEM {
		field := fmt.Sprintf("%s[%d]", c.Field, i)
		certs, err := parsePEM([]byte(text))
		if err != nil {
			problems.Add(field, fault.New(fault.Usage, err, "a certificate begins with -----BEGIN CERTIFICATE-----"))
			continue
		}
		for _, cert := range certs {
			if sum := sha256.Sum256(cert.Raw); !seen[sum] {
				seen[sum] = true
				list = append(list, certificate{field, cert})
			}
		}
	}
	return list, problems
}

func parsePEM(text []byte) (list []*x509.Certificate, err error) {
	if len(text) > maxItem {
		return nil, fmt.Errorf("more than %d bytes", maxItem)
	}
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
		case "TRUSTED CERTIFICATE":
			return nil, errors.New("certificates with OpenSSL's trust settings are not supported")
		default:
			return nil, fmt.Errorf("there is a %s among the certificates", strings.ToLower(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(list)+1, err)
		}
		if list = append(list, cert); len(list) > maxCertificates {
			return nil, fmt.Errorf("more than %d certificates", maxCertificates)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	if bytes.Contains(text, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("what follows certificate %d is damaged", len(list))
	}
	return list, nil
}

// isCA tells whether a certificate may sign others, as p11-kit decides it.
func isCA(c *x509.Certificate) bool {
	if c.BasicConstraintsValid {
		return c.IsCA
	}
	return c.Version == 1 && bytes.Equal(c.RawSubject, c.RawIssuer)
}

// encode returns a certificate as PEM.
func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// names gives each certificate the name of its anchor: the serial number, as
// image-builder has it, and more where two have the same.
func names(list []certificate) []string {
	used := map[string]bool{}
	out := make([]string, len(list))
	for i, c := range list {
		name := c.cert.SerialNumber.Text(16)
		if used[name] {
			sum := sha256.Sum256(c.cert.Raw)
			name = fmt.Sprintf("%s-%x", name, sum[:8])
		}
		used[name] = true
		out[i] = name
	}
	return out
}

// Apply adds the certificates. The error is customize.Problems where the
// configuration and the image do not fit; the system is to be given up after any
// error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	list, problems := parse(c)
	if len(problems) > 0 {
		return nil, problems
	}
	if len(list) == 0 {
		return nil, nil
	}
	for _, c := range list {
		if !isCA(c.cert) {
			warnings.Add(c.field, fault.New(fault.Usage, fmt.Errorf("%s is not the certificate of an authority: only servers that show it themselves are trusted, and not by all programs", subject(c.cert)), ""))
		}
	}
	switch {
	case sys.Lookup(p11Extracted) != nil && sys.Lookup(p11Anchors) != nil:
		return warnings, addP11(sys, list)
	case sys.Lookup(debianConf) != nil && sys.Lookup(debianCerts) != nil:
		more, err := addDebian(sys, list)
		return append(warnings, more...), err
	}
	anchors, update := p11Anchors, "update-ca-trust"
	switch {
	case sys.Lookup("/etc/pki/trust/anchors") != nil:
		anchors, update = "/etc/pki/trust/anchors", "update-ca-certificates"
	case sys.Lookup("/etc/ca-certificates/trust-source/anchors") != nil:
		anchors = "/etc/ca-certificates/trust-source/anchors"
	}
	return warnings, customize.Problems{{Field: list[0].field, Err: fault.New(fault.Unsupported, errors.New("the image keeps its trusted certificates in a way that only its own tools can change, or keeps none"),
		fmt.Sprintf("put COPY ca.crt %s/ and RUN %s into the Containerfile", anchors, update))}}
}
