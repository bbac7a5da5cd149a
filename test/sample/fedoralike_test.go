package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"imgbuild/content"
	"imgbuild/ostree"
	"imgbuild/selinux"
	"imgbuild/tree"
)

// testPolicy are file contexts in which /usr/etc is not /etc.
const testPolicy = "/.*\tsystem_u:object_r:default_t:s0\n/etc(/.*)?\tsystem_u:object_r:etc_t:s0\n/usr(/.*)?\tsystem_u:object_r:usr_t:s0\n"

// testFedoralike are the layers of the variant around a base with a kernel of one
// file and a small policy.
func testFedoralike(t *testing.T) []layer {
	t.Helper()
	root := make(rootfs)
	for name, target := range links {
		root.symlink(name, target)
	}
	for _, dir := range []string{"boot", "dev", "proc", "run", "sys", "sysroot"} {
		root.dir(dir, 0o755)
	}
	root.dir("tmp", 0o1777)
	root.file("usr/lib/modules/1.0/vmlinuz", 0o644, bytes.Repeat([]byte("kernel"), 100_000))
	root.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	root.text(selinuxDir+"contexts/files/file_contexts", testPolicy)
	if err := embedded(root, fedoralikeOverlay, "fedoralike"); err != nil {
		t.Fatal(err)
	}
	layers, err := splitFedoralike(root, 1_700_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return layers
}

// archived returns the tree in the archive of a layer.
func archived(t *testing.T, l layer) *tree.Inode {
	t.Helper()
	var b bytes.Buffer
	if err := l.writeTar(&b); err != nil {
		t.Fatal(err)
	}
	root := tree.NewDir(0o755)
	r := tar.NewReader(&b)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		var i *tree.Inode
		switch h.Typeflag {
		case tar.TypeDir:
			if tree.Lookup(root, name) != nil {
				continue
			}
			i = tree.NewDir(uint32(h.Mode))
		case tar.TypeReg:
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			i = tree.NewFile(uint32(h.Mode), content.Bytes(data))
		case tar.TypeSymlink:
			i = tree.NewLink(h.Linkname)
		case tar.TypeLink:
			if i = tree.Lookup(root, h.Linkname); i == nil {
				t.Fatalf("%s: hard link to %s, which is no earlier file", name, h.Linkname)
			}
		}
		if h.Typeflag != tar.TypeLink {
			i.UID, i.GID = uint32(h.Uid), uint32(h.Gid)
		}
		if err := tree.Put(root, name, i); err != nil {
			t.Fatal(err)
		}
	}
}

// The base is a commit that can be imported: every object has the checksum it is
// named by, and labels as ostree gives them in labeling epoch 1.
func TestEncapsulatedBase(t *testing.T) {
	layers := testFedoralike(t)
	var base []*tree.Inode
	for _, l := range layers {
		if l.commit != "" {
			base = append(base, archived(t, l))
		}
	}
	if len(base) != baseChunks+1 {
		t.Fatalf("%d layers of the base", len(base))
	}
	imported, err := ostree.NewRepo().AddBase(context.Background(), base, layers[0].commit)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) *tree.Inode {
		i := tree.Lookup(imported.Tree, name)
		if i == nil {
			t.Fatalf("the commit has no %s", name)
		}
		return i
	}
	for name, want := range map[string]string{"": "default_t", "usr/etc": "etc_t", "usr/etc/passwd": "etc_t",
		"usr/lib/modules/1.0/vmlinuz": "usr_t", sampleDir + "base/one/same": "usr_t", sampleDir + "base/denormal-link": "usr_t"} {
		if got, _ := at(name).Xattr("security.selinux"); got != "system_u:object_r:"+want+":s0\x00" {
			t.Errorf("/%s: label %q, not %s", name, got, want)
		}
	}
	for a, b := range map[string]string{"base/one/same": "base/two/same", "base/one/empty": "base/two/empty",
		"base/one/link": "base/two/link", "layers/replaced": "layers/kept/original"} {
		if at(sampleDir+a).Object != at(sampleDir+b).Object {
			t.Errorf("%s and %s are two objects", a, b)
		}
	}
	capable := at(sampleDir + "base/capable")
	if got, _ := capable.Xattr("security.capability"); got != netCapabilities() {
		t.Errorf("capabilities %x", got)
	}
	if owned := at(sampleDir + "base/owned"); owned.UID != 1000 || owned.GID != 100 {
		t.Errorf("owner %d:%d", owned.UID, owned.GID)
	}
}

