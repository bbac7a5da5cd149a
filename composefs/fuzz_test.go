package composefs

import (
	"fmt"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// FuzzSameAsMkcomposefs makes a tree of the input and compares the image with
// that of libcomposefs.
func FuzzSameAsMkcomposefs(f *testing.F) {
	need(f, "mkcomposefs")
	f.Add([]byte("\x00\x10dir\x03\x20file\x02\xfflink"))
	f.Add([]byte("\x05\x00\x00\x00\xff\xff\xff\x01\x02\x03\x04\x05\x06\x07\x08\x09"))
	noise := make([]byte, 3000)
	x := uint32(1)
	for i := range noise {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	f.Add(noise[:300])
	f.Add(noise)
	f.Fuzz(func(t *testing.T, data []byte) {
		root := treeOf(data[:min(len(data), 1<<14)])
		got, err := Write(root, Options{Digest: someDigests})
		if err != nil {
			t.Skip(err)
		}
		sameImage(t, got, mkcomposefs(t, dump(t, root, false, someDigests)))
	})
}

// treeOf makes a tree of any input.
func treeOf(data []byte) *tree.Inode {
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		c := data[0]
		data = data[1:]
		return int(c)
	}
	text := func(n int) string {
		b := make([]byte, n)
		c := next()
		for k := range b {
			if b[k] = byte(c + k*k); b[k] == 0 || b[k] == '/' {
				b[k] = '_'
			}
		}
		return string(b)
	}
	root := tree.NewDir(0o755)
	dirs := []*tree.Inode{root}
	for len(data) > 0 {
		dir := dirs[next()%len(dirs)]
		name := text(1 + next()%255)
		var i *tree.Inode
		switch k := next(); k % 8 {
		case 0, 1:
			i = tree.NewDir(uint32(k))
			dirs = append(dirs, i)
		case 2:
			i = tree.NewLink(text(1 + next()*16%4095))
		case 3:
			i = tree.NewFile(0o7777, content.Ref{})
		case 4:
			i = device(tree.TypeChar, uint32(next()), uint32(next()%2))
		default:
			i = object(int64(next())<<(next()%36), fmt.Sprint(next()%8))
		}
		for range next() % 4 {
			prefix := []string{"user.", "trusted.", "security.", "trusted.overlay.", "other.", "system.posix_acl_access"}[next()%6]
			with(i, prefix+text(next()%100), text(next()*4))
		}
		if next()%8 == 0 {
			i.UID, i.Mtime = uint32(next())<<9, int64(next()%3)
		}
		if tree.ValidName(name) && dir.Child(name) == nil {
			dir.Set(name, i)
		}
	}
	return root
}
