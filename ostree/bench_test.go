package ostree

import (
	"fmt"
	"strings"
	"testing"

	"imgbuild/tree"
)

// BenchmarkDeploy takes an image of 100,000 files in two layers from imported
// trees with known checksums to a sysroot.
func BenchmarkDeploy(b *testing.B) {
	root := testOS(b)
	label := []tree.Xattr{{Name: xattrSELinux, Value: "system_u:object_r:lib_t:s0\x00"}}
	for k := range 100_000 {
		i := file(0o644, fmt.Sprint(k))
		i.Xattrs = label
		i.Mtime = 1
		put(b, root, fmt.Sprintf("usr/lib/d%d/s%d/%d", k%100, k/100%10, k), i)
	}
	upper := tree.NewDir(0o755)
	for k := range 1000 {
		put(b, upper, fmt.Sprintf("usr/lib/d%d/s0/new%d", k%100, k), file(0o644, "new"))
	}
	checksum(b, root, upper)
	b.ReportAllocs()
	for b.Loop() {
		c := testContainer()
		var err error
		if c.Merged, err = Merge(root, upper); err != nil {
			b.Fatal(err)
		}
		c.Layers[0].Tree, c.Layers[1].Tree = root, upper
		r := NewRepo()
		commit, err := r.AddContainer(c)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Deploy(r, &DeployOptions{
			Commit: commit, Tree: c.Merged, Origin: "x", Title: "x", KernelVersion: testKernel,
			Vmlinuz: tree.Lookup(root, modules+"/vmlinuz"), Initramfs: tree.Lookup(root, modules+"/initramfs.img"),
		}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAddBase imports a base of 100,000 files in 20 chunks, with labels
// that stand beside each file.
func BenchmarkAddBase(b *testing.B) {
	root := tree.NewDir(0o755)
	for k := range 100_000 {
		i := file(0o644, fmt.Sprint(k, strings.Repeat("x", k%8192)))
		i.SetXattr(xattrSELinux, fmt.Sprintf("system_u:object_r:type%d_t:s0\x00", k%100))
		put(b, root, fmt.Sprintf("usr/lib/d%d/s%d/%d", k%100, k/100%10, k), i)
	}
	r := NewRepo()
	commit := commitOurs(b, r, root, 1)
	layers := encapsulate(b, r, commit, 20, formV1, true)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewRepo().AddBase(b.Context(), layers, Hex(commit)); err != nil {
			b.Fatal(err)
		}
	}
}
