package pipeline

import (
	"archive/tar"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/oci"
	"imgbuild/ostree"
	"imgbuild/test/image"
	"imgbuild/tree"
)

// mapLabeler labels the paths it has, whatever their type.
type mapLabeler map[string]string

func (m mapLabeler) Lookup(path string, _ uint32) (string, bool) {
	label, ok := m[path]
	return label, ok
}

func labelOf(i *tree.Inode) string {
	label, _ := i.Xattr(xattrSELinux)
	return strings.TrimSuffix(label, "\x00")
}

func TestRelabelledBase(t *testing.T) {
	root := tree.NewDir(0o755)
	add := func(name, label string) *tree.Inode {
		i := tree.NewFile(0o644, content.String(name))
		if label != "" {
			i.SetXattr(xattrSELinux, label+"\x00")
		}
		i.Object = tree.Sum{1}
		if err := tree.Put(root, name, i); err != nil {
			t.Fatal(err)
		}
		return i
	}
	same, other, none, unlabelled := add("same", "a"), add("other", "a"), add("none", "a"), add("unlabelled", "")
	linked := add("linked", "a")
	for _, name := range []string{"linked2", "linked3"} {
		root.Set(name, linked)
	}
	root.Set("proc", tree.NewDir(0o555))
	root.Child("proc").Set("x", none)
	got := relabelled(root, mapLabeler{"/": "r", "/same": "a", "/other": "b", "/linked": "a", "/linked2": "b", "/linked3": "b", "/proc": "p"})
	if got.Child("same") != same || got.Child("none") != none || got.Child("unlabelled") != unlabelled || got.Child("linked") != linked {
		t.Error("a file with the right label was copied")
	}
	if i := got.Child("other"); i == other || labelOf(i) != "b" || i.Object != (tree.Sum{}) || labelOf(other) != "a" || other.Object == (tree.Sum{}) {
		t.Errorf("changed label: %+v", i)
	}
	if i := got.Child("linked2"); i == linked || i != got.Child("linked3") || labelOf(i) != "b" {
		t.Errorf("hard links: %+v", i)
	}
	if i := got.Child("proc"); labelOf(i) != "p" || i.Child("x") != none {
		t.Errorf("/proc: %+v", i)
	}
	if labelOf(got) != "r" || labelOf(root) != "" {
		t.Errorf("root: %s, and %s of the original", labelOf(got), labelOf(root))
	}
}

const contexts = `/.*	system_u:object_r:default_t:s0
/usr(/.*)?	system_u:object_r:usr_t:s0
/usr/share/none	--	<<none>>
/usr/etc/other	--	system_u:object_r:other_t:s0
/etc(/.*)?	system_u:object_r:etc_t:s0
/boot(/.*)?	system_u:object_r:boot_t:s0
`

