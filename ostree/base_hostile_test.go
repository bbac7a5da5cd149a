package ostree

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// smallBase is a base with one of each, as a commit layer and two chunks.
type smallBase struct {
	repo   *Repo
	commit tree.Sum
	layers []*tree.Inode
	paths  map[string]tree.Sum // objects by what they are
}

func newSmallBase(t testing.TB, form sidecarForm) *smallBase {
	t.Helper()
	root := tree.NewDir(0o755)
	put(t, root, "usr/bin/sh", file(0o755, "#!")).SetXattr(xattrSELinux, "system_u:object_r:bin_t:s0\x00")
	put(t, root, "usr/bin/empty", file(0o644, ""))
	put(t, root, "usr/bin/plain", file(0o644, "plain"))
	put(t, root, "usr/lib/link", tree.NewLink("../bin/sh")).SetXattr("user.a", "v")
	put(t, root, "usr/etc", tree.NewDir(0o700)).SetXattr("user.d", "dir")
	for k := range 12 {
		put(t, root, fmt.Sprintf("usr/share/%d", k), file(0o644, fmt.Sprint(k)))
	}
	b := &smallBase{repo: NewRepo(), paths: map[string]tree.Sum{}}
	b.commit = commitOurs(t, b.repo, root, 1)
	b.layers = encapsulate(t, b.repo, b.commit, 2, form, true)
	_ = tree.Walk(root, func(p string, i *tree.Inode) error {
		if !i.IsDir() {
			b.paths[p] = i.Object
		}
		return nil
	})
	return b
}

// at returns the layer that has an entry, and its parent directory.
func (b *smallBase) at(t testing.TB, path string) (layer int, dir *tree.Inode, name string) {
	t.Helper()
	for k, l := range b.layers {
		if tree.Lookup(l, path) != nil {
			cut := strings.LastIndexByte(path, '/')
			return k, tree.Lookup(l, path[:cut]), path[cut+1:]
		}
	}
	t.Fatalf("no layer has %s", path)
	return 0, nil, ""
}

// change replaces the inode of an object by a changed copy.
func (b *smallBase) change(t testing.TB, path string, f func(i *tree.Inode)) {
	t.Helper()
	_, dir, name := b.at(t, path)
	c := dir.Child(name).Copy()
	c.Object = tree.Sum{}
	f(c)
	dir.Set(name, c)
}

func (b *smallBase) remove(t testing.TB, path string) {
	t.Helper()
	_, dir, name := b.at(t, path)
	dir.Remove(name)
}

func (b *smallBase) file(p string) string { return objectPath(b.paths[p], ".file") }

// setTree makes a base of the given dirtree objects, the last of which is the
// root, all directories having the metadata 0:0 0755.
func (b *smallBase) setTree(t testing.TB, objects ...[]byte) {
	t.Helper()
	m := DirMeta{Mode: tree.TypeDir | 0o755}
	c := &Commit{Contents: sumOf(objects[len(objects)-1]), Meta: sumOf(m.Encode())}
	root := tree.NewDir(0o755)
	for _, o := range objects {
		put(t, root, objectPath(sumOf(o), ".dirtree"), file(0o644, string(o)))
	}
	put(t, root, objectPath(c.Meta, ".dirmeta"), file(0o644, string(m.Encode())))
	b.commit = sumOf(c.Encode())
	put(t, root, objectPath(b.commit, ".commit"), file(0o644, string(c.Encode())))
	b.layers = []*tree.Inode{root}
}

// zeros is content of any size that takes no memory.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

func hugeFile(size int64) *tree.Inode { return tree.NewFile(0o644, content.NewRef(zeros{}, 0, size)) }

