package grub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"

	"github.com/ulikunitz/xz/lzma"
)

// hostModules is the i386-pc directory of the machine that tests, at the same
// path in a tree as on disk.
const hostModules = "usr/lib/grub/i386-pc"

// hostTree returns a tree with the directory /dir of this machine.
func hostTree(t testing.TB, dir string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	files, err := os.ReadDir("/" + dir)
	if err != nil {
		t.Fatalf("%v: install the packages grub-common and grub-pc-bin", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join("/", dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Put(root, dir+"/"+f.Name(), tree.NewFile(0o644, content.Bytes(b))); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// mkimage runs grub-mkimage and returns its core image.
func mkimage(t *testing.T, o CoreOptions) []byte {
	t.Helper()
	tool, err := exec.LookPath("grub-mkimage")
	if err != nil {
		if tool, err = exec.LookPath("grub2-mkimage"); err != nil {
			t.Fatal("no grub-mkimage: install the packages grub-common and grub-pc-bin")
		}
	}
	out := filepath.Join(t.TempDir(), "core.img")
	args := []string{"-O", "i386-pc", "-d", "/" + hostModules, "-p", o.Prefix, "-o", out}
	if o.Config != "" {
		config := filepath.Join(t.TempDir(), "load.cfg")
		if err := os.WriteFile(config, []byte(o.Config), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-c", config)
	}
	if text, err := exec.Command(tool, append(args, o.Modules...)...).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unpack takes a core image apart: first sector, decompressor with the lengths
// cleared, uncompressed payload.
func unpack(t *testing.T, core []byte, decompressor int) (first, raw, payload []byte) {
	t.Helper()
	le := binary.LittleEndian
	first, raw = core[:sizeSector], bytes.Clone(core[sizeSector:sizeSector+decompressor])
	packed, unpacked := le.Uint32(raw[rawCompressedSize:]), le.Uint32(raw[rawUncompressedSize:])
	stream := core[sizeSector+decompressor:]
	stream = stream[:packed]
	header := []byte{(2*5+0)*9 + 3}
	header = le.AppendUint32(header, lzmaDictionary)
	header = le.AppendUint64(header, uint64(unpacked))
	r, err := lzma.NewReader(io.MultiReader(bytes.NewReader(header), bytes.NewReader(stream)))
	if err != nil {
		t.Fatal(err)
	}
	if payload, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	clear(raw[rawCompressedSize : rawUncompressedSize+4])
	return first, raw, payload
}

func TestCoreEqualsMkimage(t *testing.T) {
	root := hostTree(t, hostModules)
	decompressor, err := tree.ReadFile(root, hostModules+"/lzma_decompress.img", maxModuleFile)
	if err != nil {
		t.Fatal(err)
	}
	const lba = 2048
	for name, o := range map[string]CoreOptions{
		"ext4":   {Modules: []string{"biosdisk", "part_gpt", "ext2", "mdraid1x"}, Prefix: "(,gpt3)/grub2"},
		"xfs":    {Modules: []string{"biosdisk", "part_gpt", "xfs", "mdraid1x"}, Prefix: "(,gpt4)/boot/grub2"},
		"btrfs":  {Modules: []string{"biosdisk", "part_gpt", "btrfs", "mdraid1x"}, Prefix: "(,gpt4)/boot/grub2"},
		"config": {Modules: []string{"biosdisk", "part_gpt", "ext2", "search_fs_uuid"}, Prefix: "/boot/grub", Config: "search.fs_uuid 1234 root\n"},
		"normal": {Modules: []string{"normal", "biosdisk", "part_gpt", "fat", "serial", "linux", "echo"}, Prefix: "x"},
		"alone":  {Modules: []string{"biosdisk"}, Prefix: "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			want := mkimage(t, o)
			core, err := Compose(root, hostModules, o, lba)
			if err != nil {
				t.Fatal(err)
			}
			file, err := core.File.ReadAll(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			_, wantRaw, wantPayload := unpack(t, want, len(decompressor))
			first, raw, payload := unpack(t, file, len(decompressor))
			if !bytes.Equal(payload, wantPayload) {
				at := 0
				for at < min(len(payload), len(wantPayload)) && payload[at] == wantPayload[at] {
					at++
				}
				t.Errorf("payload of %d bytes differs from grub-mkimage's of %d at %#x", len(payload), len(wantPayload), at)
			}
			if !bytes.Equal(raw, wantRaw) {
				t.Error("decompressor differs from grub-mkimage's")
			}
			// The first sector of core.img differs in the count of sectors only,
			// as the streams have different lengths.
			wantFirst := bytes.Clone(want[:sizeSector])
			le := binary.LittleEndian
			if got, want := int(le.Uint16(first[blockListFirst+8:])), (len(file)-1)/sizeSector; got != want {
				t.Errorf("block list has %d sectors, the file %d", got, want)
			}
			copy(wantFirst[blockListFirst+8:], first[blockListFirst+8:blockListFirst+10])
			if !bytes.Equal(first, wantFirst) {
				t.Errorf("first sector differs from grub-mkimage's: % x, want % x", first[480:], wantFirst[480:])
			}
			if ratio := float64(len(file)) / float64(len(want)); ratio > 1.25 {
				t.Errorf("core image of %d bytes, grub-mkimage's has %d", len(file), len(want))
			}
			t.Logf("core.img %d bytes, grub-mkimage's %d, payload %d", len(file), len(want), len(payload))

			if len(core.Image)%sizeSector != 0 || le.Uint64(core.Image[blockListFirst:]) != lba+1 {
				t.Errorf("image for the partition: %d bytes, next sector %d", len(core.Image), le.Uint64(core.Image[blockListFirst:]))
			}
			if !bytes.Equal(core.Image[sizeSector:len(file)], file[sizeSector:]) {
				t.Error("image for the partition and core.img differ behind the first sector")
			}
		})
	}
}

func TestBootCode(t *testing.T) {
	root := hostTree(t, hostModules)
	core, err := Compose(root, hostModules, CoreOptions{Modules: []string{"biosdisk"}}, 0x1234)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tree.ReadFile(root, hostModules+"/boot.img", sizeSector)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(img[:440])
	copy(want[0x5c:], []byte{0x34, 0x12, 0, 0, 0, 0, 0, 0})
	copy(want[0x66:], []byte{0x90, 0x90})
	if !bytes.Equal(core.BootCode, want) {
		t.Errorf("boot code\n% x, want\n% x", core.BootCode, want)
	}
	if len(core.BootCode) != SizeBootCode || cap(core.BootCode) != SizeBootCode {
		t.Errorf("boot code of %d bytes", len(core.BootCode))
	}
}

func TestComposeTwice(t *testing.T) {
	root := hostTree(t, hostModules)
	o := CoreOptions{Modules: []string{"biosdisk", "part_gpt", "ext2", "mdraid1x"}, Prefix: "(,gpt3)/grub2"}
	a, err := Compose(root, hostModules, o, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Compose(root, hostModules, o, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Image, b.Image) {
		t.Error("two core images of the same files differ")
	}
}

func TestComposeRefuses(t *testing.T) {
	good := hostTree(t, hostModules)
	replace := func(name string, b []byte) *tree.Inode {
		root := hostTree(t, hostModules)
		dir := tree.Lookup(root, hostModules)
		if b == nil {
			dir.Remove(name)
		} else {
			dir.Set(name, tree.NewFile(0o644, content.Bytes(b)))
		}
		return root
	}
	read := func(name string) []byte {
		b, err := tree.ReadFile(good, hostModules+"/"+name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kernel, module := read("kernel.img"), read("ext2.mod")
	moved := bytes.Clone(kernel) // the first section, at another address
	off := binary.LittleEndian.Uint32(moved[0x20:]) + sizeSection32
	binary.LittleEndian.PutUint32(moved[off+0xc:], 0xa000)
	far := bytes.Clone(kernel)
	binary.LittleEndian.PutUint32(far[off+0xc:], 0xfffffff0)

	for name, c := range map[string]struct {
		root *tree.Inode
		o    CoreOptions
		lba  int64
		want string
	}{
		"no modules":       {replace("moddep.lst", nil), CoreOptions{}, 1, "moddep.lst"},
		"no kernel":        {replace("kernel.img", nil), CoreOptions{}, 1, "kernel.img"},
		"kernel a module":  {replace("kernel.img", module), CoreOptions{}, 1, "not an executable"},
		"kernel cut":       {replace("kernel.img", kernel[:2000]), CoreOptions{}, 1, "beyond"},
		"kernel moved":     {replace("kernel.img", moved), CoreOptions{}, 1, "link address"},
		"kernel far away":  {replace("kernel.img", far), CoreOptions{}, 1, "outside"},
		"module no ELF":    {replace("biosdisk.mod", []byte("x")), CoreOptions{Modules: []string{"biosdisk"}}, 1, "not an ELF"},
		"module a kernel":  {replace("biosdisk.mod", kernel), CoreOptions{Modules: []string{"biosdisk"}}, 1, "not a module"},
		"module unknown":   {good, CoreOptions{Modules: []string{"nosuch"}}, 1, "nosuch"},
		"diskboot short":   {replace("diskboot.img", make([]byte, 511)), CoreOptions{}, 1, "diskboot.img"},
		"diskboot long":    {replace("diskboot.img", make([]byte, 513)), CoreOptions{}, 1, "diskboot.img"},
		"boot unsigned":    {replace("boot.img", make([]byte, 512)), CoreOptions{}, 1, "boot.img"},
		"decompressor":     {replace("lzma_decompress.img", make([]byte, sizeRawHeader-1)), CoreOptions{}, 1, "lzma_decompress.img"},
		"decompressor big": {replace("lzma_decompress.img", make([]byte, maxCoreEnd-coreLoadAddr)), CoreOptions{}, 1, "possible"},
		"sector 0":         {good, CoreOptions{}, 0, "sector 0"},
		"NUL in prefix":    {good, CoreOptions{Prefix: "a\x00b"}, 1, "NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compose(c.root, hostModules, c.o, c.lba)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestEnv(t *testing.T) {
	file := filepath.Join(t.TempDir(), "grubenv")
	if err := os.WriteFile(file, NewEnv(), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		out, err := exec.Command("grub-editenv", append([]string{file}, args...)...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			t.Fatal("no grub-editenv: install the package grub-common")
		}
		if err != nil {
			t.Fatalf("grub-editenv %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run("list"); out != "" {
		t.Errorf("variables in an empty environment: %q", out)
	}
	run("set", "a=b c")
	if out := run("list"); out != "a=b c\n" {
		t.Errorf("variables %q", out)
	}
	run("create")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, NewEnv()) {
		t.Errorf("grub-editenv creates\n%q", b)
	}
}
