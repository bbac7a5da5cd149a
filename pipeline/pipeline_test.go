package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"imgbuild/bootc"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/tree"
)

func reference(t *testing.T, s string) oci.Reference {
	t.Helper()
	r, err := oci.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTarget(t *testing.T) {
	yes := true
	for _, tc := range []struct {
		image, target string
		signed        bool
		install       *bool
		origin, name  string
		warning       bool
	}{
		{image: "registry.example.com/os:1", origin: "ostree-unverified-registry:registry.example.com/os:1", name: "registry.example.com/os:1"},
		{image: "oci:/tmp/x", origin: "ostree-unverified-image:oci:/tmp/x", name: "/tmp/x", warning: true},
		{image: "oci:/tmp/x", target: "registry.example.com/os:2", origin: "ostree-unverified-registry:registry.example.com/os:2", name: "registry.example.com/os:2"},
		{image: "oci:/tmp/x", target: "docker://registry.example.com/os:2", origin: "ostree-unverified-registry:registry.example.com/os:2", name: "registry.example.com/os:2"},
		{image: "oci:/tmp/x", target: "registry:registry.example.com/os:2", origin: "ostree-unverified-registry:registry.example.com/os:2", name: "registry.example.com/os:2"},
		{image: "oci:/tmp/x", target: "ostree-unverified-registry:registry.example.com/os:2", origin: "ostree-unverified-registry:registry.example.com/os:2", name: "registry.example.com/os:2"},
		{image: "oci:/tmp/x", target: "ostree-image-signed:docker://registry.example.com/os:2", origin: "ostree-image-signed:docker://registry.example.com/os:2", name: "registry.example.com/os:2"},
		{image: "registry.example.com/os:1", signed: true, origin: "ostree-image-signed:docker://registry.example.com/os:1", name: "registry.example.com/os:1"},
		{image: "registry.example.com/os:1", install: &yes, origin: "ostree-image-signed:docker://registry.example.com/os:1", name: "registry.example.com/os:1"},
	} {
		o := &Options{Image: reference(t, tc.image), Target: tc.target, SigPolicy: tc.signed}
		facts := &bootc.Image{Install: bootc.InstallConfig{EnforceContainerSigpolicy: tc.install}}
		got, err := newTarget(o, facts)
		if err != nil || got.origin != tc.origin || got.name != tc.name || (got.warning != "") != tc.warning {
			t.Errorf("%+v: %+v, %v", tc, got, err)
		}
	}
	o := &Options{Image: reference(t, "registry.example.com/os:1"), Target: "not a name"}
	if _, err := newTarget(o, &bootc.Image{}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a bad target: %v", err)
	}
}

func TestWithoutMount(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "",
		"# only\n\n# comments\n":           "",
		"tmpfs /tmp tmpfs\n":               "tmpfs /tmp tmpfs\n",
		"tmpfs /tmp tmpfs":                 "tmpfs /tmp tmpfs\n",
		"UUID=1 /boot ext4\n":              "",
		"UUID=1 /boot/ ext4\na /b c\n":     "a /b c\n",
		"# c\nUUID=1 /boot x\n a\t/b\tc\n": "# c\n a\t/b\tc\n",
		"x /bootx y\n":                     "x /bootx y\n",
	} {
		if got := string(withoutMount([]byte(text), "/boot")); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	base := identityInput{Manifest: "sha256:1", Arch: "amd64"}
	id := func(seed string, in identityInput) string {
		i, err := newIdentity(seed, in)
		if err != nil {
			t.Fatal(err)
		}
		return i.guid("disk").String()
	}
	first := id("", base)
	if first != id("", base) {
		t.Error("equal input gives other identifiers")
	}
	for _, change := range []func(in *identityInput){
		func(in *identityInput) { in.Manifest = "sha256:2" },
		func(in *identityInput) { in.Arch = "arm64" },
		func(in *identityInput) { in.Target = "x" },
		func(in *identityInput) { in.Stateroot = "x" },
		func(in *identityInput) { in.RootFS = "xfs" },
		func(in *identityInput) { in.Kargs = []string{"x"} },
		func(in *identityInput) { in.Sizes.Disk = 1 },
		func(in *identityInput) { in.SELinuxOff = true },
	} {
		in := base
		change(&in)
		if id("", in) == first {
			t.Errorf("%+v gives the identifiers of %+v", in, base)
		}
		if id("seed", in) != id("seed", base) {
			t.Errorf("a seed does not override %+v", in)
		}
	}
	i, _ := newIdentity("", base)
	if i.guid("a") == i.guid("b") || i.volumeID("esp") == 0 {
		t.Error("identifiers of different names are equal, or zero")
	}
}

func TestArtefact(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new", "deep", "disk.raw")
	a, err := createArtefact(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := createArtefact(path)
	if err != nil {
		t.Fatal(err)
	}
	if a.temp == b.temp {
		t.Error("two builds write to one file")
	}
	b.discard()
	if _, err := os.Stat(path); err == nil {
		t.Error("a file under the final name before it is complete")
	}
	if _, err := a.file.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	if err := commit([]*artefact{a}, nil); err != nil {
		t.Fatal(err)
	}
	a.discard()
	if text, err := os.ReadFile(path); err != nil || string(text) != "content" {
		t.Errorf("%q, %v", text, err)
	}
	c, err := createArtefact(filepath.Join(dir, "other", "deep", "x"))
	if err != nil {
		t.Fatal(err)
	}
	c.discard()
	if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
		t.Error("a discarded artefact leaves its directory")
	}
	if _, err := createArtefact(dir); fault.ClassOf(err) != fault.Output {
		t.Errorf("a directory as artefact: %v", err)
	}
	if err := outputError(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}); fault.ClassOf(err) != fault.NoSpace {
		t.Errorf("a full disk: class %v", fault.ClassOf(err))
	}
}