// The layers on top have no part of the base's objects, and a policy that wants
// other labels for some of them.
func TestFedoralikeLayers(t *testing.T) {
	layers := testFedoralike(t)
	config, features := layers[len(layers)-2], layers[len(layers)-1]
	d := sampleDir + "layers/"
	for _, name := range []string{d + whiteout + "gone-file", d + "opaque/" + opaque, d + "file-to-dir/file", "etc/hostname"} {
		if config.files[name] == nil || features.files[name] != nil {
			t.Errorf("%s is not in the layer of the configuration alone", name)
		}
	}
	stat := features.files[sampleDir+"expect/stat"]
	if stat == nil || !strings.Contains(string(stat.data), "/"+sampleDir+"base/setuid: 89ed 0:0\n") ||
		!strings.Contains(string(stat.data), "/"+sampleDir+"features/mostly-zeros: 81a4 0:0\n") {
		t.Error("features of the base, or of a layer, are not expected")
	}
	const contexts = selinuxDir + "contexts/files/"
	merged := tree.NewDir(0o755)
	for name, text := range map[string]string{"etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=default\n",
		contexts + "file_contexts": testPolicy, contexts + "file_contexts.local": string(config.files[contexts+"file_contexts.local"].data)} {
		if err := tree.Put(merged, name, tree.NewFile(0o644, content.String(text))); err != nil {
			t.Fatal(err)
		}
	}
	policy, err := selinux.Load(merged)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := policy.Lookup("/"+sampleDir+"base/one/same", tree.TypeFile); got != "system_u:object_r:src_t:s0" {
		t.Errorf("label %q of a file of the base", got)
	}
}

func TestFedoralikeConfig(t *testing.T) {
	p, err := platformOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for range 2 {
		d, _, err := writeLayout(context.Background(), t.TempDir(), p, 1_700_000_000, testFedoralike(t))
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, d.String())
	}
	if seen[0] != seen[1] {
		t.Errorf("two runs, two digests: %v", seen)
	}
	layers := []layer{{commit: "c"}, {commit: "c"}, {}}
	got := newConfig(p, 0, layers, []digest.Digest{"sha256:1", "sha256:2", "sha256:3"}).Config.Labels
	if got[ostree.LabelCommit] != "c" || got[ostree.LabelFinalDiffID] != "sha256:2" {
		t.Errorf("labels %v", got)
	}
}

func TestEFIByPackage(t *testing.T) {
	const updates = "usr/lib/bootupd/updates/"
	root := make(rootfs)
	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi", "EFI.json"} {
		root.text(updates+name, "x")
	}
	efiByPackage(root, "usr/lib/efi/shim/1/EFI", "usr/lib/efi/grub2/2/EFI")
	var files []string
	for _, name := range root.paths() {
		if root[name].typ == tar.TypeReg {
			files = append(files, name)
		}
	}
	want := []string{updates + "EFI.json", "usr/lib/efi/grub2/2/EFI/debian/grubx64.efi",
		"usr/lib/efi/shim/1/EFI/BOOT/BOOTX64.EFI", "usr/lib/efi/shim/1/EFI/debian/shimx64.efi"}
	if !slices.Equal(files, want) {
		t.Errorf("files %q", files)
	}
}

func TestFedoralikeOptions(t *testing.T) {
	for _, o := range []options{{arch: "arm64", fedoralike: true}, {arch: "amd64", fedoralike: true, plain: true}} {
		if err := checkFedoralike(o); err == nil || !strings.Contains(err.Error(), "-fedoralike") {
			t.Errorf("%+v: error %v", o, err)
		}
	}
}
