package oci

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"imgbuild/fault"
)

// maxCertFile is the most that is read of a certificate or key, in bytes.
const maxCertFile = 4 << 20

// tlsConfig returns how to speak TLS with host[:port], containers-certs.d(5): the
// first of the directories certs.d that has one for it, or the directory that the
// user named, gives CA certificates (*.crt), which the system's are added to, and
// pairs of client certificates and keys (*.cert and *.key).
func tlsConfig(host string, insecure bool, opt Options) (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: insecure, MinVersion: tls.VersionTLS12}
	dir := opt.CertDir
	if dir == "" {
		if opt.Getenv == nil {
			return config, nil
		}
		if dir = certDir(host, opt); dir == "" {
			return config, nil
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		if opt.CertDir == "" && errors.Is(err, fs.ErrPermission) {
			return config, nil
		}
		return nil, fault.New(fault.Usage, fmt.Errorf("certificates for %s: %w", host, err), "")
	}
	for _, e := range list {
		if err := addCert(config, dir, e.Name()); err != nil {
			return nil, fault.New(fault.Auth, fmt.Errorf("certificates for %s: %w", host, err), "")
		}
	}
	return config, nil
}

// certDir returns the directory for a host, or "".
func certDir(host string, opt Options) string {
	dirs := []string{filepath.Join(opt.root, "/etc/containers/certs.d"), filepath.Join(opt.root, "/etc/docker/certs.d")}
	if opt.Home != "" {
		dirs = append([]string{filepath.Join(opt.Home, ".config", "containers", "certs.d")}, dirs...)
	}
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
	}
	return ""
}

// addCert reads a file of a directory of certificates.
func addCert(config *tls.Config, dir, name string) error {
	read := func(name string) ([]byte, error) {
		f, err := openRegular(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: no such file", filepath.Join(dir, name))
		} else if err != nil {
			return nil, err
		}
		defer f.Close()
		return readLimited(f, filepath.Join(dir, name), maxCertFile)
	}
	base := strings.TrimSuffix(name, filepath.Ext(name))
	switch filepath.Ext(name) {
	case ".crt":
		pem, err := read(name)
		if err != nil {
			return err
		}
		if config.RootCAs == nil {
			if config.RootCAs, err = x509.SystemCertPool(); err != nil {
				return fmt.Errorf("certificates of the system: %w", err)
			}
		}
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s: no certificate in PEM", filepath.Join(dir, name))
		}
	case ".cert":
		cert, err := read(name)
		if err != nil {
			return err
		}
		key, err := read(base + ".key")
		if err != nil {
			return fmt.Errorf("key of the client certificate %s: %w (CA certificates are called *.crt)", name, err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
		config.Certificates = append(config.Certificates, pair)
	case ".key":
		if _, err := os.Stat(filepath.Join(dir, base+".cert")); err != nil {
			return fmt.Errorf("%s: there is no client certificate %s.cert for it", filepath.Join(dir, name), base)
		}
	}
	return nil
}
