package diskfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/compressed"
	"imgbuild/formats/containerdisk"
	"imgbuild/formats/gce"
	"imgbuild/formats/input"
	"imgbuild/formats/output/disktest"
	"imgbuild/formats/ova"
	"imgbuild/formats/qcow2"
	"imgbuild/formats/raw"
	"imgbuild/formats/vdi"
	"imgbuild/formats/vhd"
	"imgbuild/formats/vhdx"
	"imgbuild/formats/vmdk"
)

// temporary returns a Temp that tells how often it was called.
func temporary(t testing.TB) (temp func() (*os.File, error), calls *int) {
	calls = new(int)
	return func() (*os.File, error) {
		*calls++
		return disktest.Create(t, "temp"), nil
	}, calls
}

// testImage is a disk with a boot sector.
func testImage(t testing.TB) *disk.Image {
	boot := disktest.Text(512)
	boot[510], boot[511] = 0x55, 0xaa
	return disktest.Image(t, 9<<20+512, disktest.At(0, boot), disktest.At(1<<20, disktest.Noise(1, 300000)), disktest.At(5<<20, disktest.Text(2<<20)), disktest.At(9<<20, []byte{1}))
}

// TestOpen opens every file that imgbuild writes.
func TestOpen(t *testing.T) {
	img := testImage(t)
	want := disktest.Raw(t, img, 1)
	writers := map[string]struct {
		write    func(f *os.File) error
		format   string
		unpacked int
		unit     int64
	}{
		"raw":   {func(f *os.File) error { return raw.Write(t.Context(), img, f, raw.Options{}) }, "raw", 0, 1},
		"qcow2": {func(f *os.File) error { return qcow2.Write(t.Context(), img, f, qcow2.Options{}) }, "qcow2", 0, 512},
		"gce":   {func(f *os.File) error { return gce.Write(t.Context(), img, f, gce.Options{}) }, "raw in tar in gzip", 1, 1 << 30},
		"gzip": {func(f *os.File) error {
			return compressed.Write(t.Context(), img, f, compressed.Options{})
		}, "raw in gzip", 1, 1},
		"xz": {func(f *os.File) error {
			return compressed.Write(t.Context(), img, f, compressed.Options{Compression: compressed.XZ})
		}, "raw in xz", 1, 1},
		"zstd": {func(f *os.File) error {
			return compressed.Write(t.Context(), img, f, compressed.Options{Compression: compressed.Zstd})
		}, "raw in zstd", 1, 1},
		"vmdk": {func(f *os.File) error { return vmdk.Write(t.Context(), img, f, vmdk.Options{}) }, "vmdk", 0, 64 << 10},
		"vhd":  {func(f *os.File) error { return vhd.Write(t.Context(), img, f, vhd.Options{}) }, "vhd", 0, 512},
		"dynamic vhd": {func(f *os.File) error {
			return vhd.Write(t.Context(), img, f, vhd.Options{Subformat: vhd.Dynamic})
		}, "vhd", 0, 512},
		"vhdx": {func(f *os.File) error { return vhdx.Write(t.Context(), img, f, vhdx.Options{}) }, "vhdx", 0, 512},
		"vdi":  {func(f *os.File) error { return vdi.Write(t.Context(), img, f, vdi.Options{}) }, "vdi", 0, 512},
		"ova":  {func(f *os.File) error { return ova.Write(t.Context(), img, f, ova.Options{}) }, "vmdk in ova", 0, 64 << 10},
		"containerdisk": {func(f *os.File) error {
			_, err := containerdisk.WriteArchive(t.Context(), img, f, containerdisk.Options{Arch: "amd64"})
			return err
		}, "qcow2 in container image", 0, 512},
	}
	for name, w := range writers {
		t.Run(name, func(t *testing.T) {
			f := disktest.Create(t, "disk.img")
			if err := w.write(f); err != nil {
				t.Fatal(err)
			}
			temp, calls := temporary(t)
			last := int64(0)
			d, err := Open(t.Context(), f.Name(), Options{Temp: temp, Progress: func(done, total int64) {
				if done < last || done > total {
					t.Errorf("progress %d of %d after %d", done, total, last)
				}
				last = done
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.Format != w.format || *calls != w.unpacked || len(d.Notes) > 0 {
				t.Errorf("%s, %d temporary files, notes %q", d.Format, *calls, d.Notes)
			}
			if info, err := f.Stat(); err != nil || w.unpacked > 0 && last != info.Size() {
				t.Errorf("progress ends at %d of %d", last, info.Size())
			}
			disktest.CheckRead(t, d.Image, want, w.unit)
			if w.unpacked > 0 {
				if _, err := Open(t.Context(), f.Name(), Options{}); fault.ClassOf(err) != fault.Unsupported {
					t.Errorf("without room: %v", err)
				}
			}
		})
	}
	dir := t.TempDir()
	if _, err := containerdisk.WriteLayout(t.Context(), img, dir, containerdisk.Options{Arch: "amd64"}); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	disktest.CheckRead(t, d.Image, want, 512)
}

// TestOpenWrapped opens what others put around disks.
func TestOpenWrapped(t *testing.T) {
	img := testImage(t)
	want := disktest.Raw(t, img, 1)
	q := disktest.Create(t, "disk.qcow2")
	if err := qcow2.Write(t.Context(), img, q, qcow2.Options{}); err != nil {
		t.Fatal(err)
	}
	layout := t.TempDir()
	if _, err := containerdisk.WriteLayout(t.Context(), img, layout, containerdisk.Options{Arch: "amd64"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		script string // makes $3 of the raw disk $1 and the qcow2 image $2
		format string
	}{
		"gzip -9":          {`gzip -9c "$1" >"$3"`, "raw in gzip"},
		"zstd":             {`zstd -q -19 --long=27 -c "$1" >"$3"`, "raw in zstd"},
		"xz":               {`xz -0c "$1" >"$3"`, "raw in xz"},
		"two members":      {`{ head -c 1000000 "$1" | gzip -c; tail -c +1000001 "$1" | gzip -c; } >"$3"`, "raw in gzip"},
		"qcow2 in xz":      {`xz -0c "$2" >"$3"`, "qcow2 in xz"},
		"vmdk, split":      {`qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentSparse "$1" "$3"`, "vmdk"},
		"tar":              {`tar -C "$(dirname "$1")" -cf "$3" "$(basename "$1")"`, "raw in tar"},
		"tar, pax":         {`tar --format=pax -C "$(dirname "$2")" -cf "$3" "$(basename "$2")"`, "qcow2 in tar"},
		"tar.gz, sparse":   {`tar -S -C "$(dirname "$1")" -czf "$3" "$(basename "$1")"`, "raw in tar in gzip"},
		"tar.zst":          {`tar -C "$(dirname "$2")" -c "$(basename "$2")" | zstd -q >"$3"`, "qcow2 in tar in zstd"},
		"pushed by skopeo": {`skopeo copy -q --insecure-policy --dest-compress --dest-compress-format gzip "oci:$4" "oci-archive:$3"`, "qcow2 in tar in gzip in container image"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "file")
			disktest.Tool(t, "sh", "-c", c.script, "sh", want, q.Name(), file, layout)
			temp, _ := temporary(t)
			d, err := Open(t.Context(), file, Options{Temp: temp})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.Format != c.format {
				t.Errorf("format %s, want %s", d.Format, c.format)
			}
			unit := int64(1)
			if strings.HasPrefix(c.format, "qcow2") {
				unit = 512
			}
			disktest.CheckRead(t, d.Image, want, unit)
		})
	}
}

// TestHoles checks that a raw disk's holes are known without reading them.
func TestHoles(t *testing.T) {
	f := disktest.Create(t, "disk.raw")
	if err := f.Truncate(1 << 40); err != nil {
		t.Skip("no sparse files here:", err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<39); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), f.Name(), Options{Format: "raw"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n := int64(0)
	for off, k := range d.Data(4096) {
		if off > 1<<39 || off+k <= 1<<39 {
			t.Errorf("data [%d:+%d]", off, k)
		}
		n += k
	}
	if n == 0 || n > 1<<20 {
		t.Errorf("%d bytes of data", n)
	}
}

// TestShrunk reads a raw disk that somebody cuts off meanwhile.
func TestShrunk(t *testing.T) {
	f := disktest.Create(t, "disk.raw")
	if _, err := f.Write(disktest.Text(1 << 20)); err != nil {
		t.Fatal(err)
	}
	d, err := Open(t.Context(), f.Name(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := f.Truncate(5000); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(make([]byte, 1<<16), 0); !errors.Is(err, io.ErrUnexpectedEOF) || fault.ClassOf(err) != fault.NotFound {
		t.Errorf("error %v of class %d", err, fault.ClassOf(err))
	}
}

func TestOpenRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := file("text", disktest.Text(5000))
	sh := func(name, script string) string {
		path := filepath.Join(dir, name)
		disktest.Tool(t, "sh", "-c", `cd "$2" && `+script, "sh", path, dir)
		return path
	}
	q := disktest.Create(t, "disk.qcow2")
	if err := qcow2.Write(t.Context(), testImage(t), q, qcow2.Options{}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path, format string
		class        fault.Class
		text         string
	}{
		"missing":          {filepath.Join(dir, "none"), "", fault.NotFound, "no such file"},
		"directory":        {t.TempDir(), "", fault.NotFound, "no image layout"},
		"unknown format":   {text, "img", fault.Usage, "unknown"},
		"another format":   {text, "qcow2", fault.BadImage, "not of this format: no qcow2 file"},
		"pipe":             {sh("pipe", `mkfifo "$1"`), "", fault.NotFound, "a pipe"},
		"pipe of a disk":   {sh("pipe.vmdk", `printf '# Disk DescriptorFile\nRW 8 FLAT "pipe" 0\n' >"$1"`), "", fault.BadImage, "pipe is no regular file"},
		"character device": {os.DevNull, "", fault.NotFound, "no regular file"},
		"qed":              {file("qed", []byte("QED\x00"+strings.Repeat("x", 600))), "", fault.Unsupported, "qed"},
		"two files":        {sh("two.tar", `tar -cf "$1" text qed`), "", fault.Unsupported, "2 disks"},
		"two files, gzip":  {sh("two.tar.gz", `tar -czf "$1" text qed`), "", fault.Unsupported, "several files"},
		"nothing in a tar": {sh("empty.tar.gz", `tar -czf "$1" -T /dev/null`), "", 0, ""},
		"truncated":        {sh("cut.gz", `head -c 100000 /dev/urandom | gzip -c | head -c 50000 >"$1"`), "", fault.BadImage, "unexpected EOF"},
		"truncated tar.gz": {sh("cut.tar.gz", `tar -czf whole.tar.gz text && head -c -1 whole.tar.gz >"$1"`), "", fault.BadImage, "unexpected EOF"},
		"damaged tar.gz":   {sh("bad.tar.gz", `tar -czf whole.tar.gz text && head -c -8 whole.tar.gz >"$1" && printf 12345678 >>"$1"`), "", fault.BadImage, "checksum"},
		"truncated zstd":   {sh("cut.zst", `head -c 100000 /dev/urandom | zstd -q -c | head -c 50000 >"$1"`), "", fault.BadImage, "unexpected EOF"},
		"truncated xz":     {sh("cut.xz", `head -c 100000 /dev/urandom | xz -0c | head -c 50000 >"$1"`), "", fault.BadImage, "xz"},
		"wrapped too deep": {sh("deep.gz", `gzip -c text | gzip -c | gzip -c | gzip -c | gzip -c >"$1"`), "", fault.BadImage, "within"},
		"bad index":        {sh("bad.tar", `echo '{"manifests":[{"digest":"../../x"}]}' >index.json; tar -cf "$1" index.json`), "", fault.BadImage, "digest"},
		"no blob":          {sh("noblob.tar", `echo '{"manifests":[{"digest":"sha256:`+strings.Repeat("0", 64)+`"}]}' >index.json; tar -cf "$1" index.json`), "", fault.BadImage, "lacks"},
	} {
		t.Run(name, func(t *testing.T) {
			temp, _ := temporary(t)
			d, err := Open(t.Context(), c.path, Options{Format: c.format, Temp: temp})
			if c.class == 0 {
				if err != nil {
					t.Fatal(err)
				}
				d.Close()
				return
			}
			if err == nil || fault.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v of class %d, want %q of %d", err, fault.ClassOf(err), c.text, c.class)
			}
		})
	}
	// What is said to be raw is raw, whatever it looks like.
	d, err := Open(t.Context(), q.Name(), Options{Format: "raw"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	disktest.CheckRead(t, d.Image, q.Name(), 1)
	if d, err = Open(t.Context(), text, Options{}); err != nil || len(d.Notes) != 1 || d.Format != "raw" {
		t.Errorf("text: %v, %v", d, err)
	} else {
		d.Close()
	}
}

func TestOpenCancelled(t *testing.T) {
	f := disktest.Create(t, "disk.gz")
	img := disktest.Image(t, 16<<20, disk.Extent{Data: content.Bytes(disktest.Noise(1, 16<<20))})
	if err := compressed.Write(t.Context(), img, f, compressed.Options{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	temp, _ := temporary(t)
	last := int64(0)
	_, err := Open(ctx, f.Name(), Options{Temp: temp, Progress: func(done, _ int64) {
		cancel()
		last = done
	}})
	if info, statErr := f.Stat(); statErr != nil || !errors.Is(err, context.Canceled) || last >= info.Size() {
		t.Errorf("%v after %d bytes, %v", err, last, statErr)
	}
}

// TestVerify damages each part of archives that name digests, and has the tools that
// make such archives make some.
func TestVerify(t *testing.T) {
	img := disktest.Image(t, 1<<20, disk.Extent{Data: content.Bytes(disktest.Text(300000))})
	want := disktest.Raw(t, img, 1)
	archive := disktest.Create(t, "image.tar")
	if _, err := containerdisk.WriteArchive(t.Context(), img, archive, containerdisk.Options{Arch: "amd64"}); err != nil {
		t.Fatal(err)
	}
	appliance := disktest.Create(t, "image.ova")
	if err := ova.Write(t.Context(), img, appliance, ova.Options{}); err != nil {
		t.Fatal(err)
	}
	open := func(b []byte, verify bool) error {
		path := filepath.Join(t.TempDir(), "archive")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		d, err := Open(t.Context(), path, Options{Verify: verify})
		if err != nil {
			return err
		}
		defer d.Close()
		disktest.CheckRead(t, d.Image, want, 512)
		return nil
	}
	for _, file := range []*os.File{archive, appliance} {
		b, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := open(b, true); err != nil {
			t.Fatalf("%s: %v", file.Name(), err)
		}
		list, err := members(&part{File: input.NewFile(bytes.NewReader(b), int64(len(b)))})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.name == "oci-layout" || m.name == "index.json" || m.size == 0 || strings.HasSuffix(m.name, ".mf") {
				continue // nothing names their digests
			}
			bad := bytes.Clone(b)
			bad[m.off+m.size-1] ^= 1
			err := open(bad, true)
			if bytes.Contains(b[m.off:m.off+min(m.size, 4096)], []byte(`"rootfs"`)) && err == nil {
				continue // the image's config, which is not read
			}
			if fault.ClassOf(err) != fault.BadImage || !strings.Contains(err.Error(), m.name+"\" is damaged") {
				t.Errorf("%s damaged: %v", m.name, err)
			}
		}
	}
	for _, c := range []struct {
		kind string
		bad  bool
		text string
	}{
		{"sha1", false, ""}, {"sha256", false, ""}, {"sha512", false, ""},
		{"sha1", true, "is damaged"}, {"sha512", true, "is damaged"}, {"md5", false, "of the kind \"md5\""},
	} {
		path := filepath.Join(t.TempDir(), "made.ova")
		disktest.Tool(t, "sh", "-c", `cd "$(dirname "$2")" && tar -xf "$1" && for f in *.ovf *.vmdk; do
			printf '%s (%s) = %s\n' "$(echo "$3" | tr a-z A-Z)" "$f" "$("$3sum" <"$f" | cut -d ' ' -f 1 | tr 0-9a-f "$4")"
		done >*.mf && tar -cf "$2" *.ovf *.mf *.vmdk`, "sh", appliance.Name(), path, c.kind, map[bool]string{false: "0-9a-f", true: "1-9a-f0"}[c.bad])
		d, err := Open(t.Context(), path, Options{Verify: true})
		if err == nil {
			d.Close()
		}
		if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// FuzzManifest reads manifests of appliances.
func FuzzManifest(f *testing.F) {
	f.Add([]byte("SHA256(a.ovf)= 00ff\nSHA1 (b (1).vmdk) = 00FF\r\n\nSHA-512(c)=0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseManifest(b)
		if err != nil {
			if list != nil || fault.ClassOf(err) != fault.BadImage {
				t.Error(err)
			}
			return
		}
		for name, d := range list {
			if name == "" || d.sum == "" || d.algorithm != strings.ToLower(d.algorithm) || !bytes.Contains(b, []byte(name)) {
				t.Errorf("%q: %+v", name, d)
			}
		}
	})
}

// FuzzOpen opens archives and everything else.
func FuzzOpen(f *testing.F) {
	archive := disktest.Create(f, "image.tar")
	if _, err := containerdisk.WriteArchive(f.Context(), disktest.Image(f, 512), archive, containerdisk.Options{Arch: "amd64"}); err != nil {
		f.Fatal(err)
	}
	appliance := disktest.Create(f, "image.ova")
	if err := ova.Write(f.Context(), disktest.Image(f, 512), appliance, ova.Options{}); err != nil {
		f.Fatal(err)
	}
	gz := disktest.Create(f, "disk.gz")
	if err := compressed.Write(f.Context(), disktest.Image(f, 5000), gz, compressed.Options{}); err != nil {
		f.Fatal(err)
	}
	for _, file := range []*os.File{archive, appliance, gz} {
		b, err := os.ReadFile(file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		temp, _ := temporary(t)
		o := &opener{ctx: t.Context(), opt: Options{Temp: temp, Verify: len(b)%2 == 1}, disk: &File{}}
		defer func() { o.disk.Close() }()
		if err := o.open(&part{File: input.NewFile(bytes.NewReader(b), int64(len(b)))}); err != nil {
			return
		}
		p := make([]byte, 1<<16)
		if n, err := o.disk.ReadAt(p, 0); err != nil && err != io.EOF && fault.ClassOf(err) == fault.Internal {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}