// Whatever is wrong with a base is found, and the object is named.
func TestHostileBase(t *testing.T) {
	other := tree.Sum{0xab, 1}
	const sh = "/usr/bin/sh"
	for _, c := range []struct {
		name string
		form sidecarForm
		do   func(t *testing.T, b *smallBase)
		want string // in the message; {x} is the checksum of the file x
	}{
		{"content", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, b.file(sh), func(i *tree.Inode) { i.Content = content.String("##") })
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"content, one byte more", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, b.file(sh), func(i *tree.Inode) { i.Content = content.String("#!x") })
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"content of a file without xattrs", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, b.file("/usr/bin/plain"), func(i *tree.Inode) { i.Content = content.String("other") })
			unpackSums(t, b.layers)
		}, "object {/usr/bin/plain}.file: has the checksum "},
		{"mode", formV0, func(t *testing.T, b *smallBase) {
			b.change(t, b.file(sh), func(i *tree.Inode) { i.Mode |= 0o4000 })
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"owner", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, b.file(sh), func(i *tree.Inode) { i.UID++ })
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"link target", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, b.file("/usr/lib/link"), func(i *tree.Inode) { i.Target = "/etc/shadow" })
		}, "object {/usr/lib/link}.file: has the checksum "},
		{"link instead of a file", formV1, func(t *testing.T, b *smallBase) {
			_, dir, name := b.at(t, b.file(sh))
			dir.Set(name, tree.NewLink("/etc/shadow"))
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"device", formV1, func(t *testing.T, b *smallBase) {
			_, dir, name := b.at(t, b.file(sh))
			dir.Set(name, &tree.Inode{Mode: tree.TypeChar | 0o600})
		}, "object {/usr/bin/sh}.file is not a regular file"},
		{"directory", formV1, func(t *testing.T, b *smallBase) {
			_, dir, name := b.at(t, b.file(sh))
			dir.Set(name, tree.NewDir(0o755))
		}, "object {/usr/bin/sh}.file is not a regular file"},
		{"two objects exchanged", formV1, func(t *testing.T, b *smallBase) {
			_, dir1, name1 := b.at(t, b.file("/usr/share/1"))
			_, dir2, name2 := b.at(t, b.file("/usr/share/2"))
			one, two := dir1.Child(name1), dir2.Child(name2)
			dir1.Set(name1, two)
			dir2.Set(name2, one)
			unpackSums(t, b.layers)
		}, ".file: has the checksum "},
		{"file missing", formV1, func(t *testing.T, b *smallBase) {
			b.remove(t, b.file(sh))
			b.remove(t, objectPath(b.paths[sh], sidecarV1))
		}, "object {/usr/bin/sh}.file: is missing; it is /usr/bin/sh"},
		{"xattrs of a missing file", formV1, func(t *testing.T, b *smallBase) {
			b.remove(t, b.file(sh))
		}, "object {/usr/bin/sh}.file is missing, and its xattrs are there"},
		{"xattrs of a missing file, version 0", formV0, func(t *testing.T, b *smallBase) {
			b.remove(t, b.file(sh))
		}, "object {/usr/bin/sh}.file is missing, and its xattrs are there"},
		{"xattrs missing", formV1, func(t *testing.T, b *smallBase) {
			b.remove(t, objectPath(b.paths[sh], sidecarV1))
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"xattrs changed", formV1, func(t *testing.T, b *smallBase) {
			var e encoder
			e.xattrs([]tree.Xattr{{Name: xattrSELinux, Value: "system_u:object_r:shadow_t:s0\x00"}})
			b.change(t, objectPath(b.paths[sh], sidecarV1), func(i *tree.Inode) { i.Content = content.Bytes(e.buf) })
		}, "object {/usr/bin/sh}.file: has the checksum "},
		{"xattrs out of order", formV1, func(t *testing.T, b *smallBase) {
			var e encoder
			e.xattrs([]tree.Xattr{{Name: "user.b", Value: "1"}, {Name: "user.a", Value: "2"}})
			b.change(t, objectPath(b.paths[sh], sidecarV1), func(i *tree.Inode) { i.Content = content.Bytes(e.buf) })
		}, `object {/usr/bin/sh}.file: xattr "user.a" is empty or out of order`},
		{"xattrs of no type", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, objectPath(b.paths[sh], sidecarV1), func(i *tree.Inode) { i.Content = content.String("\xff\xff") })
		}, "object {/usr/bin/sh}.file: xattrs: "},
		{"xattrs too large", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, objectPath(b.paths[sh], sidecarV1), func(i *tree.Inode) { *i = *hugeFile(maxSidecar + 1) })
		}, "object {/usr/bin/sh}.file: xattrs: 1048577 bytes"},
		{"xattrs are a link", formV1, func(t *testing.T, b *smallBase) {
			_, dir, name := b.at(t, objectPath(b.paths[sh], sidecarV1))
			dir.Set(name, tree.NewLink("x"))
		}, "object {/usr/bin/sh}.file-xattrs-link is not a regular file"},
		{"xattrs in two formats", formV1, func(t *testing.T, b *smallBase) {
			layer, dir, name := b.at(t, objectPath(b.paths[sh], sidecarV1))
			put(t, b.layers[layer], objectPath(b.paths[sh], sidecarV0), dir.Child(name))
		}, "object {/usr/bin/sh}.file has xattrs in two formats"},
		{"shared xattrs of another checksum", formV1Links, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], objectPath(other, sidecarSharedV1), file(0o644, ""))
		}, "object " + Hex(other) + ".file-xattrs has the checksum "},
		{"shared xattrs of another checksum, version 0", formV0, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/xattrs/"+Hex(other), file(0o644, ""))
		}, "/xattrs/" + Hex(other) + " has the checksum "},
		{"shared xattrs of no checksum", formV0, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/xattrs/x", file(0o644, ""))
		}, "/xattrs/x: not a checksum"},
		{"extra file", formV1, func(t *testing.T, b *smallBase) {
			f := file(0o644, "extra")
			checksum(t, rootOf(f))
			put(t, b.layers[2], objectPath(f.Object, ".file"), f)
		}, ".file: is not part of the commit"},
		{"extra dirtree", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[0], objectPath(other, ".dirtree"), file(0o644, ""))
		}, ".dirtree: is not part of the commit"},
		{"dirtree missing", formV1, func(t *testing.T, b *smallBase) {
			c, _ := ParseCommit(b.repo.Commit(b.commit))
			b.remove(t, objectPath(c.Contents, ".dirtree"))
		}, ".dirtree: is missing"},
		{"dirtree changed", formV1, func(t *testing.T, b *smallBase) {
			c, _ := ParseCommit(b.repo.Commit(b.commit))
			d := &DirTree{}
			b.change(t, objectPath(c.Contents, ".dirtree"), func(i *tree.Inode) { i.Content = content.Bytes(d.Encode()) })
		}, ".dirtree: has the checksum " + Hex(sumOf([]byte{0}))},
		{"dirtree is a link", formV1, func(t *testing.T, b *smallBase) {
			c, _ := ParseCommit(b.repo.Commit(b.commit))
			_, dir, name := b.at(t, objectPath(c.Contents, ".dirtree"))
			dir.Set(name, tree.NewLink("x"))
		}, ".dirtree is not a regular file"},
		{"dirmeta missing", formV1, func(t *testing.T, b *smallBase) {
			c, _ := ParseCommit(b.repo.Commit(b.commit))
			b.remove(t, objectPath(c.Meta, ".dirmeta"))
		}, ".dirmeta: is missing"},
		{"dirmeta too large", formV1, func(t *testing.T, b *smallBase) {
			c, _ := ParseCommit(b.repo.Commit(b.commit))
			b.change(t, objectPath(c.Meta, ".dirmeta"), func(i *tree.Inode) { *i = *hugeFile(maxTarMetadata + 1) })
		}, ".dirmeta: has 10485761 bytes"},
		{"metadata in a chunk", formV1, func(t *testing.T, b *smallBase) {
			_, dir, name := b.at(t, objectPath(b.commit, ".commit"))
			put(t, b.layers[1], objectPath(b.commit, ".commit"), dir.Child(name))
		}, ".commit: is in a layer that may hold files only"},
		{"no commit", formV1, func(t *testing.T, b *smallBase) {
			b.remove(t, objectPath(b.commit, ".commit"))
		}, "layer 1 holds no commit object"},
		{"layers out of order", formV1, func(t *testing.T, b *smallBase) { slices.Reverse(b.layers) }, "layer 3: object "},
		{"two commits", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[0], objectPath(other, ".commit"), file(0o644, ""))
		}, "layer 1 holds 2 commit objects"},
		{"commit changed", formV1, func(t *testing.T, b *smallBase) {
			b.change(t, objectPath(b.commit, ".commit"), func(i *tree.Inode) { i.Content = content.String("x") })
		}, ".commit: has the checksum "},
		{"no commit at all", formV1, func(t *testing.T, b *smallBase) {
			text := "no commit"
			b.remove(t, objectPath(b.commit, ".commit"))
			b.commit = sumOf([]byte(text))
			put(t, b.layers[0], objectPath(b.commit, ".commit"), file(0o644, text))
		}, ".commit: commit: "},
		{"label", formV1, func(t *testing.T, b *smallBase) { b.commit = other }, "label ostree.commit is \"" + Hex(other)},
		{"detached metadata of another commit", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[0], objectPath(other, ".commitmeta"), file(0o644, ""))
		}, ".commitmeta: belongs to no commit"},
		{"detached metadata of no type", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[0], objectPath(b.commit, ".commitmeta"), file(0o644, "x"))
		}, ".commitmeta: "},
		{"detached metadata in a chunk", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], objectPath(b.commit, ".commitmeta"), file(0o644, ""))
		}, ".commitmeta: is in a layer that may hold files only"},
		{"unknown kind", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], objectPath(other, ".blah"), file(0o644, ""))
		}, "not a kind of object"},
		{"no kind", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], objectPath(other, ""), file(0o644, ""))
		}, "not the name of an object"},
		{"upper case", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/objects/AB/"+Hex(other)[2:]+".file", file(0o644, ""))
		}, "objects/AB/0100"},
		{"long name", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/objects/ab/"+strings.Repeat("é", 120), file(0o644, ""))
		}, "é…: not the name of an object"},
		{"fan of three digits", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/objects/"+Hex(other)[:3]+"/"+Hex(other)[3:]+".file", file(0o644, ""))
		}, "not the name of an object"},
		{"file in place of a fan", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/objects/ab", file(0o644, ""))
		}, "/objects/ab: not an object"},
		{"objects are a file", formV1, func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/objects", file(0o644, ""))
		}, "/objects is not a directory"},
		{"a name that is both", formV1, func(t *testing.T, b *smallBase) {
			d := DirTree{Files: []DirFile{{Name: "a"}}, Dirs: []DirDir{{"a", sumOf([]byte{0}), sumOf((&DirMeta{Mode: 0o40755}).Encode())}}}
			b.setTree(t, []byte{0}, d.Encode())
		}, `"a" is both a file and a directory`},
		{"a name that is not UTF-8", formV1, func(t *testing.T, b *smallBase) {
			b.setTree(t, (&DirTree{Files: []DirFile{{Name: "\xff"}}}).Encode())
		}, `the name "\xff" is not UTF-8`},
		{"a name with a slash", formV1, func(t *testing.T, b *smallBase) {
			b.setTree(t, (&DirTree{Files: []DirFile{{Name: "a/b"}}}).Encode())
		}, `invalid name "a/b"`},
		// Thirty objects stand for a billion directories.
		{"bomb", formV1, func(t *testing.T, b *smallBase) { b.setTree(t, chain(30, "a", "b")...) }, "more than 4194304 paths below"},
		{"deep", formV1, func(t *testing.T, b *smallBase) { b.setTree(t, chain(maxDepth+2, "a")...) }, "nested too deeply"},
		{"deep behind a short cut", formV1, func(t *testing.T, b *smallBase) {
			// Each directory has, first, one that was seen before, of half the depth.
			objects := chain(maxDepth/2+2, "z")
			half := sumOf(objects[len(objects)-1])
			meta := sumOf((&DirMeta{Mode: 0o40755}).Encode())
			below := half
			for range maxDepth / 2 {
				o := (&DirTree{Dirs: []DirDir{{"a", half, meta}, {"b", below, meta}}}).Encode()
				objects = append(objects, o)
				below = sumOf(o)
			}
			b.setTree(t, objects...)
		}, "nested too deeply"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newSmallBase(t, c.form)
			want := c.want
			for p, s := range b.paths {
				want = strings.ReplaceAll(want, "{"+p+"}", Hex(s))
			}
			c.do(t, b)
			r := NewRepo()
			_, err := r.AddBase(context.Background(), b.layers, Hex(b.commit))
			if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.BadImage {
				t.Errorf("error of class %d: %v\nwant %s", fault.ClassOf(err), err, want)
			}
			if err != nil && (strings.Count(err.Error(), "object ") > 2 || len(err.Error()) > 500) {
				t.Errorf("long message: %v", err)
			}
			if len(r.files)+len(r.objects) > 0 {
				t.Error("parts of the base are in the repository")
			}
		})
	}
}

