package pipeline

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"

	"imgbuild/layouts"
	"imgbuild/partition"
)

// identity is where every identifier of a disk comes from that other tools draw
// at random: the same input gives the same identifiers, any change of it others.
type identity struct{ seed [32]byte }

// identityInput is all that shapes a disk. Its JSON form is hashed, so a new
// field with omitempty leaves the identifiers of older inputs as they are.
type identityInput struct {
	Version    int      `json:"version"`
	Manifest   string   `json:"manifest"`
	Arch       string   `json:"arch"`
	Target     string   `json:"target"`
	Stateroot  string   `json:"stateroot"`
	RootFS     string   `json:"rootfs"`
	Kargs      []string `json:"kargs,omitempty"`
	Sizes      Sizes    `json:"sizes"`
	SELinuxOff bool     `json:"selinux_off,omitempty"`
	NoDefaults bool     `json:"no_defaults,omitempty"`
	SigPolicy  bool     `json:"sig_policy,omitempty"`
	// Layout is that of the user; the image's is in the digest of the image.
	Layout *layouts.Layout `json:"layout,omitempty"`
	Config string          `json:"config,omitempty"` // digest of what config files ask for beyond kernel arguments
}

// newIdentity derives the identity of a build: from the seed alone when there
// is one, else from the input.
func newIdentity(seed string, in identityInput) (identity, error) {
	if seed != "" {
		return identity{sha256.Sum256([]byte("imgbuild seed\x00" + seed))}, nil
	}
	in.Version = 1
	text, err := json.Marshal(in)
	if err != nil {
		return identity{}, err
	}
	return identity{sha256.Sum256(append([]byte("imgbuild input\x00"), text...))}, nil
}

// guid returns the identifier called name.
func (id identity) guid(name string) partition.GUID { return partition.DeriveGUID(id.seed[:], name) }

// bytes returns 32 bytes that stand for random ones.
func (id identity) bytes(purpose string) []byte {
	sum := sha256.Sum256(append(append(id.seed[:], "\x00bytes\x00"...), purpose...))
	return sum[:]
}

// volumeID returns a FAT volume serial number, never zero.
func (id identity) volumeID(name string) uint32 {
	g := id.guid(name)
	return binary.BigEndian.Uint32(g[:4]) | 1
}
