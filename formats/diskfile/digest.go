package diskfile

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"

	"imgbuild/fault"
	"imgbuild/formats/input"
)

// digest is what an archive says of one of its files.
type digest struct {
	algorithm string // in small letters, without a hyphen
	sum       string // hexadecimal, in small letters
}

// reManifestLine is a line of an appliance's manifest: DSP0243 1.1.0, section 5.1 (OVF
// package structure). VirtualBox and others put spaces in it; version 2 has other
// algorithms than SHA-1.
var reManifestLine = regexp.MustCompile(`^([A-Za-z0-9-]+) *\((.+)\) *= *([0-9A-Fa-f]+)$`)

// parseManifest returns what the manifest of an appliance says of each file.
func parseManifest(b []byte) (map[string]digest, error) {
	list := make(map[string]digest)
	s := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" {
			continue
		}
		m := reManifestLine.FindStringSubmatch(line)
		if m == nil {
			return nil, input.Bad("line %d of the manifest: %.100q", n, line)
		}
		list[m[2]] = digest{strings.ReplaceAll(strings.ToLower(m[1]), "-", ""), strings.ToLower(m[3])}
	}
	if err := s.Err(); err != nil {
		return nil, input.Bad("manifest: %v", err)
	}
	return list, nil
}

// checkAppliance compares the files of an appliance with its manifest, where it has
// one.
func (o *opener) checkAppliance(p *part, list []member) error {
	for _, m := range list {
		if !strings.HasSuffix(m.name, ".mf") {
			continue
		}
		if m.size > maxDocument {
			return input.Bad("%.100q has %d bytes", m.name, m.size)
		}
		b, err := p.Read(m.off, m.size)
		if err != nil {
			return err
		}
		digests, err := parseManifest(b)
		if err != nil {
			return err
		}
		for _, file := range list {
			if d, ok := digests[file.name]; ok {
				if err := o.check(io.NewSectionReader(p, file.off, file.size), file.name, d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// check reads r and compares it with the digest of the file of that name.
func (o *opener) check(r io.Reader, name string, d digest) error {
	var h hash.Hash
	switch d.algorithm {
	case "sha1":
		h = sha1.New()
	case "sha256":
		h = sha256.New()
	case "sha512":
		h = sha512.New()
	default:
		return input.Unsupported("unpack it, and convert the disk", "the digest of %.100q is of the kind %.20q", name, d.algorithm)
	}
	buf := make([]byte, 1<<20)
	for {
		if err := o.ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%.100q: %w", name, err)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != d.sum {
		return damaged(name, d.algorithm, got)
	}
	return nil
}

func damaged(name, algorithm, sum string) error {
	return fault.New(fault.BadImage, fmt.Errorf("%.100q is damaged: its %s is %s, which is not what the archive says", name, algorithm, sum),
		"copy the archive once more from where it came")
}
