package kmod

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"imgbuild/content"
	"imgbuild/test/image"
	"imgbuild/tree"
)

// sample returns the modules of the sample image's kernel.
func sample(t testing.TB) (dir *tree.Inode) {
	t.Helper()
	layout := os.Getenv("IMGBUILD_SAMPLE")
	if layout == "" {
		layout = "../.cache/sample" // make sample makes it
	}
	modules, err := image.ReadDir(layout, "usr/lib/modules")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range modules.Entries() {
		if e.Inode.Child("kernel") != nil {
			return e.Inode
		}
	}
	t.Fatal("the sample has no modules")
	return nil
}

// The choice for the sample's kernel is complete, and in an order in which modprobe
// would load it; kmod, which owns the rules, resolves the same aliases to the same
// modules.
func TestSample(t *testing.T) {
	k, err := Open(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Choose(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ahci", "virtio_blk", "sd_mod", "sr_mod", "isofs", "vfat", "efivarfs", "vmw_pvscsi", "hv_storvsc", "xen_blkfront"} {
		if !slices.ContainsFunc(c.Modules, func(m *Module) bool { return m.Name == name }) {
			t.Errorf("%s is not chosen", name)
		}
	}
	for _, m := range c.Modules {
		if slices.Contains([]string{"virtio_net", "ena", "overlay"}, m.Name) {
			t.Errorf("%s is chosen", m.Name)
		}
	}
	text, err := c.Index.Encode()
	if err != nil {
		t.Fatal(err)
	}
	x, err := ParseIndex(text)
	if err != nil {
		t.Fatal(err)
	}

	const version = "1.2.3"
	root := t.TempDir()
	dir := filepath.Join(root, "lib/modules", version)
	for _, m := range c.Modules {
		data, err := m.Content.ReadAll(maxModule)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, m.Path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		for field, want := range map[string][]string{"depends": m.Depends, "alias": m.Aliases, "firmware": m.Firmware} {
			got := strings.FieldsFunc(tool(t, "modinfo", "-F", field, file), func(r rune) bool { return r == ',' && field == "depends" || r == '\n' })
			if field == "depends" {
				for i := range got {
					got[i] = underscores(got[i])
				}
			} else {
				slices.Sort(got)
				got = slices.Compact(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: modinfo says %s %q, not %q", m.Name, field, got, want)
			}
		}
	}
	tool(t, "depmod", "-b", root, version)
	for _, m := range c.Modules {
		// The text lists what is loaded, the module itself last; softdeps are
		// not in the text of one whose softdep is not there.
		out := tool(t, "modprobe", "-d", root, "-S", version, "--show-depends", m.Name)
		var want []string
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "insmod" {
				name, _ := moduleName(f[1])
				want = append(want, name)
			}
		}
		var got []string
		for _, e := range x.Order(m.Name) {
			got = append(got, e.Name)
		}
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("%s: modprobe loads %q, we %q", m.Name, want, got)
			}
		}
		for i, name := range got {
			for _, d := range x.byName[name].Depends {
				if x.byName[d] != nil && !slices.Contains(got[:i], d) {
					t.Errorf("%s: %s comes before %s", m.Name, name, d)
				}
			}
		}
	}
	for _, device := range []string{
		"pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", // AHCI of QEMU's q35
		"pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80", // its PIIX
		"virtio:d00000002v00001AF4", "virtio:d00000008v00001AF4",
		"scsi:t-0x00", "scsi:t-0x05", "vmbus:d96361baa104294db60572e2ffb1dc7f",
		"pci:v000015ADd000007C0sv000015ADsd000007C0bc01sc07i02", "xen:vbd", "fs-isofs", "nothing:x",
	} {
		cmd := exec.Command("modprobe", "-d", root, "-S", version, "-R", device)
		out, _ := cmd.Output() // nothing found is an error
		want := strings.Fields(string(out))
		slices.Sort(want)
		want = slices.Compact(want)
		if got := x.Match(device); !slices.Equal(got, want) {
			t.Errorf("%s: modprobe finds %q, we %q", device, want, got)
		}
	}
}

