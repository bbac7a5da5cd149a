package ostree

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// sidecarForm is a way to store xattrs in the layers of an encapsulated commit.
type sidecarForm int

const (
	formV1      sidecarForm = iota // a .file-xattrs-link for each object, as today
	formV1Links                    // shared .file-xattrs, and hard links to these
	formV0                         // shared files in xattrs, and hard links to these
	formMixed                      // by turns
)

// encapsulate makes the trees of the layers of a commit, as they come out of
// their tars: the commit layer and n chunks, between which the files are
// distributed. With paths, hard links stand where the files belong.
func encapsulate(t testing.TB, r *Repo, commit tree.Sum, n int, form sidecarForm, paths bool) []*tree.Inode {
	t.Helper()
	layers := make([]*tree.Inode, n+1)
	for k := range layers {
		layers[k] = tree.NewDir(0o755)
		put(t, layers[k], "sysroot/ostree/repo/config", file(0o644, "[core]\nrepo_version=1\nmode=bare-split-xattrs\n"))
		for fan := range 256 {
			put(t, layers[k], fmt.Sprintf("sysroot/ostree/repo/objects/%02x", fan), tree.NewDir(0o755))
		}
	}
	object := func(layer int, sum tree.Sum, suffix string, i *tree.Inode) {
		put(t, layers[layer], objectPath(sum, suffix), i)
	}
	c, err := ParseCommit(r.Commit(commit))
	if err != nil {
		t.Fatal(err)
	}
	object(0, commit, ".commit", file(0o644, string(r.Commit(commit))))
	shared := make([]map[string]*tree.Inode, n+1)
	placed := map[tree.Sum]*tree.Inode{}
	add := func(sum tree.Sum) *tree.Inode {
		if placed[sum] != nil {
			return placed[sum]
		}
		layer := int(sum[31]) % (n + 1)
		i := r.File(sum).Copy()
		i.Mtime, i.Object = 0, tree.Sum{}
		placed[sum] = i
		xattrs := i.Xattrs
		i.Xattrs = slices.DeleteFunc(slices.Clone(xattrs), func(x tree.Xattr) bool { return x.Name == xattrSELinux })
		var e encoder
		e.xattrs(xattrs)
		text := string(e.buf)
		f := form
		if f == formMixed {
			f = sidecarForm(len(placed) % 3)
		}
		if f == formV1 {
			object(layer, sum, sidecarV1, file(0o644, text))
		} else {
			if shared[layer] == nil {
				shared[layer] = map[string]*tree.Inode{}
			}
			key := fmt.Sprint(f) + text
			if shared[layer][key] == nil {
				own := sumOf([]byte(text))
				shared[layer][key] = file(0o644, text)
				if f == formV0 {
					put(t, layers[layer], "sysroot/ostree/repo/xattrs/"+Hex(own), shared[layer][key])
				} else {
					object(layer, own, sidecarSharedV1, shared[layer][key])
				}
			}
			object(layer, sum, map[sidecarForm]string{formV1Links: sidecarV1, formV0: sidecarV0}[f], shared[layer][key])
		}
		object(layer, sum, ".file", i)
		return i
	}
	seen := map[objectName]bool{}
	var walk func(path string, contents, meta tree.Sum)
	walk = func(path string, contents, meta tree.Sum) {
		if name := (objectName{meta, typeDirMeta}); !seen[name] {
			seen[name] = true
			object(0, meta, ".dirmeta", file(0o644, string(r.DirMeta(meta))))
		}
		if name := (objectName{contents, typeDirTree}); !seen[name] {
			seen[name] = true
			object(0, contents, ".dirtree", file(0o644, string(r.DirTree(contents))))
		}
		d, err := ParseDirTree(r.DirTree(contents))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Files {
			i := add(f.File)
			if paths {
				put(t, layers[int(f.File[31])%(n+1)], strings.Replace(join(path, f.Name), "/usr/etc/", "/etc/", 1), i)
			}
		}
		for _, s := range d.Dirs {
			walk(join(path, s.Name), s.Contents, s.Meta)
		}
	}
	walk("/", c.Contents, c.Meta)
	return layers
}

