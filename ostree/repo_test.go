package ostree

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/tree"
)

// trees are what the formats have corners for.
func trees(t testing.TB) map[string]*tree.Inode {
	all := map[string]*tree.Inode{}
	add := func(name string) *tree.Inode {
		root := tree.NewDir(0o755)
		all[name] = root
		return root
	}
	add("empty")

	r := add("plain")
	put(t, r, "usr/bin/sh", file(0o755, "#!"))
	put(t, r, "usr/bin/empty", file(0o644, ""))
	put(t, r, "bin", tree.NewLink("usr/bin"))
	put(t, r, "usr/lib/ümlaut-名前", file(0o600, "ä"))
	put(t, r, "usr/lib/ligne/é/ñ", file(0o444, "x"))
	put(t, r, "a-", file(0o644, "1"))
	put(t, r, "a.b", file(0o644, "2"))
	put(t, r, "a/b", file(0o644, "3"))
	put(t, r, "dangling", tree.NewLink(strings.Repeat("long/", 60)+"ü"))

	r = add("owners and modes")
	for k, perm := range []uint32{0, 0o400, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777} {
		i := put(t, r, fmt.Sprintf("file%d", k), file(perm, "x"))
		i.UID, i.GID = uint32(k), 0xfffffffe-uint32(k)
		if k%2 == 1 {
			i.UID = 1<<21 - 1 // as much as the tar header holds without extension
			i.GID = 65534
		}
		d := put(t, r, fmt.Sprintf("dir%d", k), tree.NewDir(perm))
		d.UID, d.GID = uint32(1000+k), uint32(2000+k)
		if i.GID > 1<<31 {
			i.GID = 1 << 20
		}
	}
	l := put(t, r, "link", tree.NewLink("x"))
	l.UID, l.GID = 7, 8

	r = add("xattrs")
	i := put(t, r, "capable", file(0o755, "elf"))
	i.SetXattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	i.SetXattr("user.b", "v")
	i.SetXattr("user.a", "")
	i.SetXattr("security.selinux", "system_u:object_r:bin_t:s0\x00")
	put(t, r, "dir", tree.NewDir(0o755)).SetXattr("user.dir", strings.Repeat("d", 300))
	put(t, r, "big", file(0o644, "x")).SetXattr("user.big", strings.Repeat("b", 70000))
	put(t, r, "many", file(0o644, "x"))
	for k := range 40 {
		r.Child("many").SetXattr(fmt.Sprintf("user.%d", k), strings.Repeat("m", k*7))
	}

	// Lengths around those where the offsets of GVariant become wider.
	r = add("limits")
	for n := 200; n <= 255; n += 5 {
		put(t, r, "files/"+strings.Repeat("f", n), file(0o644, ""))
		put(t, r, "dirs/"+strings.Repeat("d", n), tree.NewDir(0o755))
		put(t, r, fmt.Sprintf("links/%d", n), tree.NewLink(strings.Repeat("l", n)))
		put(t, r, fmt.Sprintf("xattr/%d", n), file(0o644, "")).SetXattr("user.x", strings.Repeat("x", n))
	}
	for n := 65515; n < 65535; n++ {
		put(t, r, fmt.Sprintf("xattr/%d", n), file(0o644, "")).SetXattr("user.big", strings.Repeat("x", n))
	}
	for n := range 12 {
		d := put(t, r, fmt.Sprintf("few%d", n), tree.NewDir(0o755))
		for k := range n {
			put(t, d, fmt.Sprintf("n%d", k), file(0o644, ""))
		}
	}
	big := put(t, r, "many", tree.NewDir(0o755))
	for k := range 1800 { // around 64 KiB
		put(t, big, fmt.Sprintf("%d", k), file(0o644, fmt.Sprint(k%7)))
		if k == 1650 || k == 1700 || k == 1750 {
			c := put(t, r, fmt.Sprintf("many%d", k), tree.NewDir(0o755))
			for _, e := range big.Entries() {
				c.Set(e.Name, e.Inode)
			}
		}
	}

	r = add("hard links")
	i = put(t, r, "z", file(0o644, "linked"))
	put(t, r, "a/1", i)
	put(t, r, "a/2", i)
	put(t, r, "b", file(0o644, "linked"))
	return all
}

