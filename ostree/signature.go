package ostree

import (
	"fmt"

	"imgbuild/tree"
)

// Keys of the metadata by which a composefs image is signed: its fs-verity
// digest (ay) in the commit, and signatures of the commit (aay) in the detached
// metadata.
const (
	keyComposefsDigest = "ostree.composefs.digest.v0"
	keySignEd25519     = "ostree.sign.ed25519"
)

// ComposefsSignatures returns the fs-verity digest of the composefs image that a
// commit names, and the ed25519 signatures of the commit, of which there is at
// least one. The signatures are not verified. The error tells what is missing.
func (r *Repo) ComposefsSignatures(sum tree.Sum) (digest [32]byte, signatures [][]byte, err error) {
	b := r.Commit(sum)
	if b == nil {
		return digest, nil, fmt.Errorf("commit %s is not in the repository", Hex(sum))
	}
	commit, err := ParseCommit(b)
	if err != nil {
		return digest, nil, err
	}
	meta := r.CommitMeta(sum)
	if meta == nil {
		return digest, nil, fmt.Errorf("commit %s is not signed", Hex(sum))
	}
	detached, err := parseMetadata(meta)
	if err != nil {
		return digest, nil, fmt.Errorf("detached metadata of commit %s: %w", Hex(sum), err)
	}
	for _, m := range detached {
		if m.Key == keySignEd25519 && m.Value.Type == "aay" {
			if signatures, err = splitArray(m.Value.Data, alignByte); err != nil {
				return digest, nil, fmt.Errorf("signatures of commit %s: %w", Hex(sum), err)
			}
		}
	}
	if len(signatures) == 0 {
		return digest, nil, fmt.Errorf("commit %s has no signature %s", Hex(sum), keySignEd25519)
	}
	v, ok := commit.Lookup(keyComposefsDigest)
	if !ok || v.Type != "ay" || len(v.Data) != len(digest) {
		return digest, nil, fmt.Errorf("commit %s does not name a composefs image (%s)", Hex(sum), keyComposefsDigest)
	}
	return [32]byte(v.Data), signatures, nil
}
