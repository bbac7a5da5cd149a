package bmap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
	"imgbuild/partition"
	"imgbuild/test/fstest"
)

// made is a file system made by its own tool, with files in it.
type made struct {
	name  string
	file  string
	check []string // its checker, nil for xfs_repair
	free  int64    // bytes that it counts as free
	zeros string   // command that prints the file of zeros, of the file system "$1"
}

const sizeZeros = 3 << 20

// files makes some files, of which two are zeros.
func files(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 30 {
		name := filepath.Join(dir, fmt.Sprintf("file%d", i))
		if err := os.WriteFile(name, disktest.Noise(uint64(i), 10000*i+1), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for name, size := range map[string]int{"before": 200000, "zeros": sizeZeros} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func field(t *testing.T, text, key string) int64 {
	t.Helper()
	_, rest, found := strings.Cut(text, key)
	if !found {
		t.Fatalf("no %q in\n%s", key, text)
	}
	f := strings.FieldsFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func empty(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(name, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

func makeExt4(t *testing.T, name string, size int64, args ...string) made {
	t.Helper()
	file := empty(t, size)
	disktest.Tool(t, "mke2fs", append(append([]string{"-q", "-t", "ext4", "-d", files(t)}, args...), file)...)
	out := disktest.Tool(t, "dumpe2fs", "-h", file)
	return made{
		name:  name,
		file:  file,
		check: []string{"e2fsck", "-fn"},
		free:  field(t, out, "\nFree blocks:") * field(t, out, "\nBlock size:"),
		zeros: `debugfs -R "cat /zeros" "$1" 2>/dev/null`,
	}
}

func makeXFS(t *testing.T, name string, size int64, args ...string) made {
	t.Helper()
	file := empty(t, size)
	proto := new(strings.Builder)
	proto.WriteString("/\n0 0\nd--755 0 0\n")
	dir := files(t)
	for i := range 30 {
		fmt.Fprintf(proto, "file%d ---644 0 0 %s/file%d\n", i, dir, i)
	}
	fmt.Fprintf(proto, "zeros ---644 0 0 %s/zeros\n$\n$\n", dir)
	p := filepath.Join(t.TempDir(), "proto")
	if err := os.WriteFile(p, []byte(proto.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	disktest.Tool(t, "mkfs.xfs", append(append([]string{"-q", "-p", p}, args...), file)...)
	out := disktest.Tool(t, "xfs_db", "-r", "-c", "freesp -s", "-c", "sb 0", "-c", "p blocksize agcount", file)
	free := field(t, out, "total free blocks")
	// The total includes the blocks of the free lists, which are in no tree.
	for ag := range field(t, out, "agcount =") {
		free -= field(t, disktest.Tool(t, "xfs_db", "-r", "-c", fmt.Sprint("agf ", ag), "-c", "p flcount", file), "flcount =")
	}
	return made{
		name: name,
		file: file,
		free: free * field(t, out, "blocksize ="),
	}
}

func makeFAT(t *testing.T, name string, size int64, args ...string) made {
	t.Helper()
	file := empty(t, size)
	disktest.Tool(t, "mkfs.vfat", append(append([]string{"-F", "32"}, args...), file)...)
	dir := files(t)
	list, err := filepath.Glob(filepath.Join(dir, "file*"))
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, filepath.Join(dir, "before"), filepath.Join(dir, "zeros"))
	disktest.Tool(t, "mcopy", append(append([]string{"-i", file}, list...), "::")...)
	// Free space that ends where zeros begin that matter.
	disktest.Tool(t, "mdel", "-i", file, "::before")
	out := strings.ReplaceAll(disktest.Tool(t, "minfo", "-i", file, "::"), "\t", " ")
	return made{
		name:  name,
		file:  file,
		check: []string{"fsck.vfat", "-n"},
		free:  field(t, out, "free clusters=") * field(t, out, "cluster size:") * field(t, out, "sector size:"),
		zeros: `mtype -i "$1" ::zeros`,
	}
}

func all(t *testing.T) []made {
	const m = 1 << 20
	return []made{
		makeExt4(t, "ext4", 300*m),
		makeExt4(t, "ext4, many groups", 700*m, "-b", "1024"),
		makeExt4(t, "ext4, no flex_bg", 500*m, "-O", "^flex_bg,^resize_inode"),
		makeExt4(t, "ext4, old", 400*m, "-O", "^64bit,^metadata_csum,^sparse_super,uninit_bg,^resize_inode"),
		makeExt4(t, "ext4, lazy", 600*m, "-E", "lazy_itable_init=1"),
		makeXFS(t, "xfs", 400*m),
		makeXFS(t, "xfs, stripe", 500*m, "-d", "sunit=512,swidth=1024,agcount=7"),
		makeFAT(t, "fat32", 100*m),
		makeFAT(t, "fat32, large clusters", 600*m, "-s", "16"),
	}
}

// load returns the extents of what of a file is not zero.
func load(t *testing.T, name string) (extents []disk.Extent, size int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	buf := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(f, buf)
		for pos := 0; pos < n; pos += blockSize {
			if b := buf[pos:min(pos+blockSize, n)]; !output.IsZero(b) {
				extents = append(extents, disktest.At(size+int64(pos), bytes.Clone(b)))
			}
		}
		if size += int64(n); err != nil {
			return extents, size
		}
	}
}

// TestFree compares what is free with what the tool of the file system says.
func TestFree(t *testing.T) {
	for _, fs := range all(t) {
		f, err := os.Open(fs.file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, read := range readers {
			total := int64(0)
			for _, s := range read(f, info.Size()).normal() {
				total += s.to - s.from
			}
			if total == 0 {
				continue
			}
			if found++; total != fs.free {
				t.Errorf("%s: %d bytes are free, its tool says %d", fs.name, total, fs.free)
			}
		}
		if found != 1 {
			t.Errorf("%s: %d readers know it", fs.name, found)
		}
	}
}

// flash writes what is mapped to a medium full of junk, as bmaptool does it with a
// device, and returns its name.
func flash(t *testing.T, img *disk.Image, list spans) string {
	t.Helper()
	f := disktest.Create(t, "medium")
	junk, data := bytes.Repeat([]byte{0xa5}, 1<<20), make([]byte, 1<<20)
	put := func(s span, content func(pos int64, b []byte) error, b []byte) {
		for s.from < s.to {
			b := b[:min(int64(len(b)), s.to-s.from)]
			if err := content(s.from, b); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(b, s.from); err != nil {
				t.Fatal(err)
			}
			s.from += int64(len(b))
		}
	}
	for _, s := range (spans{{0, img.Size()}}).subtract(list) {
		put(s, func(int64, []byte) error { return nil }, junk)
	}
	for _, s := range list {
		put(s, func(pos int64, b []byte) error { _, err := img.ReadAt(b, pos); return err }, data)
	}
	return f.Name()
}

// TestFlash flashes a disk with all file systems to a medium full of junk. Each
// of them must be sound then, and have its files.
func TestFlash(t *testing.T) {
	const m = 1 << 20
	systems := []made{
		makeExt4(t, "ext4", 150*m),
		makeExt4(t, "ext4, many groups", 100*m, "-b", "1024"),
		makeXFS(t, "xfs", 300*m),
		makeFAT(t, "fat32", 300*m, "-s", "8"),
	}
	table := &partition.Table{DiskID: partition.DeriveGUID(nil, "disk"), SectorSize: 512}
	pos := int64(4 << 20)
	var parts []disk.Part
	free := int64(0)
	for i, fs := range systems {
		extents, size := load(t, fs.file)
		table.Partitions = append(table.Partitions, partition.Partition{Type: partition.LinuxData, ID: partition.DeriveGUID(nil, strconv.Itoa(i)), Start: pos, Size: size})
		parts = append(parts, disk.Part{Off: pos, Size: size, Extents: extents})
		// Something in a gap, as boot loaders do it.
		parts = append(parts, disk.Part{Off: pos + size + 1<<20 + 5, Size: 512, Extents: []disk.Extent{disktest.At(0, disktest.Noise(uint64(i), 512))}})
		pos += size + 3<<20
		free += fs.free
	}
	table.Size = pos
	more, err := table.Parts(nil)
	if err != nil {
		t.Fatal(err)
	}
	img, err := disk.Compose(pos, append(parts, more...))
	if err != nil {
		t.Fatal(err)
	}
	file := disktest.File(t, encodeFile, img, "disk.bmap")
	list := parse(t, file, img)
	left := img.Size()
	for _, s := range list {
		left -= s.to - s.from
	}
	// Small free ranges are mapped; gaps are left out.
	if left < free-free/20 {
		t.Errorf("%d bytes are left out, %d are free", left, free)
	}
	raw := disktest.Raw(t, img, 1)
	disktest.Tool(t, "cmp", raw, copyWithTool(t, raw, file))
	// A disk whose zeros are stored has the same map.
	whole, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	dense := disktest.Image(t, img.Size(), disk.Extent{Data: content.NewRef(whole, 0, img.Size())})
	disktest.Tool(t, "cmp", file, disktest.File(t, encodeFile, dense, "dense.bmap"))
	medium := flash(t, img, list)
	f, err := os.Open(medium)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, fs := range systems {
		p := table.Partitions[i]
		name := filepath.Join(t.TempDir(), "fs")
		out, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(out, io.NewSectionReader(f, p.Start, p.Size)); err != nil {
			t.Fatal(err)
		}
		out.Close()
		if fs.check == nil {
			if out, err := fstest.XFSRepair(t, "-f", name); err != nil {
				t.Errorf("xfs_repair: %v\n%s", err, out)
			}
		} else {
			disktest.Tool(t, fs.check[0], append(fs.check[1:], name)...)
		}
		if fs.zeros != "" {
			disktest.Tool(t, "sh", "-c", fs.zeros+` | cmp - "$2"`, "sh", name, empty(t, sizeZeros))
		}
	}
	if out := disktest.Tool(t, "sgdisk", "-v", medium); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

// TestUncertain checks that nothing of a file system is left out that may not be
// what it seems.
func TestUncertain(t *testing.T) {
	change := func(fs made, off int64, b ...byte) {
		t.Helper()
		f, err := os.OpenFile(fs.file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
		for _, read := range readers {
			if list := read(f, 1<<40); len(list) > 0 {
				t.Errorf("%s: %d ranges are free", fs.name, len(list))
			}
		}
	}
	const m = 1 << 20
	fs := makeExt4(t, "not unmounted", 64*m)
	change(fs, 1024+0x3a, 0)
	fs = makeExt4(t, "journal to replay", 64*m)
	change(fs, 1024+0x60, 0x46)
	fs = makeExt4(t, "bigalloc", 64*m, "-O", "bigalloc")
	change(fs, 0, 0)
	fs = makeExt4(t, "meta_bg", 64*m, "-O", "meta_bg,^resize_inode")
	change(fs, 0, 0)
	fs = makeFAT(t, "dirty FAT", 100*m)
	change(fs, 32*512+7, 0x07)
	fs = makeXFS(t, "used log", 400*m)
	out := disktest.Tool(t, "xfs_db", "-r", "-c", "sb 0", "-c", "convert fsblock "+strconv.FormatInt(field(t, disktest.Tool(t, "xfs_db", "-r", "-c", "sb 0", "-c", "p logstart", fs.file), "logstart ="), 10)+" byte", fs.file)
	_, decimal, _ := strings.Cut(out, "(")
	at := field(t, "x"+decimal, "x")
	change(fs, at+100<<10, 1)
	fs = makeXFS(t, "internal realtime", 400*m)
	change(fs, 126, 1)
}

// patched is a file of which four bytes are others.
type patched struct {
	*os.File
	off   int64
	bytes [4]byte
}

func (p patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.File.ReadAt(b, off)
	for i, c := range p.bytes {
		if at := p.off + int64(i) - off; at >= 0 && at < int64(n) {
			b[at] = c
		}
	}
	return n, err
}

// FuzzFree feeds the readers with damaged file systems: they must not fail in any
// way, nor find free space outside.
func FuzzFree(f *testing.F) {
	f.Add(uint8(0), uint32(1024+0x20), uint32(5))
	f.Add(uint8(1), uint32(88), uint32(1<<31))
	f.Add(uint8(2), uint32(36), uint32(1<<30))
	var images []*os.File
	f.Fuzz(func(t *testing.T, kind uint8, off, value uint32) {
		if images == nil {
			for _, fs := range []made{makeExt4(t, "", 16<<20), makeXFS(t, "", 300<<20), makeFAT(t, "", 40<<20)} {
				file, err := os.Open(fs.file) // stays open when its name goes
				if err != nil {
					t.Fatal(err)
				}
				images = append(images, file)
			}
		}
		file := images[int(kind)%len(images)]
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		p := patched{File: file, off: int64(off) % info.Size()}
		binary.LittleEndian.PutUint32(p.bytes[:], value)
		for _, read := range readers {
			for _, s := range read(p, info.Size()).normal() {
				if s.from < 0 || s.to > info.Size() {
					t.Fatalf("free: %v", s)
				}
			}
		}
	})
}
