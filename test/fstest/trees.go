package fstest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// DirOf returns a directory of the entries name, inode, name, inode ...
func DirOf(pairs ...any) *tree.Inode {
	d := tree.NewDir(0o755)
	for i := 0; i < len(pairs); i += 2 {
		d.Set(pairs[i].(string), pairs[i+1].(*tree.Inode))
	}
	return d
}

// File returns a regular file.
func File(s string) *tree.Inode { return tree.NewFile(0o644, content.String(s)) }

// With returns the inode after a change.
func With(i *tree.Inode, change func(*tree.Inode)) *tree.Inode {
	change(i)
	return i
}

// XattrFile returns a file with the extended attributes name, value, name,
// value ...
func XattrFile(pairs ...string) *tree.Inode {
	i := File("x")
	for k := 0; k < len(pairs); k += 2 {
		i.SetXattr(pairs[k], pairs[k+1])
	}
	return i
}

// Scattered returns a file of n blocks with holes between them.
func Scattered(t testing.TB, n int) *tree.Inode {
	t.Helper()
	pieces := make([]content.Piece, n)
	for i := range pieces {
		pieces[i] = content.Piece{Off: int64(i) * 2 * blockSize, Ref: content.String("data")}
	}
	return tree.NewFile(0o644, Sparse(t, int64(n)*2*blockSize, pieces...))
}

// Sparse returns the content of a file with holes.
func Sparse(t testing.TB, size int64, pieces ...content.Piece) content.Ref {
	t.Helper()
	ref, err := content.Sparse(size, pieces)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// Zeros returns size bytes that count as data but cost nothing to store.
func Zeros(size int64) content.Ref { return content.NewRef(zeroSource{}, 0, size) }

type zeroSource struct{}

func (zeroSource) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// Noise returns n bytes that depend on seed.
func Noise(seed uint64, n int) content.Ref {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return content.Bytes(b)
}

// ACL is u::rw-,u:1000:r--,g::r--,m::rw-,o::--- as getxattr returns it.
const ACL = "\x02\x00\x00\x00" +
	"\x01\x00\x06\x00\xff\xff\xff\xff" +
	"\x02\x00\x04\x00\xe8\x03\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" +
	"\x10\x00\x06\x00\xff\xff\xff\xff" +
	"\x20\x00\x00\x00\xff\xff\xff\xff"

// Objects returns a tree like that of an ostree deployment: n files in 256
// directories, each with a second name in another one.
func Objects(n int) *tree.Inode {
	root := tree.NewDir(0o755)
	repo, usr := tree.NewDir(0o755), tree.NewDir(0o755)
	root.Set("repo", repo)
	root.Set("usr", usr)
	spool := Noise(1, 64*KiB)
	for i := range n {
		name := fmt.Sprintf("%02x", i%256)
		if i < 256 {
			repo.Set(name, tree.NewDir(0o755))
		}
		if i%20 == 0 {
			usr.Set(fmt.Sprint(i/20), tree.NewDir(0o755))
		}
		sum := sha256.Sum256(binary.AppendUvarint(nil, uint64(i)))
		f := tree.NewFile(0o644, spool.Slice(int64(i%512), int64(i*31%60000)))
		f.SetXattr("security.selinux", fmt.Sprintf("system_u:object_r:type%d_t:s0\x00", i%50))
		repo.Child(name).Set(fmt.Sprintf("%x.file", sum[1:]), f)
		usr.Child(fmt.Sprint(i/20)).Set(fmt.Sprintf("file-%d", i), f)
	}
	tree.Walk(root, func(_ string, i *tree.Inode) error { i.Entries(); return nil })
	return root
}

// Chooser takes decisions from bytes, and 0 when they are used up.
type Chooser struct{ B []byte }

// UpTo returns a number from 0 to n.
func (c *Chooser) UpTo(n int) int {
	if len(c.B) == 0 {
		return 0
	}
	v := int(c.B[0])
	c.B = c.B[1:]
	if n > 255 && len(c.B) > 0 {
		v |= int(c.B[0]) << 8
		c.B = c.B[1:]
	}
	return v % (n + 1)
}
