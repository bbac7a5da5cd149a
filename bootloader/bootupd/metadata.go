package bootupd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"imgbuild/tree"
)

// maxMetadata is the largest EFI.json or BIOS.json read, in bytes.
const maxMetadata = 1 << 20

// Names of bootupd's components.
const (
	EFI  = "EFI"
	BIOS = "BIOS" // on ppc64le this is PReP
)

// Metadata says which version of a component an image has (bootupd's
// ContentMetadata).
type Metadata struct {
	Timestamp time.Time // UTC
	Version   string    // for people
	Versions  []Module  // nil before bootupd 0.2.30
}

// Module is a package of a component.
type Module struct{ Name, EVR string }

// ReadMetadata returns the metadata of a component ([EFI], [BIOS]), or nil when
// the image has none: then bootupd does not install the component.
func ReadMetadata(os *tree.Inode, component string) (*Metadata, error) {
	at := updatesDir + "/" + component + ".json"
	text, err := tree.ReadFile(os, at, maxMetadata)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseMetadata(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return m, nil
}

// ParseMetadata parses EFI.json or BIOS.json. Unknown keys are ignored, as
// bootupd does.
func ParseMetadata(text []byte) (*Metadata, error) {
	var raw struct {
		Timestamp *string `json:"timestamp"`
		Version   *string `json:"version"`
		Versions  []struct {
			Name *string `json:"name"`
			EVR  *string `json:"rpm_evr"`
		} `json:"versions"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	if raw.Timestamp == nil || raw.Version == nil {
		return nil, errors.New("timestamp or version is missing")
	}
	t, err := time.Parse(time.RFC3339Nano, *raw.Timestamp)
	if err != nil {
		return nil, fmt.Errorf("timestamp %q is not of RFC 3339", *raw.Timestamp)
	}
	if t = t.UTC(); t.Year() < 1 || t.Year() > 9999 {
		return nil, fmt.Errorf("timestamp %q: year %d", *raw.Timestamp, t.Year())
	}
	m := &Metadata{Timestamp: t, Version: *raw.Version}
	if raw.Versions != nil {
		m.Versions = make([]Module, len(raw.Versions))
	}
	for k, v := range raw.Versions {
		if v.Name == nil || v.EVR == nil {
			return nil, fmt.Errorf("versions: name or rpm_evr of package %d is missing", k)
		}
		m.Versions[k] = Module{*v.Name, *v.EVR}
	}
	return m, nil
}