// Every object checksum of these trees is that of the real tool, and so is the
// commit.
func TestCommitAsLibostree(t *testing.T) {
	repo := newToolRepo(t, "archive")
	all := trees(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		root := all[name]
		t.Run(name, func(t *testing.T) {
			r := NewRepo()
			ours := commitOurs(t, r, root, 1700000000)
			branch := strings.ReplaceAll(name, " ", "-")
			real := commitTar(t, repo, branch, root, 1700000000)
			if ours != real {
				t.Errorf("commit %s, and libostree has %s", Hex(ours), Hex(real))
			}
			c, err := ParseCommit(r.Commit(ours))
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "ls", listRepo(t, r, c), strings.Split(strings.TrimSpace(ostree(t, "--repo="+repo, "ls", "-C", "-R", branch)), "\n"))
		})
	}
}

// listRepo prints a commit from its serialized objects as `ostree ls -C -R`
// does.
func listRepo(t *testing.T, r *Repo, c *Commit) []string {
	var lines []string
	var walk func(path string, contents, meta tree.Sum)
	walk = func(path string, contents, meta tree.Sum) {
		m, err := ParseDirMeta(r.DirMeta(meta))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		lines = append(lines, fmt.Sprintf("d%05o %d %d      0 %s %s %s", m.Mode&tree.PermMask, m.UID, m.GID, Hex(contents), Hex(meta), path))
		d, err := ParseDirTree(r.DirTree(contents))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, f := range d.Files {
			i := r.File(f.File)
			kind, tail, size := "-", "", i.Content.Size()
			if i.IsLink() {
				kind, tail, size = "l", " -> "+i.Target, 0
			}
			lines = append(lines, fmt.Sprintf("%s%05o %d %d %6d %s %s%s", kind, i.Perm(), i.UID, i.GID, size, Hex(f.File), join(path, f.Name), tail))
		}
		for _, s := range d.Dirs {
			walk(join(path, s.Name), s.Contents, s.Meta)
		}
	}
	walk("/", c.Contents, c.Meta)
	return lines
}

// The real tool finds no error in a repository that was written to disk.
func TestFsck(t *testing.T) {
	r := NewRepo()
	n := 0
	all := trees(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		root := all[name]
		// What an ordinary user can write: own files, no privileged xattrs.
		_ = tree.Walk(own(root), func(_ string, i *tree.Inode) error {
			i.RemoveXattr("security.capability")
			i.RemoveXattr("security.selinux")
			i.RemoveXattr("user.big")
			i.RemoveXattr("user.a") // empty: see ImportLayer
			if i.IsFile() || i.IsDir() {
				i.Mode |= 0o600 // readable for the check
			}
			return nil
		})
		if name == "xattrs" {
			root.Remove("many")
		}
		c := commitOurs(t, r, root, 1)
		if err := r.SetRef("test/"+strings.ReplaceAll(name, " ", "_"), c); err != nil {
			t.Fatal(err)
		}
		n++
	}
	root, err := r.Tree(Config{}, 1700000000)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "repo")
	materialize(t, dir, root)
	out := ostree(t, "--repo="+dir, "fsck")
	if want := fmt.Sprintf("object fsck of %d commits completed successfully - no errors found.", n); !strings.Contains(out, want) {
		t.Errorf("fsck: %s", out)
	}
	if out := ostree(t, "--repo="+dir, "refs"); strings.Count(out, "test/") != n {
		t.Errorf("refs: %s", out)
	}
	if out := ostree(t, "--repo="+dir, "rev-parse", "test/plain"); !strings.Contains(out, Hex(r.refs["test/plain"])) {
		t.Errorf("rev-parse: %s", out)
	}
	ostree(t, "--repo="+dir, "prune", "--refs-only")
}

