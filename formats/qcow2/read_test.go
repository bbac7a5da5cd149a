package qcow2

import (
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output/disktest"
)

var update = flag.Bool("update", false, "make the seeds of the fuzz target again")

// TestRead reads what qemu-img makes.
func TestRead(t *testing.T) {
	images := map[string]*disk.Image{
		"mixed": disktest.Mixed(t, 11, 20<<20+512),
		"small": disktest.Image(t, 512, disktest.At(0, disktest.Noise(1, 512))),
		"hole":  disktest.Image(t, 700<<20),
		"large": disktest.Image(t, 1<<30+1024, disktest.At(5000, disktest.Text(100000)), disktest.At(1<<29-100, disktest.Noise(4, 200)), disktest.At(1<<30, disktest.Noise(5, 1024))),
	}
	for name, img := range images {
		raw := disktest.Raw(t, img, 512)
		for _, args := range [][]string{
			{"-O", "qcow2"},
			{"-O", "qcow2", "-c"},
			{"-O", "qcow2", "-o", "compat=0.10"},
			{"-O", "qcow2", "-c", "-o", "compat=0.10,cluster_size=4k"},
			{"-O", "qcow2", "-c", "-o", "compression_type=zstd"},
			{"-O", "qcow2", "-o", "cluster_size=2M"},
			{"-O", "qcow2", "-c", "-o", "cluster_size=2M"},
			{"-O", "qcow2", "-o", "extended_l2=on,cluster_size=128k"},
			{"-O", "qcow2", "-c", "-o", "extended_l2=on,compression_type=zstd,cluster_size=16k"},
			{"-O", "qcow2", "-o", "lazy_refcounts=on,refcount_bits=1"},
			{"-O", "qcow2", "-o", "preallocation=metadata"},
			{"-O", "qcow2", "-S", "0", "-o", "cluster_size=512"},
		} {
			if img.Size() > 100<<20 && len(args) > 2 && args[2] == "-S" {
				continue // would write it all
			}
			t.Run(name+"/"+strings.Join(args[2:], " "), func(t *testing.T) {
				file := disktest.Convert(t, raw, args...)
				disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, raw, 512)
			})
		}
	}
}

// TestReadOwn reads what Write makes.
func TestReadOwn(t *testing.T) {
	for name, img := range disktest.Images(t, clusterSize) {
		raw := disktest.Raw(t, img, 1)
		for _, opt := range []Options{{}, {Compression: None}, {Compression: Zstd}} {
			f := disktest.Create(t, "disk.qcow2")
			if err := Write(t.Context(), img, f, opt); err != nil {
				t.Fatal(err)
			}
			t.Run(name+"/"+opt.Compression.String(), func(t *testing.T) {
				disktest.CheckRead(t, disktest.OpenFile(t, Open, f.Name()).Image, raw, 512)
			})
		}
	}
}

// written returns an image that a guest has written to, in all ways that qemu-io
// knows, and the raw disk.
func written(t testing.TB, options string) (file, raw string) {
	file = filepath.Join(t.TempDir(), "disk.qcow2")
	disktest.Tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, file, "20M")
	disktest.Tool(t, "qemu-io", "-c", "write -P 1 0 3M", "-c", "write -z 1M 64k", "-c", "write -P 2 5000k 7k", "-c", "write -z -u 2M 100k",
		"-c", "discard 512k 300k", "-c", "write -P 3 700k 3k", "-c", "write -z 10M 1M", "-c", "write -c -P 4 12M 64k", "-c", "write -c -P 5 13M 128k",
		"-c", "write -P 6 12320k 2k", "-c", "write -P 7 20479k 1k", file)
	raw = filepath.Join(t.TempDir(), "disk.raw")
	disktest.Tool(t, "qemu-img", "convert", "-O", "raw", file, raw)
	return file, raw
}

func TestReadWritten(t *testing.T) {
	for _, options := range []string{"compat=1.1", "compat=0.10", "extended_l2=on", "extended_l2=on,cluster_size=16k", "cluster_size=4k", "lazy_refcounts=on"} {
		t.Run(options, func(t *testing.T) {
			file, raw := written(t, options)
			disktest.CheckRead(t, disktest.OpenFile(t, Open, file).Image, raw, 512)
		})
	}
}

func TestReadSnapshots(t *testing.T) {
	file, _ := written(t, "compat=1.1")
	disktest.Tool(t, "qemu-img", "snapshot", "-c", "one", file)
	disktest.Tool(t, "qemu-io", "-c", "write -P 9 0 100k", "-c", "write -P 9 12M 64k", file)
	raw := filepath.Join(t.TempDir(), "disk.raw")
	disktest.Tool(t, "qemu-img", "convert", "-O", "raw", file, raw)
	d := disktest.OpenFile(t, Open, file)
	disktest.CheckRead(t, d.Image, raw, 512)
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "its snapshot is left out") {
		t.Errorf("notes %q", d.Notes)
	}
}