func objectPath(sum tree.Sum, suffix string) string {
	return "sysroot/ostree/repo/objects/" + Hex(sum)[:2] + "/" + Hex(sum)[2:] + suffix
}

// unpackSums sets the Objects that unpacking a layer computes: those of files as
// they are in the tar.
func unpackSums(t testing.TB, layers []*tree.Inode) {
	t.Helper()
	for _, l := range layers {
		checksum(t, l)
	}
}

// loadToolRepo reads a repository of the real tool, of the mode bare-user.
func loadToolRepo(t testing.TB, dir string) *Repo {
	t.Helper()
	r := NewRepo()
	names, err := filepath.Glob(filepath.Join(dir, "objects/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		stem, kind, _ := strings.Cut(filepath.Base(name), ".")
		id := sum(t, filepath.Base(filepath.Dir(name))+stem)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if kind != "file" {
			r.objects[objectName{id, objectType("." + kind)}] = b
			continue
		}
		meta := getxattr(t, name, "user.ostreemeta")
		i := &tree.Inode{UID: binary.BigEndian.Uint32(meta), GID: binary.BigEndian.Uint32(meta[4:]), Mode: binary.BigEndian.Uint32(meta[8:]), Object: id}
		if i.Xattrs, err = parseXattrs(meta[12:]); err != nil {
			t.Fatal(err)
		}
		if i.IsLink() {
			i.Target = strings.TrimRight(string(b), "\x00")
		} else {
			i.Content = content.Bytes(b)
		}
		r.files[id] = i
	}
	return r
}

// A commit that the real tool made comes out of its layers as it was, in every
// form, and the commits of the chunks are those that the real tool makes.
func TestAddBase(t *testing.T) {
	repo := newToolRepo(t, "bare-user")
	all := trees(t)
	commits := map[string]tree.Sum{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == "xattrs" { // more than the file system of a test may hold beside a file
			for _, n := range []string{"big", "many"} {
				all[name].Remove(n)
			}
		}
		if name == "limits" {
			for _, e := range all[name].Child("xattr").Entries() {
				if x, _ := e.Inode.Xattr("user.big"); len(x) > 1000 {
					all[name].Child("xattr").Remove(e.Name)
				}
			}
		}
		commits[name] = commitTar(t, repo, strings.ReplaceAll(name, " ", "-"), all[name], 1700000000)
	}
	real := loadToolRepo(t, repo)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			want := strings.Split(strings.TrimSpace(ostree(t, "--repo="+repo, "ls", "-C", "-R", Hex(commits[name]))), "\n")
			for _, form := range []sidecarForm{formV1, formV1Links, formV0, formMixed} {
				layers := encapsulate(t, real, commits[name], 3, form, form != formV0)
				if form != formV1Links {
					unpackSums(t, layers)
				}
				r := NewRepo()
				base, err := r.AddBase(context.Background(), layers, Hex(commits[name]))
				if err != nil {
					t.Fatalf("form %d: %v", form, err)
				}
				checkBase(t, r, base, commits[name], want)
				if form == formV1 {
					checkChunks(t, r, base)
				}
			}
		})
	}
}

