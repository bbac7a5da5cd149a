package ostree

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/composefs"
	"imgbuild/content"
	"imgbuild/fsverity"
	"imgbuild/tree"
)

// A commit of the real tool names the composefs image that we make of its tree.
// The tool is built without support for ed25519, so the signature is ours.
func TestComposefsSignatures(t *testing.T) {
	root := own(trees(t)["plain"])
	put(t, root, "usr/lib/large", own(file(0o600, strings.Repeat("large", 200_000))))
	own(root)
	repo := filepath.Join(t.TempDir(), "repo")
	ostree(t, "init", "--repo="+repo, "--mode=bare-user")
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	out := ostree(t, "--repo="+repo, "commit", "--no-bindings", "--tar-autocreate-parents", "--branch=x", "--timestamp=@0",
		"--generate-composefs-metadata", "--tree=tar="+writeTar(t, root))
	name := strings.TrimSpace(out)
	sum, err := parseHex(name)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRepo()
	commit, err := os.ReadFile(filepath.Join(repo, "objects", name[:2], name[2:]+".commit"))
	if err != nil {
		t.Fatal(err)
	}
	var detached encoder
	sig := ed25519.Sign(key, commit)
	detached.metadata([]Metadata{{"a", String("x")}, {keySignEd25519, Variant{"aay", append(sig, byte(len(sig)))}}})
	r.objects[objectName{sum, typeCommit}] = commit
	r.objects[objectName{sum, typeCommitMeta}] = detached.buf
	digest, signatures, err := r.ComposefsSignatures(sum)
	if err != nil {
		t.Fatal(err)
	}
	if len(signatures) != 1 || !ed25519.Verify(key.Public().(ed25519.PublicKey), r.Commit(sum), signatures[0]) {
		t.Errorf("signatures %x", signatures)
	}
	checksum(t, root)
	image, err := composefs.Ostree(root, composefs.Options{Digest: func(i *tree.Inode) ([32]byte, bool) {
		m, err := fsverity.Of(t.Context(), i.Content)
		return m.Digest(), err == nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := fsverity.Of(t.Context(), content.Bytes(image))
	if err != nil {
		t.Fatal(err)
	}
	if m.Digest() != digest {
		t.Errorf("our image has the digest %x, libostree's %x", m.Digest(), digest)
	}
}

func TestComposefsSignaturesMissing(t *testing.T) {
	signed := func(typ string, data ...byte) []byte {
		var e encoder
		e.metadata([]Metadata{{keySignEd25519, Variant{typ, data}}})
		return e.buf
	}
	var none encoder
	none.metadata([]Metadata{{"other", String("x")}})
	for _, tc := range []struct {
		name     string
		metadata []Metadata
		detached []byte
		want     string
	}{
		{"no detached metadata", nil, nil, "is not signed"},
		{"no signatures", nil, none.buf, "has no signature"},
		{"empty list", nil, signed("aay"), "has no signature"},
		{"another type", nil, signed("s", 0), "has no signature"},
		{"damaged list", nil, signed("aay", 1, 2, 3, 200), "signatures of commit"},
		{"damaged", nil, []byte{1, 2, 3, 200}, "detached metadata"},
		{"no digest", nil, signed("aay", 1, 2, 3, 3), "does not name a composefs image"},
		{"short digest", []Metadata{{keyComposefsDigest, Variant{"ay", []byte{1, 2}}}}, signed("aay", 1, 2, 3, 3), "does not name a composefs image"},
	} {
		r := NewRepo()
		sum, err := r.addObject(typeCommit, (&Commit{Metadata: tc.metadata}).Encode())
		if err != nil {
			t.Fatal(err)
		}
		if tc.detached != nil {
			r.objects[objectName{sum, typeCommitMeta}] = tc.detached
		}
		if _, _, err := r.ComposefsSignatures(sum); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, _, err := NewRepo().ComposefsSignatures(tree.Sum{1}); err == nil {
		t.Error("a commit that is not there")
	}
}