func rootOf(i *tree.Inode) *tree.Inode {
	root := tree.NewDir(0o755)
	root.Set("x", i)
	return root
}

// chain returns n dirtree objects, each of which has the one before it under all
// of the names.
func chain(n int, names ...string) [][]byte {
	objects := [][]byte{{0}}
	meta := sumOf((&DirMeta{Mode: tree.TypeDir | 0o755}).Encode())
	for range n {
		d := DirTree{}
		for _, name := range names {
			d.Dirs = append(d.Dirs, DirDir{name, sumOf(objects[len(objects)-1]), meta})
		}
		objects = append(objects, d.Encode())
	}
	return objects
}

// What ostree-ext takes as well, and images have.
func TestOddBase(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, b *smallBase){
		"object in two layers": func(t *testing.T, b *smallBase) {
			layer, dir, name := b.at(t, b.file("/usr/bin/sh"))
			put(t, b.layers[(layer+1)%3], b.file("/usr/bin/sh"), dir.Child(name).Copy())
			_, dir, name = b.at(t, objectPath(b.paths["/usr/bin/sh"], sidecarV1))
			put(t, b.layers[(layer+1)%3], objectPath(b.paths["/usr/bin/sh"], sidecarV1), dir.Child(name))
		},
		"layer twice":      func(t *testing.T, b *smallBase) { b.layers = append(b.layers, b.layers[1]) },
		"layer of nothing": func(t *testing.T, b *smallBase) { b.layers = append(b.layers, tree.NewDir(0o755)) },
		"label missing":    func(t *testing.T, b *smallBase) { b.commit = tree.Sum{} },
		"other files of a repository": func(t *testing.T, b *smallBase) {
			put(t, b.layers[1], "sysroot/ostree/repo/refs/heads/x", file(0o644, "x"))
			put(t, b.layers[1], "sysroot/ostree/repo/tmp/cache/x", file(0o644, "x"))
		},
		// All but those of version 1 leave out xattrs that are none.
		"no xattrs of a file without any": func(t *testing.T, b *smallBase) {
			b.remove(t, objectPath(b.paths["/usr/bin/plain"], sidecarV1))
		},
		"sums of unpacking": func(t *testing.T, b *smallBase) { unpackSums(t, b.layers) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newSmallBase(t, formV1)
			do(t, b)
			label := Hex(b.commit)
			if b.commit == (tree.Sum{}) {
				label = ""
			}
			r := NewRepo()
			base, err := r.AddBase(context.Background(), b.layers, label)
			if err != nil {
				t.Fatal(err)
			}
			if len(base.Layers) != len(b.layers) || name == "layer twice" && base.Layers[3] != base.Layers[1] {
				t.Errorf("layers %x", base.Layers)
			}
			if len(r.files) != len(b.repo.files) {
				t.Errorf("%d objects, want %d", len(r.files), len(b.repo.files))
			}
		})
	}
}

func TestAddBaseCancelled(t *testing.T) {
	b := newSmallBase(t, formV1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewRepo().AddBase(ctx, b.layers, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := NewRepo().AddBase(context.Background(), nil, ""); err == nil {
		t.Error("no layers were accepted")
	}
}
