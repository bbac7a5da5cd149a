package pipeline

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// maxKeys bounds the file of public keys, in bytes.
const maxKeys = 1 << 20

// publicKeys returns the keys of the file at path, one in a line. The boot reads
// the copy in the initramfs; where the image has none of its own there is
// nothing to compare with.
func publicKeys(merged *tree.Inode, path string) ([]ed25519.PublicKey, error) {
	p := strings.TrimPrefix(path, "/")
	if rest, ok := strings.CutPrefix(p, "etc/"); ok {
		p = "usr/etc/" + rest // as the commit has it
	}
	i, err := tree.Resolve(merged, p)
	if err != nil || !i.IsFile() {
		return nil, nil
	}
	text, err := i.Content.ReadAll(maxKeys)
	if err != nil {
		return nil, fault.New(fault.BadImage, fmt.Errorf("%s: %w", path, err), "")
	}
	var keys []ed25519.PublicKey
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fault.New(fault.BadImage, fmt.Errorf("%s: %q is not an ed25519 public key in base64", path, line), "")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// signedBy tells whether one of the keys has signed the commit.
func signedBy(commit []byte, signatures [][]byte, keys []ed25519.PublicKey) bool {
	for _, key := range keys {
		for _, s := range signatures {
			if ed25519.Verify(key, commit, s) {
				return true
			}
		}
	}
	return false
}