func TestUniqueTypes(t *testing.T) {
	o := &Options{Types: []Type{Raw, QCOW2, Raw}, HostArch: "amd64"}
	if err := o.validate(); err != nil || !slices.Equal(o.Types, []Type{Raw, QCOW2}) {
		t.Errorf("%v, %v", o.Types, err)
	}
}

// words labels each path by its last letter, and wants none for /none.
type words struct{}

func (words) Lookup(path string, mode uint32) (string, bool) {
	return "u:r:" + path, !strings.HasSuffix(path, "none")
}

// Relabelling splits an inode whose names get different labels, and leaves the
// tree it was given alone.
func TestRelabelled(t *testing.T) {
	root := tree.NewDir(0o755)
	file := tree.NewFile(0o644, content.String("x"))
	file.SetXattr("user.a", "b")
	root.Set("a", file)
	root.Set("b", file)
	root.Set("none", file)
	out := relabelled(root, words{})
	for name, want := range map[string]string{"a": "u:r:/a\x00", "b": "u:r:/b\x00", "none": ""} {
		if got, _ := out.Child(name).Xattr(xattrSELinux); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if got, _ := out.Child(name).Xattr("user.a"); got != "b" {
			t.Errorf("%s lost user.a", name)
		}
	}
	if _, has := file.Xattr(xattrSELinux); has {
		t.Error("the given tree was changed")
	}
	same := relabelled(root, constant{})
	if same.Child("a") != same.Child("b") {
		t.Error("a hard link whose names get one label was split")
	}
}

type constant struct{}

func (constant) Lookup(string, uint32) (string, bool) { return "u:r:t", true }

// Merging two directories never drops a file.
func TestMergeTrees(t *testing.T) {
	a, b := tree.NewDir(0o755), tree.NewDir(0o755)
	_ = tree.Put(a, "grub2/x", tree.NewFile(0o644, content.String("x")))
	_ = tree.Put(b, "grub2/y", tree.NewFile(0o644, content.String("y")))
	_ = tree.Put(b, "efi/z", tree.NewFile(0o644, content.String("z")))
	if err := merge(a, b, "/boot"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"grub2/x", "grub2/y", "efi/z"} {
		if tree.Lookup(a, p) == nil {
			t.Errorf("no %s", p)
		}
	}
	if err := merge(a, b, "/boot"); err == nil || !strings.Contains(err.Error(), "/boot/") || errors.Is(err, os.ErrExist) {
		t.Errorf("a file written twice: %v", err)
	}
}
