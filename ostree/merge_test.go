package ostree

import (
	"fmt"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/tree"
)

// randomLayers makes layers out of arbitrary bytes. There are few names, so that
// the layers collide a lot.
func randomLayers(data []byte) []*tree.Inode {
	names := []string{"a", "b", "usr", "etc", "-x", ".a", "hostname", "var"}
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	perms := []uint32{0o755, 0o700, 0o1777, 0o2750}
	var layers []*tree.Inode
	for range 1 + next()%4 {
		layer := tree.NewDir(perms[next()%len(perms)])
		for n := next() % 24; n > 0 && len(data) > 0; n-- {
			var parts []string
			for range next() % 3 {
				parts = append(parts, names[next()%len(names)])
			}
			name := names[next()%len(names)]
			var i *tree.Inode
			switch next() % 8 {
			case 0, 1:
				i = file(0o644, strings.Repeat("x", next()%3))
			case 2, 3, 4:
				i = tree.NewDir(perms[next()%len(perms)])
			case 5:
				i = tree.NewLink(name)
			case 6:
				name, i = whiteoutPrefix+name, file(0o600, "")
			case 7:
				name, i = whiteoutOpaque, file(0o644, "")
			}
			_ = tree.Put(layer, path.Join(append(parts, name)...), i) // a file may be in the way
		}
		layers = append(layers, layer)
	}
	return layers
}

// describe lists a tree, a line for each name. Directories come with their
// permissions, files with their size and target.
func describe(root *tree.Inode) []string {
	var lines []string
	_ = tree.Walk(root, func(p string, i *tree.Inode) error {
		lines = append(lines, describeOne(p, i))
		return nil
	})
	slices.Sort(lines)
	return lines
}

func describeOne(p string, i *tree.Inode) string {
	return fmt.Sprintf("%s %o %d %d:%d %d %s %q", p, i.Mode, i.Content.Size(), i.UID, i.GID, len(i.Xattrs), Hex(i.Object)[:8], i.Target)
}

// model merges layers in another way: a flat map from paths to inodes.
func model(layers []*tree.Inode) []string {
	have := map[string]*tree.Inode{}
	remove := func(p string, self bool) {
		for q := range have {
			if self && q == p || strings.HasPrefix(q, strings.TrimSuffix(p, "/")+"/") && q != p {
				delete(have, q)
			}
		}
	}
	for _, layer := range layers {
		byDir := map[string][]tree.Entry{}
		var dirs []string
		_ = tree.Walk(layer, func(p string, i *tree.Inode) error {
			if i.IsDir() {
				dirs = append(dirs, p)
				byDir[p] = i.Entries()
			}
			return nil
		})
		// Parents first; what a directory does to its own files never touches
		// another directory of the same layer that comes before it.
		for _, p := range dirs {
			if old := have[p]; old == nil || !old.IsDir() || tree.Lookup(layer, p+"/"+whiteoutOpaque) != nil {
				remove(p, true)
				have[p] = tree.Lookup(layer, p)
			}
			for _, e := range byDir[p] {
				name, hides := strings.CutPrefix(e.Name, ".wh.")
				switch {
				case e.Inode.IsDir():
				case hides:
					remove(path.Join(p, name), true)
				default:
					remove(path.Join(p, e.Name), true)
					have[path.Join(p, e.Name)] = e.Inode
				}
			}
		}
	}
	for _, p := range []string{"/usr/etc/hostname", "/usr/etc/resolv.conf"} {
		if i := have[p]; i != nil && i.IsFile() && i.Content.Size() == 0 {
			delete(have, p)
		}
	}
	var lines []string
	for p, i := range have {
		lines = append(lines, describeOne(p, i))
	}
	slices.Sort(lines)
	return lines
}

func FuzzMerge(f *testing.F) {
	for seed := range 20 {
		f.Add(randomBytes(uint64(seed), 300))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		layers := randomLayers(data)
		var before [][]string
		for _, l := range layers {
			before = append(before, describe(l))
		}
		merged, err := Merge(layers...)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "merge", describe(merged), model(layers))
		for k, l := range layers {
			diff(t, fmt.Sprintf("layer %d has changed", k), describe(l), before[k])
		}
		_ = tree.Walk(merged, func(p string, i *tree.Inode) error {
			if strings.HasPrefix(path.Base(p), ".wh.") {
				t.Errorf("%s is left", p)
			}
			return nil
		})
	})
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(r.Uint32())
	}
	return b
}

