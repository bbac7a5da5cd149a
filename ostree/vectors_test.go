package ostree

import (
	"context"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

func sum(t testing.TB, s string) tree.Sum {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sizeSum {
		t.Fatalf("bad checksum %q", s)
	}
	return tree.Sum(b)
}

// fileSum is the checksum of a file, once by FileHash and once by Checksum.
func fileSum(t *testing.T, i *tree.Inode) string {
	t.Helper()
	root := tree.NewDir(0o755)
	root.Set("f", i)
	if err := Checksum(context.Background(), root); err != nil {
		t.Fatal(err)
	}
	if i.IsFile() {
		h := FileHash(i)
		if _, err := io.Copy(h, i.Content.Reader()); err != nil {
			t.Fatal(err)
		}
		if tree.Sum(h.Sum(nil)) != i.Object {
			t.Errorf("FileHash differs from Checksum")
		}
	}
	return Hex(i.Object)
}

// Made by libostree 2022.7.
func TestFileVectors(t *testing.T) {
	plain := tree.NewFile(0o644, content.Ref{})
	const header = "0000001200000000" + "00000000" + "00000000" + "000081a4" + "00000000" + "00" + "11"
	if got := hex.EncodeToString(fileHeader(plain)); got != header {
		t.Errorf("header %s, want %s", got, header)
	}
	fancy := tree.NewFile(0o4755, content.String("x"))
	fancy.SetXattr("user.b", "v")
	fancy.SetXattr("security.selinux", "system_u:object_r:lib_t:s0")
	osRelease := tree.NewLink("../lib/os-release")
	for _, c := range []struct {
		name  string
		inode *tree.Inode
		want  string
	}{
		{"empty", plain, "cc700d46f407c6c5ab2d5dde474366a928b7398277e61162e7f8ec06f469f07e"},
		{"hello", tree.NewFile(0o644, content.String("hello\n")), "44f778e59f0a4748d6b0c90a47347212a231c4ad1e8f7ea5c5dffc7749153a6b"},
		{"link", tree.NewLink("sysroot/ostree"), "d37269e3f46023fd0275212473e07011894cdf4148cbf3fb5758a7e9471dad8e"},
		{"os-release", osRelease, "c89b97300bc8e3c353bbf0945ef9472b32e651f2dcf1e40ee591c50320f5d9b0"},
		{"setuid and xattrs", fancy, "1f8414a46d17d5464be4435a36939e26e3df2a61ee68c3eeea73d6b3dedcda1f"},
	} {
		if got := fileSum(t, c.inode); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if b := fileHeader(osRelease); b[3] != 0x23 || !strings.HasSuffix(hex.EncodeToString(b), "656173650022") {
		t.Errorf("header of os-release %x", b)
	}
}

const (
	metaRoot  = "446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488"
	emptyTree = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
)

func TestDirectoryVectors(t *testing.T) {
	r := NewRepo()
	labelled := &DirMeta{Mode: 0o40755, Xattrs: []tree.Xattr{{Name: "security.selinux", Value: "system_u:object_r:usr_t:s0\x00"}}}
	hello := &DirTree{Files: []DirFile{{"bar", sum(t, "44f778e59f0a4748d6b0c90a47347212a231c4ad1e8f7ea5c5dffc7749153a6b")}}}
	for _, c := range []struct {
		name string
		typ  objectType
		b    []byte
		want string
	}{
		{"dirmeta", typeDirMeta, (&DirMeta{Mode: 0o40755}).Encode(), metaRoot},
		{"dirmeta with label", typeDirMeta, labelled.Encode(), "9c359a8bcc95143dcc1db8f6e3897d4e53e2562aa9ac41b1d5a0c1dfb2f6c468"},
		{"empty dirtree", typeDirTree, (&DirTree{}).Encode(), emptyTree},
		{"dirtree", typeDirTree, hello.Encode(), "874591d50a4bb2e1d9d5d2893567a6b7b80aae62105728f6deea461fe6957cd8"},
	} {
		got, err := r.addObject(c.typ, c.b)
		if err != nil || Hex(got) != c.want {
			t.Errorf("%s: %s, %v, want %s", c.name, Hex(got), err, c.want)
		}
	}
	if b := hex.EncodeToString((&DirMeta{Mode: 0o40755}).Encode()); b != "0000000000000000000041ed" {
		t.Errorf("dirmeta %s", b)
	}
	if b := hello.Encode(); !strings.HasPrefix(string(b), "bar\x00") || hex.EncodeToString(b[36:]) != "042526" {
		t.Errorf("dirtree %x", b)
	}
}

func TestCommitVectors(t *testing.T) {
	small := &Commit{
		Metadata: []Metadata{{keyImporter, String("0.15.3")}},
		Time:     42,
		Contents: sum(t, "7826a984d710d9ffc10e8c001315aaf13fa29baff43d925bd4909a4eb176d528"),
		Meta:     sum(t, metaRoot),
	}
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	merge := &Commit{
		Metadata: []Metadata{
			{keyConfig, String(`{"architecture":"amd64","config":{"Labels":{"containers.bootc":"1"}},"os":"linux","rootfs":{"diff_ids":["` + digest("a") + `","` + digest("b") + `"],"type":"layers"}}`)},
			{keyImporter, String("0.15.3")},
			{keyManifest, String(`{"config":{"digest":"` + digest("c") + `","mediaType":"application/vnd.oci.image.config.v1+json","size":270},"layers":[],"schemaVersion":2}`)},
			{keyManifestDigest, String(digest("d"))},
		},
		Time:     1700000000,
		Contents: sum(t, emptyTree),
		Meta:     sum(t, metaRoot),
	}
	child := *merge
	child.Parent = sum(t, "8f38c18f821ed5ea7407a760c6aee0bcc94b471a2d02c0c0b148956afdb92551")
	r := NewRepo()
	for _, c := range []struct {
		name   string
		commit *Commit
		size   int
		tail   string
		want   string
	}{
		{"layer", small, 118, "502524232323", "6c4aea0b869c8e035689cae99a075748f0d6b987b79cc110aa2e1d977e0ee938"},
		{"merge", merge, 764, "d002a502a402a302a302a302", "8f38c18f821ed5ea7407a760c6aee0bcc94b471a2d02c0c0b148956afdb92551"},
		{"merge with parent", &child, 796, "", "2f15386cf73b0d333f76be0631bce112eaca9425d711ce6d71380282114f8b3c"},
	} {
		b := c.commit.Encode()
		got, err := r.addObject(typeCommit, b)
		if err != nil || Hex(got) != c.want || len(b) != c.size || !strings.HasSuffix(hex.EncodeToString(b), c.tail) {
			t.Errorf("%s: %s, %d bytes ending %x, %v", c.name, Hex(got), len(b), b[len(b)-12:], err)
		}
		if back, err := ParseCommit(b); err != nil || back.Time != c.commit.Time || len(back.Metadata) != len(c.commit.Metadata) {
			t.Errorf("%s: read back %+v, %v", c.name, back, err)
		}
	}
}