func tool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, msg.String())
	}
	return string(out)
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i00", false},
		{"usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*", "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00", true},
		{"x[0-9a]y", "x5y", true}, {"x[0-9a]y", "xay", true}, {"x[0-9a]y", "xby", false}, {"x[!0-9]y", "xby", true},
		{"x[]]y", "x]y", true}, {"x[y", "x[y", true}, {"", "", true}, {"*", "", true}, {"?", "", false}, {"a*b*c", "aXbYbZc", true},
		{"a*b*c", "aXbYbZ", false}, {"acpi*:PNP0303:*", "acpi:PNP0303:", true}, {"a/*", "a/b/c", true},
	} {
		if got := match(c.pattern, c.name); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func file(t *testing.T, dir *tree.Inode, p, text string) {
	t.Helper()
	if err := tree.Put(dir, p, tree.NewFile(0o644, content.String(text))); err != nil {
		t.Fatal(err)
	}
}

// What is damaged or missing is named.
func TestBad(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "text": "no ELF file", "cut": "\x7fELF\x02\x01\x01"} {
		dir := tree.NewDir(0o755)
		file(t, dir, "kernel/drivers/ata/ahci.ko", text)
		k, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Choose(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "kernel/drivers/ata/ahci.ko") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// One of the real ones whose dependency is gone.
	dir := sample(t)
	ata, err := tree.MkdirAll(dir, "kernel/drivers/ata")
	if err != nil {
		t.Fatal(err)
	}
	ata.Remove("libahci.ko.xz")
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := k.Choose(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.Broken, Broken{"ahci", "libahci"}) {
		t.Errorf("without libahci: broken are %v", c.Broken)
	}
	for _, m := range c.Modules {
		if slices.ContainsFunc(c.Broken, func(b Broken) bool { return b.Name == m.Name || slices.Contains(m.Depends, b.Name) }) {
			t.Errorf("%s is chosen, and cannot be loaded", m.Name)
		}
	}
}

// Memory is bounded while modules are read, not only when all of them are there.
func TestReadBound(t *testing.T) {
	k, err := Open(sample(t))
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int64
	left.Store(1 << 20)
	if list, err := k.read(context.Background(), []string{"isofs"}, &left); err != nil || list[0].Content.Size() != 1<<20-left.Load() {
		t.Errorf("%d bytes are left, %v", left.Load(), err)
	}
	left.Store(100)
	if _, err := k.read(context.Background(), []string{"isofs"}, &left); err == nil || !strings.Contains(err.Error(), "take more than") {
		t.Errorf("more than there may be: %v", err)
	}
}

func TestFirmware(t *testing.T) {
	dir := tree.NewDir(0o755)
	file(t, dir, "ql2500_fw.bin.xz", "x")
	file(t, dir, "a/b", "x")
	m := &Module{info: parseInfo("firmware=ql2500_fw.bin\x00firmware=a/b\x00firmware=none\x00firmware=a/*\x00firmware=../../a/b\x00firmware=/a/b\x00firmware=a/../../a/b\x00")}
	var got []string
	for _, f := range firmwareOf([]*Module{m}, dir) {
		got = append(got, f.Path)
	}
	if want := []string{"a/b", "ql2500_fw.bin.xz"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzInfo(f *testing.F) {
	dir := sample(f)
	for _, p := range []string{"kernel/drivers/ata/ahci.ko.xz", "kernel/fs/isofs/isofs.ko.xz"} {
		data, err := decompress(moduleFile{p, tree.Lookup(dir, p)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		m, err := readInfo(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, a := range m.Aliases {
			match(a, a)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("pci:v*d*sv*sd*bc01sc06i01*", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01")
	f.Add("x[0-9]*", "x7")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := match(pattern, name)
		// path.Match knows the same patterns, but for the slash and what is
		// not well-formed.
		if strings.ContainsAny(pattern+name, "/\\[]") {
			return
		}
		for _, r := range pattern + name {
			if r >= 0x80 {
				return
			}
		}
		want, err := filepath.Match(pattern, name)
		if err == nil && got != want {
			t.Errorf("match(%q, %q) = %v", pattern, name, got)
		}
	})
}