// TestReadRefused reads what is refused, and what is damaged.
func TestReadRefused(t *testing.T) {
	be := binary.BigEndian
	base := filepath.Join(t.TempDir(), "base")
	if err := os.WriteFile(base, make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	made := func(args ...string) []byte {
		t.Helper()
		name := filepath.Join(t.TempDir(), "disk.qcow2")
		disktest.Tool(t, "qemu-img", append(append([]string{"create", "-q", "-f", "qcow2"}, args...), name, "1M")...)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f, err := os.ReadFile(disktest.Convert(t, disktest.Raw(t, disktest.Mixed(t, 2, 4<<20), 512), "-O", "qcow2", "-c"))
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func(b []byte)) []byte {
		b := append([]byte{}, f...)
		change(b)
		return b
	}
	l1 := be.Uint64(f[40:])
	l2 := be.Uint64(f[l1:]) & offsetMask
	for name, c := range map[string]struct {
		file  []byte
		class fault.Class
		text  string
	}{
		"nothing":            {nil, fault.BadImage, "72 bytes at 0"},
		"text":               {disktest.Text(1000), fault.BadImage, "not of this format"},
		"backing file":       {made("-b", base, "-F", "raw"), fault.Unsupported, base},
		"encryption":         {made("--object", "secret,id=s,data=x", "-o", "encrypt.format=aes,encrypt.key-secret=s"), fault.Unsupported, "encrypted"},
		"external data file": {made("-o", "data_file="+base+".2"), fault.Unsupported, "external data"},
		"dirty":              {changed(func(b []byte) { be.PutUint64(b[72:], incompatDirty) }), fault.Unsupported, "dirty"},
		"corrupt":            {changed(func(b []byte) { be.PutUint64(b[72:], incompatCorrupt) }), fault.BadImage, "corrupt"},
		"feature":            {changed(func(b []byte) { be.PutUint64(b[72:], 1<<40) }), fault.Unsupported, "feature 40"},
		"version":            {changed(func(b []byte) { b[7] = 4 }), fault.Unsupported, "version 4"},
		"compression":        {changed(func(b []byte) { b[104] = 7 }), fault.Unsupported, "compression type 7"},
		"clusters":           {changed(func(b []byte) { b[23] = 22 }), fault.BadImage, "2^22"},
		"size":               {changed(func(b []byte) { b[31] = 1 }), fault.BadImage, "sectors"},
		"huge":               {changed(func(b []byte) { b[24] = 0x7f }), fault.BadImage, "L1 table"},
		"negative":           {changed(func(b []byte) { b[24] = 0x80 }), fault.BadImage, "disk of"},
		"L1 between":         {changed(func(b []byte) { b[47] = 8 }), fault.BadImage, "between"},
		"L1 beyond":          {changed(func(b []byte) { b[42] = 1 }), fault.BadImage, "L1 table"},
		"L2 between":         {changed(func(b []byte) { b[l1+6] ^= 2 }), fault.BadImage, "between"},
		"L2 beyond":          {changed(func(b []byte) { b[l1+2] = 1 }), fault.BadImage, "L2 table"},
		"cluster beyond":     {changed(func(b []byte) { be.PutUint64(b[l2:], 1<<40) }), fault.BadImage, "which has"},
		"cluster between":    {changed(func(b []byte) { be.PutUint64(b[l2:], 1<<16+512) }), fault.BadImage, "between"},
		"compressed beyond":  {changed(func(b []byte) { be.PutUint64(b[l2:], entryCompressed|1<<40) }), fault.BadImage, "which has"},
		"not compressed":     {changed(func(b []byte) { be.PutUint64(b[l2:], entryCompressed|5) }), fault.BadImage, "compressed data"},
		"truncated":          {f[:l2+8], fault.BadImage, "L2 table"},
		"header of 80 bytes": {f[:80], fault.BadImage, "104 bytes"},
	} {
		t.Run(name, func(t *testing.T) { disktest.CheckUnreadable(t, Open, c.file, c.class, c.text) })
	}
}

// TestReadSeeds checks what FuzzRead begins with.
func TestReadSeeds(t *testing.T) {
	tiny := func(args ...string) func(t testing.TB) string {
		return func(t testing.TB) string {
			img := disktest.Image(t, 70<<10, disktest.At(100, disktest.Text(2000)), disktest.At(40<<10, disktest.Noise(1, 700)), disktest.At(50<<10, disktest.Text(9000)))
			return disktest.Convert(t, disktest.Raw(t, img, 512), append([]string{"-O", "qcow2"}, args...)...)
		}
	}
	disktest.CheckSeeds(t, Open, *update, map[string]func(t testing.TB) string{
		"zlib":     tiny("-c", "-o", "cluster_size=4k"),
		"zstd":     tiny("-c", "-o", "cluster_size=4k,compression_type=zstd"),
		"plain":    tiny("-o", "cluster_size=512,compat=0.10"),
		"extended": tiny("-o", "extended_l2=on,cluster_size=16k"),
		"own": func(t testing.TB) string {
			f := disktest.Create(t, "disk.qcow2")
			img := disktest.Image(t, 2<<30, disktest.At(1<<30, disktest.Text(3000)), disktest.At(1<<20, []byte{1}))
			if err := Write(t.Context(), img, f, Options{}); err != nil {
				t.Fatal(err)
			}
			return f.Name()
		},
	})
}

func FuzzRead(f *testing.F) { disktest.FuzzRead(f, Open) }

// BenchmarkRead reads compressed clusters.
func BenchmarkRead(b *testing.B) {
	data := disktest.Text(64 << 20)
	for i := 0; i < len(data); i += 3000 {
		copy(data[i:], disktest.Noise(uint64(i), 1000))
	}
	img := disktest.Image(b, 64<<20, disk.Extent{Data: content.Bytes(data)})
	for _, c := range []Compression{Zlib, Zstd} {
		b.Run(c.String(), func(b *testing.B) {
			f := disktest.Create(b, "disk.qcow2")
			if err := Write(b.Context(), img, f, Options{Compression: c}); err != nil {
				b.Fatal(err)
			}
			d := disktest.OpenFile(b, Open, f.Name())
			p := make([]byte, 1<<20)
			b.SetBytes(64 << 20)
			for b.Loop() {
				for off := int64(0); off < 64<<20; off += 1 << 20 {
					if _, err := d.ReadAt(p, off); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