func TestRepoTree(t *testing.T) {
	r := NewRepo()
	root := tree.NewDir(0o755)
	f := put(t, root, "usr/bin/x", file(0o755, "x"))
	f.Mtime = 77
	c := commitOurs(t, r, root, 42)
	if err := r.SetRef("a/b", c); err != nil {
		t.Fatal(err)
	}
	repo, err := r.Tree(Config{}, 99)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	_ = tree.Walk(repo, func(p string, i *tree.Inode) error {
		if !strings.HasPrefix(p, "/objects/") {
			got = append(got, fmt.Sprintf("%s %o %d", p, i.Mode, i.Mtime))
		}
		return nil
	})
	want := []string{"/ 40755 99", "/.lock 100640 99", "/config 100644 99", "/extensions 40755 99", "/objects 40755 99",
		"/refs 40755 99", "/refs/heads 40755 99", "/refs/heads/a 40755 99", "/refs/heads/a/b 100644 99",
		"/refs/mirrors 40755 99", "/refs/remotes 40755 99", "/state 40755 99", "/tmp 40755 99", "/tmp/cache 40755 99"}
	diff(t, "tree", got, want)
	object := tree.Lookup(repo, "objects/"+Hex(f.Object)[:2]+"/"+Hex(f.Object)[2:]+".file")
	if object == nil || object != r.File(f.Object) || object.Mtime != 0 || f.Mtime != 77 {
		t.Errorf("object %+v, source %+v", object, f)
	}
	const config = "[core]\nrepo_version=1\nmode=bare\n\n[sysroot]\nbootloader=none\nbootprefix=true\nreadonly=true\n"
	if b, err := tree.ReadFile(repo, "config", 1000); err != nil || string(b) != config {
		t.Errorf("config %q, %v", b, err)
	}
	full := Config{Bootloader: "zipl", BLSAppendExceptDefault: ` a\b`, FSVerity: true}.String()
	if want := strings.Replace(config, "none", "zipl", 1) + `bls-append-except-default=\sa\\b` + "\n\n[ex-integrity]\nfsverity=true\n"; full != want {
		t.Errorf("config %q, want %q", full, want)
	}
	if _, err := r.Tree(Config{Bootloader: "lilo"}, 0); err == nil {
		t.Error("an unknown boot loader was accepted")
	}
}

func TestAddTreeErrors(t *testing.T) {
	deep := tree.NewDir(0o755)
	for d, k := deep, 0; k < maxDepth+10; k++ {
		sub := tree.NewDir(0o755)
		d.Set("d", sub)
		d = sub
	}
	with := func(name string, i *tree.Inode) *tree.Inode {
		root := tree.NewDir(0o755)
		root.Set(name, i)
		checksum(t, root)
		return root
	}
	noSum := tree.NewDir(0o755)
	noSum.Set("f", file(0o644, "x"))
	device := &tree.Inode{Mode: tree.TypeChar | 0o600}
	badXattr := file(0o644, "")
	badXattr.Xattrs = []tree.Xattr{{Name: "user.b"}, {Name: "user.a"}}
	for name, root := range map[string]*tree.Inode{
		"deep": deep, "no checksum": noSum, "device": with("dev", device), "not UTF-8": with("\xff", file(0o644, "")),
		"xattr order": with("x", badXattr), "file": file(0o644, ""),
	} {
		if _, _, err := NewRepo().AddTree(root); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	r := NewRepo()
	if _, err := r.AddCommit(&Commit{}); err == nil {
		t.Error("commit without a tree was accepted")
	}
	c := commitOurs(t, r, tree.NewDir(0o755), 0)
	parsed, err := ParseCommit(r.Commit(c))
	if err != nil {
		t.Fatal(err)
	}
	parsed.Subject = "a\x00b"
	if _, err := r.AddCommit(parsed); err == nil {
		t.Error("NUL in a subject was accepted")
	}
	for _, name := range []string{"", "/a", "a/", "a//b", "-a", ".a", "a/../b", "a b", "ä", strings.Repeat("x", 256), "a\x00"} {
		if r.SetRef(name, c) == nil {
			t.Errorf("ref %q was accepted", name)
		}
	}
	if r.SetRef("a", tree.Sum{1}) == nil {
		t.Error("ref to a missing commit was accepted")
	}
	for _, name := range []string{"a", "a/b"} {
		if err := r.SetRef(name, c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Tree(Config{}, 0); err == nil {
		t.Error("a ref below a ref was accepted")
	}
}
