package grub

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/test/fakegrub"
	"imgbuild/tree"
)

const ppcModules = "usr/lib/grub/powerpc-ieee1275"

func ppcTree(t testing.TB, files map[string][]byte) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	for name, b := range files {
		if err := tree.Put(root, ppcModules+"/"+name, tree.NewFile(0o644, content.Bytes(b))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// setAlign sets the alignment of the first section.
func setAlign(kernel []byte, n uint32) {
	table := binary.BigEndian.Uint32(kernel[0x20:])
	binary.BigEndian.PutUint32(kernel[table+sizeSection32+0x20:], n)
}

// TestCoreELFEqualsMkimage composes the same file as grub-mkimage, byte by byte.
func TestCoreELFEqualsMkimage(t *testing.T) {
	mkimage, err := exec.LookPath("grub-mkimage")
	if err != nil {
		t.Fatal("no grub-mkimage: install the package grub-common")
	}
	// Upstream's link address: grub-mkimage has it built in.
	const link = 0x200000
	for _, c := range []struct {
		text, data int
		bss        uint32
		align      uint32 // of the text, 0 for the usual 16
		o          CoreOptions
	}{
		{0x11118, 0xe90, 0x7738, 0, CoreOptions{Modules: []string{"part_gpt", "ext2"}, Prefix: "(,gpt3)/grub2"}},
		{0x1001, 0x33, 1, 0, CoreOptions{Modules: []string{"ext2"}, Prefix: "(,gpt2)/boot/grub2"}},
		{0x8000, 0x1000, 0, 0x1000, CoreOptions{Prefix: "x"}},
		{0x2345, 0x678, 0x100000, 0x80, CoreOptions{Modules: []string{"ext2", "part_gpt"}, Prefix: "/boot/grub", Config: "search.fs_uuid 1234 root\n"}},
	} {
		t.Run(fmt.Sprintf("%#x", c.text), func(t *testing.T) {
			kernel := fakegrub.Kernel(link, c.text, c.data, c.bss)
			if c.align != 0 {
				setAlign(kernel, c.align)
			}
			files := fakegrub.PowerPC(kernel)
			dir := t.TempDir()
			for name, b := range files {
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out := filepath.Join(t.TempDir(), "core.elf")
			args := []string{"-O", "powerpc-ieee1275", "-d", dir, "-p", c.o.Prefix, "-o", out}
			if c.o.Config != "" {
				config := filepath.Join(t.TempDir(), "load.cfg")
				if err := os.WriteFile(config, []byte(c.o.Config), 0o644); err != nil {
					t.Fatal(err)
				}
				args = append(args, "-c", config)
			}
			if text, err := exec.Command(mkimage, append(args, c.o.Modules...)...).CombinedOutput(); err != nil {
				t.Fatalf("grub-mkimage: %v\n%s", err, text)
			}
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			core, err := ComposeELF(ppcTree(t, files), ppcModules, c.o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := core.File.ReadAll(1 << 24)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				at := 0
				for at < min(len(got), len(want)) && got[at] == want[at] {
					at++
				}
				t.Fatalf("core.elf of %d bytes differs from grub-mkimage's of %d at %#x", len(got), len(want), at)
			}
			if len(core.Image)%sizeSector != 0 || !bytes.Equal(core.Image[:len(got)], got) || core.BootCode != nil {
				t.Errorf("image of %d bytes for a file of %d, boot code of %d", len(core.Image), len(got), len(core.BootCode))
			}
		})
	}
}

// Vendors link GRUB at other addresses; everything follows from kernel.img.
func TestCoreELFLinkAddress(t *testing.T) {
	const link = 0x400000
	core, err := ComposeELF(ppcTree(t, fakegrub.PowerPC(fakegrub.Kernel(link, 0x1000, 0x10, 0x20))), ppcModules, CoreOptions{Prefix: "x"})
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	if got := be.Uint32(core.Image[0x18:]); got != link {
		t.Errorf("entry %#x", got)
	}
	if got := be.Uint32(core.Image[sizeHeader32+2*sizeProgram32+8:]); got != link+0xa000 {
		t.Errorf("modules at %#x", got)
	}
}

func TestCoreELFRefuses(t *testing.T) {
	good := fakegrub.PowerPC(fakegrub.Kernel(0x200000, 0x1000, 0x10, 0x20))
	for name, c := range map[string]struct {
		file string
		b    []byte
		want string
	}{
		"no kernel":        {"kernel.img", nil, "kernel.img"},
		"a module":         {"kernel.img", good["ext2.mod"], "not an executable for powerpc"},
		"another CPU":      {"ext2.mod", []byte(strings.Replace(string(good["ext2.mod"]), "\x00\x01\x00\x14", "\x00\x01\x00\x03", 1)), "not a module for powerpc"},
		"memory too large": {"kernel.img", fakegrub.Kernel(0x200000, 0x1000, 0x10, maxKernelMemory), "more than"},
		"address too high": {"kernel.img", fakegrub.Kernel(ppcHighest-0x1000, 0x800, 0x10, 0x20), "at 0xffff000"},
		"beyond":           {"kernel.img", fakegrub.Kernel(ppcHighest, 0x1000, 0x10, 0x20), "outside"},
		"at 0":             {"kernel.img", fakegrub.Kernel(0, 0x1000, 0x10, 0x20), "outside"},
	} {
		t.Run(name, func(t *testing.T) {
			root := ppcTree(t, good)
			dir := tree.Lookup(root, ppcModules)
			dir.Remove(c.file)
			if c.b != nil {
				dir.Set(c.file, tree.NewFile(0o644, content.Bytes(c.b)))
			}
			_, err := ComposeELF(root, ppcModules, CoreOptions{Modules: []string{"ext2"}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	align := fakegrub.Kernel(0x200000, 0x1000, 0x10, 0x20)
	setAlign(align, 0x18)
	if _, err := flattenKernel(align, platformPPC()); err == nil || !strings.Contains(err.Error(), "alignment 0x18") {
		t.Errorf("error %v", err)
	}
}