// checkBase compares an imported base with what the real tool says of it.
func checkBase(t *testing.T, r *Repo, base *Base, commit tree.Sum, listing []string) {
	t.Helper()
	if base.Commit != commit || sumOf(r.Commit(commit)) != commit || base.Layers[0] != commit {
		t.Errorf("commit %s, want %s", Hex(base.Commit), Hex(commit))
	}
	c, err := ParseCommit(r.Commit(base.Commit))
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "ls", listRepo(t, r, c), listing)
	// Nothing of the tree is lost or made up.
	again := NewRepo()
	contents, meta, err := again.AddTree(base.Tree)
	if err != nil || contents != c.Contents || meta != c.Meta {
		t.Errorf("tree %s %s, want %s %s: %v", Hex(contents), Hex(meta), Hex(c.Contents), Hex(c.Meta), err)
	}
	for sum := range again.files {
		if r.File(sum) == nil {
			t.Errorf("object %s of the tree is not in the repository", Hex(sum))
		}
	}
	for sum, i := range r.files {
		if i.Mtime != 0 || i.Object != sum {
			t.Errorf("object %s: %+v", Hex(sum), i)
		}
		c := i.Copy()
		c.Object = tree.Sum{}
		root := tree.NewDir(0)
		root.Set("x", c)
		if checksum(t, root); c.Object != sum {
			t.Errorf("object %s has the checksum %s", Hex(sum), Hex(c.Object))
		}
	}
}

// checkChunks has the real tool make the commits of the chunks.
func checkChunks(t *testing.T, r *Repo, base *Base) {
	t.Helper()
	repo := newToolRepo(t, "archive")
	for k, commit := range base.Layers[1:] {
		c, err := ParseCommit(r.Commit(commit))
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDirTree(r.DirTree(c.Contents))
		if err != nil {
			t.Fatal(err)
		}
		flat := tree.NewDir(0o755)
		for _, f := range d.Files {
			flat.Set(f.Name, r.File(f.File))
			if f.Name != Hex(f.File) {
				t.Errorf("chunk %d: %s is called %s", k, Hex(f.File), f.Name)
			}
		}
		out := ostree(t, "--repo="+repo, "commit", "--no-bindings", "--tar-autocreate-parents", "--branch=x",
			"--timestamp=@0", "--parent=none", "--tree=tar="+writeTar(t, flat))
		if got := strings.TrimSpace(out); got != Hex(commit) {
			t.Errorf("chunk %d: commit %s, and libostree has %s", k, Hex(commit), got)
		}
	}
}

