// Package settings holds what can be said to the installer on a finished ISO.
//
// An installer ISO has a file of fixed size, [Path], that [Encode] makes and that
// `imgbuild iso customize` replaces in place. The installer reads it from the
// medium that it was started from; what the kernel command line says goes before
// it.
//
// The file is a line "imgbuild-settings 1 LENGTH SHA256\n", then LENGTH bytes of
// JSON, whose SHA-256 is given in hex, then zeros up to the size of the file.
package settings

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Path is where the settings are on the medium.
const Path = "images/imgbuild.conf"

// AreaSize is the size in bytes of the file that is reserved for them.
const AreaSize = 256 << 10

// magic begins the first line.
const magic = "imgbuild-settings 1"

// maxHead is more than a first line can have.
const maxHead = 128

// Settings is what can be said to the installer. The zero value lets it ask for
// everything.
type Settings struct {
	// Kickstart is the text of a kickstart file, in UTF-8.
	Kickstart string `json:"kickstart,omitempty"`
	// Target names the disk to install to: a path such as /dev/disk/by-id/…, or
	// first-empty, smallest, largest, serial=….
	Target string `json:"target,omitempty"`
	// Wipe allows installing onto a disk that holds data.
	Wipe bool `json:"wipe,omitempty"`
	// Unattended lets the installer work without asking. It needs an unambiguous
	// target.
	Unattended bool `json:"unattended,omitempty"`
}

// Validate tells what is wrong with the settings by themselves.
func (s *Settings) Validate() error {
	switch {
	case !utf8.ValidString(s.Kickstart):
		return errors.New("the kickstart is not UTF-8")
	case !utf8.ValidString(s.Target) || bytes.ContainsAny([]byte(s.Target), "\x00\n"):
		return fmt.Errorf("target %.64q", s.Target)
	}
	return nil
}

// Encode returns the settings as a file of size bytes, [AreaSize] on a new ISO.
func Encode(s *Settings, size int) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	head := fmt.Sprintf("%s %d %x\n", magic, len(text), sha256.Sum256(text))
	if n := len(head) + len(text); n > size {
		return nil, fmt.Errorf("settings of %d bytes, and %d are reserved for them", n, size)
	}
	b := make([]byte, size)
	copy(b[copy(b, head):], text)
	return b, nil
}

// Decode returns the settings in a file that [Encode] made, of any size.
func Decode(b []byte) (*Settings, error) {
	head, rest, ok := bytes.Cut(b[:min(len(b), maxHead)], []byte("\n"))
	if !ok || !bytes.HasPrefix(head, []byte(magic+" ")) {
		return nil, errors.New("these are no settings of the installer")
	}
	var n int
	var sum []byte
	if k, err := fmt.Sscanf(string(head[len(magic)+1:]), "%d %x", &n, &sum); k != 2 || err != nil {
		return nil, fmt.Errorf("settings with the first line %q", head)
	}
	rest = b[len(head)+1:]
	if n < 0 || n > len(rest) {
		return nil, fmt.Errorf("settings of %d bytes in a file of %d", n, len(b))
	}
	text := rest[:n]
	if got := sha256.Sum256(text); !bytes.Equal(got[:], sum) {
		return nil, errors.New("the checksum of the settings is wrong")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	s := &Settings{}
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if d.More() {
		return nil, errors.New("settings: more than one document")
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s, nil
}