// encapsulatedSystem runs the stages up to the disk trees.
func encapsulatedSystem(t *testing.T, spec *image.Spec) (*source, *system, *disks) {
	t.Helper()
	layout := filepath.Join(t.TempDir(), "image")
	if err := spec.Write(layout); err != nil {
		t.Fatal(err)
	}
	ref, err := oci.ParseReference("oci:" + layout)
	if err != nil {
		t.Fatal(err)
	}
	o := &Options{Image: ref, Arch: "amd64", NoCache: true, TempDir: t.TempDir(), Target: "registry.example.com/os:1"}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	s, err := pull(context.Background(), o, Silent{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	sys, err := flatten(context.Background(), s, o, Silent{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := newIdentity("x", identityInput{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := deploy(context.Background(), s, sys, o, id, Silent{})
	if err != nil {
		t.Fatal(err)
	}
	return s, sys, d
}

// newSpec is an image with a policy, to be encapsulated.
func newSpec() *image.Spec {
	s := image.New()
	s.File(0, "etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=test\n")
	s.File(0, "etc/selinux/test/contexts/files/file_contexts", contexts)
	s.File(0, "etc/other", "x")
	s.File(0, "usr/share/none", "none")
	s.File(0, "usr/share/f", "f")
	return s
}

func encapsulate(t *testing.T, s *image.Spec, label func(string, uint32) string) tree.Sum {
	t.Helper()
	text, err := s.Encapsulate(image.Encapsulation{Chunks: 2, Version: 1, Label: label})
	if err != nil {
		t.Fatal(err)
	}
	var sum tree.Sum
	for k := range sum {
		sum[k] = unhex(text[2*k])<<4 | unhex(text[2*k+1])
	}
	return sum
}

func unhex(c byte) byte { return byte(strings.IndexByte("0123456789abcdef", c)) }

// An image that is its base and nothing else is labelled by the policy as well;
// the commit of the base keeps the labels it came with.
func TestBaseOnly(t *testing.T) {
	spec := newSpec()
	commit := encapsulate(t, spec, func(p string, _ uint32) string {
		if strings.HasPrefix(p, "/usr/etc") {
			return "system_u:object_r:etc_t:s0"
		}
		return "system_u:object_r:usr_t:s0"
	})
	s, sys, d := encapsulatedSystem(t, spec)
	if s.base != 3 || len(sys.layers) != 0 || sys.base.Commit != commit {
		t.Fatalf("%d base layers, %d others, commit %s", s.base, len(sys.layers), ostree.Hex(sys.base.Commit))
	}
	for p, want := range map[string]string{
		"usr/etc/other": "other_t", "usr/etc/hostname": "usr_t", "usr/share/none": "usr_t", "usr/share/f": "usr_t", "boot": "boot_t", "": "default_t",
	} {
		if got := labelOf(tree.Lookup(sys.merged, p)); got != "system_u:object_r:"+want+":s0" {
			t.Errorf("/%s is %s, want %s", p, got, want)
		}
	}
	if tree.Lookup(sys.merged, "usr/share/f") != sys.repo.File(tree.Lookup(sys.merged, "usr/share/f").Object) {
		t.Error("an object of the base whose label is right was copied")
	}
	merge, err := ostree.ParseCommit(sys.repo.Commit(d.commit))
	if err != nil || merge.Parent != commit {
		t.Errorf("parent %s, %v", ostree.Hex(merge.Parent), err)
	}
	for k, l := range s.layers {
		if got, _ := sys.repo.Ref(ostree.BlobRef(l.Digest)); got != sys.base.Layers[k] || (got == commit) != (k == 0) {
			t.Errorf("ref of layer %d: %s", k, ostree.Hex(got))
		}
	}
	checkObjects(t, d)
	if got := labelOf(tree.Lookup(d.sysroot.Etc, "other")); got != "system_u:object_r:etc_t:s0" {
		t.Errorf("/etc/other is %s", got)
	}
}

// checkObjects computes the checksums of all file objects of the disk.
func checkObjects(t *testing.T, d *disks) {
	t.Helper()
	n := 0
	err := tree.Walk(tree.Lookup(d.sysroot.Repo, "objects"), func(p string, i *tree.Inode) error {
		if !strings.HasSuffix(p, ".file") {
			return nil
		}
		n++
		root, c := tree.NewDir(0o755), i.Copy()
		c.Object = tree.Sum{}
		root.Set("x", c)
		if err := ostree.Checksum(context.Background(), root); err != nil {
			return err
		}
		if name := strings.ReplaceAll(p, "/", ""); ostree.Hex(c.Object)+".file" != name {
			t.Errorf("object %s has the checksum %s, xattrs %v", name, ostree.Hex(c.Object), i.Xattrs)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d objects, %v", n, err)
	}
}

// A base without any labels stays so, on a disk that has them everywhere else.
func TestUnlabelledBase(t *testing.T) {
	spec := newSpec()
	commit := encapsulate(t, spec, nil)
	spec.File(3, "usr/share/derived", "x")
	spec.Add(3, tar.Header{Name: "usr/share/none2", Linkname: "usr/share/derived", Typeflag: tar.TypeLink})
	_, sys, d := encapsulatedSystem(t, spec)
	checkObjects(t, d)
	for _, p := range []string{"usr/share/derived", "usr/share/f", "usr/lib"} {
		if got := labelOf(tree.Lookup(sys.merged, p)); got != "system_u:object_r:usr_t:s0" {
			t.Errorf("/%s is %s", p, got)
		}
	}
	if got := labelOf(tree.Lookup(sys.merged, "usr/share/none")); got != "" {
		t.Errorf("what the policy gives no label has %s", got)
	}
	base, err := ostree.ParseCommit(sys.repo.Commit(commit))
	if err != nil {
		t.Fatal(err)
	}
	if meta, err := ostree.ParseDirMeta(sys.repo.DirMeta(base.Meta)); err != nil || len(meta.Xattrs) != 0 {
		t.Errorf("the root of the base has %+v, %v", meta, err)
	}
	// The layer's commit has the same objects as the merged one.
	if tree.Lookup(sys.layers[0], "usr/share/derived").Object != tree.Lookup(sys.merged, "usr/share/derived").Object {
		t.Error("the layer's file has another object than the merged tree's")
	}
}

// What a layer has outside /usr is left out where the base's root does not show
// it.
func TestFilteredTopLevel(t *testing.T) {
	for conf, want := range map[string][]string{
		"[composefs]\nenabled = yes\n":                           {"opt", "ostree", "toplevel"},
		"[composefs]\nenabled = maybe\n":                         {"opt", "ostree", "toplevel"},
		"[composefs]\nenabled = no\n":                            {"ostree"},
		"[composefs]\nenabled = no\n[root]\ntransient = true\n":  {"opt", "ostree", "toplevel"},
		"[composefs]\nenabled = no\n[root]\ntransient = false\n": {"ostree"},
	} {
		spec := image.New()
		spec.Remove("usr/lib/ostree")
		spec.File(0, "usr/lib/ostree/prepare-root.conf", conf)
		encapsulate(t, spec, nil)
		spec.File(3, "opt/x", "x")
		spec.File(3, "toplevel", "x")
		spec.File(3, "etc/x", "x")
		spec.File(3, "run/x", "x")
		_, sys, _ := encapsulatedSystem(t, spec)
		var got []string
		for _, e := range sys.merged.Entries() {
			if !slices.Contains([]string{"boot", "dev", "proc", "run", "sys", "sysroot", "tmp", "var", "usr"}, e.Name) {
				got = append(got, e.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", conf, got, want)
		}
		if tree.Lookup(sys.merged, "usr/etc/x") == nil || tree.Lookup(sys.merged, "run/x") != nil || sys.labels != nil {
			t.Errorf("%q: /etc was not moved, /run not emptied, or labels were made up", conf)
		}
	}
}

// Equal images make equal disks, and the order of maps plays no part.
func TestBaseDeterministic(t *testing.T) {
	var first map[string]string
	for range 3 {
		spec := newSpec()
		encapsulate(t, spec, nil)
		spec.File(3, "usr/share/derived", "x")
		_, _, d := encapsulatedSystem(t, spec)
		all := map[string]string{"commit": ostree.Hex(d.commit)}
		_ = tree.Walk(d.sysroot.Repo, func(p string, i *tree.Inode) error {
			all[p] = labelOf(i)
			return nil
		})
		if first == nil {
			first = all
		} else if !maps.Equal(all, first) {
			t.Error("the repositories differ")
		}
	}
}