// The real tool accepts the repository of an image with a base, on disk: every
// object is there, under its checksum.
func TestBaseFsck(t *testing.T) {
	root := own(trees(t)["plain"])
	root.Child("usr").Child("bin").Child("sh").SetXattr("user.x", "1")
	put(t, root, "usr/etc/conf", own(file(0o644, "base")))
	source := NewRepo()
	commit := commitOurs(t, source, root, 1)
	layers := encapsulate(t, source, commit, 2, formMixed, true)
	var e encoder
	e.metadata([]Metadata{{"ostree.gpgsigs", Variant{"aay", nil}}})
	put(t, layers[0], objectPath(commit, ".commitmeta"), file(0o644, string(e.buf)))
	r := NewRepo()
	base, err := r.AddBase(context.Background(), layers, Hex(commit))
	if err != nil {
		t.Fatal(err)
	}
	derived := own(tree.NewDir(0o700))
	put(t, derived, "usr/bin/.wh.empty", own(file(0o644, "")))
	put(t, derived, "usr/etc/conf", own(file(0o600, "derived")))
	own(derived)
	c := testContainer()
	c.Layers = []ContainerLayer{{Digest: blobA, Commit: base.Layers[0]}, {Digest: blobB, Tree: derived}}
	c.Parent = base.Commit
	if c.Merged, err = MergeBase(base.Tree, derived); err != nil {
		t.Fatal(err)
	}
	for k, l := range base.Layers[1:] { // of which the manifest does not know
		if err := r.SetRef(fmt.Sprintf("chunk/%d", k), l); err != nil {
			t.Fatal(err)
		}
	}
	checksum(t, derived, c.Merged)
	merged, err := r.AddContainer(c)
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Merged.Perm(); p != 0o755 {
		t.Errorf("the root has the mode %o of the layer", p)
	}
	repo, err := r.Tree(Config{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	materialize(t, dir, repo)
	if out := ostree(t, "--repo="+dir, "fsck"); !strings.Contains(out, "fsck of 5 commits completed successfully - no errors found.") {
		t.Errorf("fsck: %s", out)
	}
	if out := ostree(t, "--repo="+dir, "rev-parse", Hex(merged)+"^"); strings.TrimSpace(out) != Hex(commit) {
		t.Errorf("parent %s, want %s", out, Hex(commit))
	}
	if out := ostree(t, "--repo="+dir, "show", "--print-detached-metadata-key=ostree.gpgsigs", Hex(commit)); !strings.Contains(out, "[]") {
		t.Errorf("detached metadata: %s", out)
	}
	if out, err := tryOstree(t, "--repo="+dir, "ls", Hex(merged), "/usr/bin/empty"); err == nil {
		t.Errorf("the whiteout did nothing: %s", out)
	}
	if out := ostree(t, "--repo="+dir, "cat", Hex(merged), "/usr/etc/conf"); out != "derived" {
		t.Errorf("/usr/etc/conf is %q", out)
	}
	// What is kept by refs alone is kept by a prune, and is everything.
	ostree(t, "--repo="+dir, "prune", "--refs-only")
	ostree(t, "--repo="+dir, "fsck")
}

// In a base a name like that of a whiteout means nothing.
func TestMergeBase(t *testing.T) {
	base := tree.NewDir(0o711)
	put(t, base, "usr/.wh.a", file(0o644, ""))
	put(t, base, "usr/a", file(0o644, ""))
	put(t, base, "usr/etc/hostname", file(0o644, ""))
	put(t, base, "opt/b", file(0o644, ""))
	for _, layers := range [][]*tree.Inode{nil, {tree.NewDir(0o700)}} {
		m, err := MergeBase(base, layers...)
		if err != nil {
			t.Fatal(err)
		}
		if tree.Lookup(m, "usr/.wh.a") == nil || tree.Lookup(m, "usr/a") == nil || m.Perm() != 0o711 {
			t.Error("the base was changed")
		}
		if tree.Lookup(m, "usr/etc/hostname") != nil || tree.Lookup(base, "usr/etc/hostname") == nil {
			t.Error("the empty hostname is left in the merged tree, or gone from the base")
		}
		if m == base || m.Child("opt") == base.Child("opt") || tree.Lookup(m, "opt/b") != tree.Lookup(base, "opt/b") {
			t.Error("directories are shared, or files are not")
		}
	}
}

func TestBaseLayers(t *testing.T) {
	diffIDs, digests := []string{"d0", "d1", "d2", "d3"}, []string{"b0", "b1", "b2", "b3"}
	for _, c := range []struct {
		labels  map[string]string
		digests []string
		want    int
		bad     bool
	}{
		{nil, digests, 0, false},
		{map[string]string{LabelCommit: "x"}, digests, 0, false},
		{map[string]string{LabelFinalDiffID: "d0"}, digests, 1, false},
		{map[string]string{LabelFinalDiffID: "d2"}, digests, 3, false},
		{map[string]string{LabelFinalDiffID: "d3"}, digests, 4, false},
		{map[string]string{LabelFinalDiffID: "d4"}, digests, 0, true},
		{map[string]string{LabelFinalDiffID: ""}, digests, 0, true},
		{map[string]string{LabelFinalDiffID: "d1"}, []string{"b0", "b1", "b2", "b1"}, 0, true},
		{map[string]string{LabelFinalDiffID: "d1"}, []string{"b0", "b1", "b2", "b2"}, 2, false},
		{map[string]string{LabelFinalDiffID: "d3"}, digests[:2], 0, true},
	} {
		got, err := BaseLayers(c.labels, diffIDs, c.digests)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%v %v: %d, %v", c.labels, c.digests, got, err)
		}
	}
}
