package ostree

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// FuzzAddBase damages a base in ways that the input says. What is accepted all
// the same is the commit, whole.
func FuzzAddBase(f *testing.F) {
	f.Add([]byte{})
	for op := range byte(10) {
		f.Add([]byte{op, 3, 7, 1, op + 1, 40, 9, 0})
		f.Add([]byte{op, 90, 1, 200, 'x', 'y', op, 17, 250, 3})
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		form := formMixed
		if len(in) > 0 {
			form = sidecarForm(in[0] % 4)
		}
		b := newSmallBase(t, form)
		if len(in)%2 == 0 {
			unpackSums(t, b.layers)
		}
		for len(in) >= 4 {
			damage(b, in[0], binary.LittleEndian.Uint16(in[1:]), in[3], in[4:])
			in = in[4:]
		}
		r := NewRepo()
		base, err := r.AddBase(context.Background(), b.layers, Hex(b.commit))
		if err != nil {
			if fault.ClassOf(err) != fault.BadImage {
				t.Fatalf("class %d: %v", fault.ClassOf(err), err)
			}
			return
		}
		if base.Commit != b.commit || len(r.files) != len(b.repo.files) {
			t.Fatalf("commit %s with %d files, want %s with %d", Hex(base.Commit), len(r.files), Hex(b.commit), len(b.repo.files))
		}
		c, err := ParseCommit(r.Commit(base.Commit))
		if err != nil {
			t.Fatal(err)
		}
		// The sums are computed again from what is there.
		copied := copyDirs(base.Tree)
		_ = tree.Walk(copied, func(_ string, dir *tree.Inode) error {
			for _, e := range dir.Entries() {
				if !e.Inode.IsDir() {
					i := e.Inode.Copy()
					i.Object = tree.Sum{}
					dir.Set(e.Name, i)
				}
			}
			return nil
		})
		checksum(t, copied)
		if contents, meta, err := NewRepo().AddTree(copied); err != nil || contents != c.Contents || meta != c.Meta {
			t.Fatalf("tree %s %s: %v", Hex(contents), Hex(meta), err)
		}
	})
}

// damage does one thing to the at-th of all entries below the objects.
func damage(b *smallBase, op byte, at uint16, arg byte, text []byte) {
	layer := b.layers[int(arg)%len(b.layers)]
	type place struct {
		dir  *tree.Inode
		name string
	}
	var all []place
	_ = tree.Walk(layer, func(p string, i *tree.Inode) error {
		for _, e := range i.Entries() {
			if strings.HasPrefix(p, sysrootRepo) && (!e.Inode.IsDir() || arg > 250) {
				all = append(all, place{i, e.Name})
			}
		}
		return nil
	})
	if len(all) == 0 {
		return
	}
	p := all[int(at)%len(all)]
	i := p.dir.Child(p.name).Copy()
	if !i.IsDir() && op%10 != 9 {
		i.Object = tree.Sum{} // as unpacking would have computed another
	}
	switch op % 10 {
	case 0:
		p.dir.Remove(p.name)
		return
	case 1:
		if i.IsFile() {
			i.Content = content.Bytes(slices.Clone(text))
		}
	case 2:
		i.Mode ^= 1 << (arg % 9)
	case 3:
		i.UID += uint32(arg)
	case 4:
		i.Target += string(rune(arg))
		if !i.IsLink() {
			i.Target = ""
		}
	case 5:
		i.SetXattr("user."+string(rune('a'+arg%26)), string(text))
	case 6: // another name
		name := p.name[:len(p.name)/2] + string(text)
		if tree.ValidName(name) {
			p.dir.Set(name, i)
		}
		return
	case 7: // to another layer
		p.dir.Remove(p.name)
		to, err := tree.MkdirAll(b.layers[(int(arg)+1)%len(b.layers)], sysrootRepo+"/objects/"+p.name[:min(2, len(p.name))])
		if err == nil {
			to.Set(p.name, i)
		}
		return
	case 8: // one in place of another
		q := all[(int(at)+int(arg))%len(all)]
		i = q.dir.Child(q.name)
	case 9: // bytes of a metadata object turned
		if i.IsFile() {
			c, err := i.Content.ReadAll(1 << 20)
			if err != nil || len(c) == 0 {
				return
			}
			c[int(arg)%len(c)] ^= 1 << (op % 8)
			i.Content = content.Bytes(c)
			i.Object = tree.Sum{}
		}
	}
	p.dir.Set(p.name, i)
}