// The real tool, run with the options of ostree-ext, merges to the same
// dirtrees and dirmetas.
func TestMergeAsLibostree(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			layers := randomLayers(randomBytes(seed, 400))
			for k := range layers {
				// The real tool reads an empty hostname as content.
				_ = tree.Walk(own(layers[k]), func(p string, i *tree.Inode) error {
					i.Mode |= 0o600
					return nil
				})
			}
			dir := t.TempDir()
			repo, root := filepath.Join(dir, "repo"), filepath.Join(dir, "root")
			ostree(t, "--repo="+repo, "init", "--mode=bare")
			for k, l := range layers {
				branch := fmt.Sprintf("layer-%d", k)
				commitTar(t, repo, branch, l, 1)
				ostree(t, "--repo="+repo, "checkout", "--union", "--whiteouts", "--force-copy-zerosized", "--require-hardlinks", branch, root)
			}
			ostree(t, "--repo="+repo, "commit", "--no-bindings", "--branch=merged", "--link-checkout-speedup", "--tree=dir="+root)
			real := strings.Split(strings.TrimSpace(ostree(t, "--repo="+repo, "ls", "-C", "-R", "merged")), "\n")

			merged, err := overlayAll(nil, layers)
			if err != nil {
				t.Fatal(err)
			}
			r := NewRepo()
			c, err := ParseCommit(r.Commit(commitOurs(t, r, merged, 1)))
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "merge", listRepo(t, r, c), real)
		})
	}
}

func TestMergeRules(t *testing.T) {
	layer := func(entries ...any) *tree.Inode {
		root := tree.NewDir(0o755)
		for k := 0; k < len(entries); k += 2 {
			put(t, root, entries[k].(string), entries[k+1].(*tree.Inode))
		}
		return root
	}
	x := func() *tree.Inode { return file(0o644, "x") }
	for _, c := range []struct {
		name   string
		layers []*tree.Inode
		want   []string // paths
	}{
		{"opaque clears lower layers only", []*tree.Inode{layer("d/old", x()), layer("d/new", x(), "d/.wh..wh..opq", x())}, []string{"/d", "/d/new"}},
		{"whiteout", []*tree.Inode{layer("d/a/b", x(), "d/c", x()), layer("d/.wh.a", x())}, []string{"/d", "/d/c"}},
		{"whiteout and new directory", []*tree.Inode{layer("d/a/b", x()), layer("d/.wh.a", x(), "d/a/n", x())}, []string{"/d", "/d/a", "/d/a/n"}},
		{"whiteout after the file of its own layer", []*tree.Inode{layer(".wh.-f", x(), "-f", x(), ".wh.f", x(), "f", x())}, []string{"/f"}},
		{"whiteout of nothing", []*tree.Inode{layer(".wh.a", x())}, nil},
		{"directory over file", []*tree.Inode{layer("a", x()), layer("a/b", x())}, []string{"/a", "/a/b"}},
		{"directory over link", []*tree.Inode{layer("a", tree.NewLink("b"), "b/c", x()), layer("a/d", x())}, []string{"/a", "/a/d", "/b", "/b/c"}},
		{"file over directory", []*tree.Inode{layer("a/b/c", x()), layer("a/b", x())}, []string{"/a", "/a/b"}},
		{"empty files of podman", []*tree.Inode{layer("usr/etc/hostname", file(0o644, ""), "usr/etc/resolv.conf", file(0o644, ""), "usr/etc/hosts", file(0o644, ""))}, []string{"/usr", "/usr/etc", "/usr/etc/hosts"}},
		{"filled files of podman", []*tree.Inode{layer("usr/etc/hostname", x())}, []string{"/usr", "/usr/etc", "/usr/etc/hostname"}},
		{"leftovers of AUFS", []*tree.Inode{layer(".wh..wh.aufs", x(), ".wh..wh.plnk/1", x(), "a", x())}, []string{"/a"}},
	} {
		merged, err := Merge(c.layers...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		_ = tree.Walk(merged, func(p string, i *tree.Inode) error {
			if p != "/" {
				got = append(got, p)
			}
			return nil
		})
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}

	first, second := layer("d", tree.NewDir(0o700)), layer("d", tree.NewDir(0o777))
	second.Child("d").SetXattr("user.x", "y")
	merged, err := Merge(first, second)
	if d := merged.Child("d"); err != nil || d.Perm() != 0o700 || len(d.Xattrs) != 0 {
		t.Errorf("the first metadata of a directory has been lost: %o", d.Mode)
	}
	put(t, second, "d/.wh..wh..opq", x())
	merged, err = Merge(first, second)
	if d := merged.Child("d"); err != nil || d.Perm() != 0o777 || len(d.Xattrs) != 1 {
		t.Errorf("an opaque directory has kept the old metadata: %o", d.Mode)
	}

	for _, bad := range []*tree.Inode{
		layer("a/.wh.", x()), layer("a/.wh..", x()), layer("a/.wh...", x()), layer("a/.wh.b", tree.NewLink("c")), layer("a/.wh.b/c", x()), nil,
	} {
		layers := []*tree.Inode{layer("a/b", x())}
		if layers = append(layers, bad); bad == nil {
			layers = nil
		}
		if _, err := Merge(layers...); fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
