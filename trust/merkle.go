package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// inclusionProof shows that an entry is in a log: sigstore_rekor.proto.
type inclusionProof struct {
	LogIndex   protoInt `json:"logIndex"`
	RootHash   []byte   `json:"rootHash"`
	TreeSize   protoInt `json:"treeSize"`
	Hashes     [][]byte `json:"hashes"`
	Checkpoint struct {
		Envelope string `json:"envelope"`
	} `json:"checkpoint"`
}

// verify checks that the log with one of the keys has an entry with the body.
func (p *inclusionProof) verify(keys []publicKey, body []byte) error {
	size, root, err := verifyCheckpoint(keys, p.Checkpoint.Envelope)
	if err != nil {
		return err
	}
	if int64(p.TreeSize) != size || !bytes.Equal(p.RootHash, root) {
		return errors.New("inclusion proof: is for another checkpoint")
	}
	if !included(int64(p.LogIndex), size, p.Hashes, root, body) {
		return errors.New("inclusion proof: does not lead from the entry to the checkpoint")
	}
	return nil
}

// verifyCheckpoint verifies a signed note (C2SP signed-note and tlog-checkpoint):
// origin, size and root in lines, an empty one, and signatures, each "— NAME
// BASE64" of four bytes that stand for the key, and the signature.
func verifyCheckpoint(keys []publicKey, note string) (size int64, root []byte, err error) {
	bad := errors.New("checkpoint: damaged")
	i := strings.LastIndex(note, "\n\n")
	if i < 0 || len(note) > maxPayload {
		return 0, nil, bad
	}
	text, signatures := note[:i+1], strings.Split(strings.TrimSuffix(note[i+2:], "\n"), "\n")
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || len(signatures) > maxNoteSignatures {
		return 0, nil, bad
	}
	size, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size <= 0 {
		return 0, nil, bad
	}
	if root, err = base64.StdEncoding.DecodeString(lines[2]); err != nil || len(root) != sha256.Size {
		return 0, nil, bad
	}
	for _, line := range signatures {
		_, value, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
		sig, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(sig) <= 4 {
			return 0, nil, bad
		}
		for _, k := range keys {
			if k.verify([]byte(text), sig[4:]) {
				return size, root, nil
			}
		}
	}
	return 0, nil, errors.New("checkpoint: none of the log's keys has signed it")
}

// maxNoteSignatures is more than a log and its witnesses make.
const maxNoteSignatures = 64

// included verifies an inclusion proof, RFC 9162 section 2.1.3.2.
func included(index, size int64, path [][]byte, root, body []byte) bool {
	if index < 0 || index >= size {
		return false
	}
	leaf := sha256.Sum256(append([]byte{0}, body...))
	hash := leaf[:]
	node := func(left, right []byte) []byte {
		sum := sha256.Sum256(append(append([]byte{1}, left...), right...))
		return sum[:]
	}
	at, last := index, size-1
	for _, p := range path {
		if last == 0 || len(p) != sha256.Size {
			return false
		}
		if at&1 == 1 || at == last {
			hash = node(p, hash)
			for at&1 == 0 && at != 0 {
				at >>= 1
				last >>= 1
			}
		} else {
			hash = node(hash, p)
		}
		at >>= 1
		last >>= 1
	}
	return last == 0 && bytes.Equal(hash, root)
}
