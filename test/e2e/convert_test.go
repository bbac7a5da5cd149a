package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// convert runs imgbuild convert, which must succeed, and returns the output
// directory.
func convert(t *testing.T, args ...string) (dir string, r result) {
	t.Helper()
	dir = t.TempDir()
	r = run(t, command(t, append([]string{"convert", "--output", dir}, args...)...))
	if r.code != 0 {
		t.Fatalf("convert %s: exit %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return dir, r
}

// isRaw converts a disk to raw, and compares it with a raw one.
func isRaw(t *testing.T, disk, want string, args ...string) {
	t.Helper()
	dir, r := convert(t, append([]string{"--type", "raw", disk}, args...)...)
	path := filepath.Join(dir, "image/disk.raw")
	if r.stdout != path+"\n" {
		t.Errorf("%s: stdout %q", disk, r.stdout)
	}
	if list := files(t, dir); len(list) != 1 {
		t.Errorf("%s: left %q", disk, list)
	}
	sameDisk(t, path, want)
}

// sameDisk compares two raw disks, sizes included.
func sameDisk(t *testing.T, a, b string) {
	t.Helper()
	out := check(t, "qemu-img", "qemu-utils", "compare", "-f", "raw", "-F", "raw", a, b)
	if strings.Contains(out, "mismatch") {
		t.Errorf("%s: %s", a, out)
	}
}

// Everything that is built can be converted back, and gives the same disk.
func TestConvertBack(t *testing.T) {
	layout := smallImage(t)
	dir, _ := build(t, "--type", "raw", "--type", "qcow2", "--type", "gce", "--type", "containerdisk",
		"--type", "vmdk", "--type", "vhd", "--type", "vhdx", "--type", "vdi", "--type", "ova",
		"--size", "3 GiB", "--no-cache", "--target-arch", "amd64", layout)
	raw := filepath.Join(dir, "image/disk.raw")
	for _, path := range []string{"image/disk.raw", "qcow2/disk.qcow2", "gce/image.tar.gz", "containerdisk/image.tar", "vmdk/disk.vmdk", "vpc/disk.vhd", "vhdx/disk.vhdx", "vdi/disk.vdi", "archive/image.ova"} {
		isRaw(t, filepath.Join(dir, path), raw)
	}
	for _, c := range []string{"gzip", "zstd"} {
		packed, _ := convert(t, "--type", "raw", "--compress", c, filepath.Join(dir, "image/disk.raw"))
		for _, path := range files(t, packed) {
			if strings.HasSuffix(path, ".bmap") {
				continue
			}
			isRaw(t, path, raw)
		}
	}
	// The same input gives the same bytes, whatever format it comes in.
	all := []string{"--type", "qcow2", "--type", "vmdk", "--type", "vhd", "--vhd-subformat", "dynamic", "--type", "vhdx", "--type", "vdi", "--type", "gce", "--type", "ova", "--type", "containerdisk"}
	first, _ := convert(t, append(all, raw)...)
	second, _ := convert(t, append(all, filepath.Join(dir, "qcow2/disk.qcow2"))...)
	for _, path := range files(t, first) {
		name := strings.TrimPrefix(path, first)
		if sum(t, path) != sum(t, second+name) {
			t.Errorf("%s: other bytes from another format of the same disk", name)
		}
	}
	// The architecture is that of the root partition.
	if got := check(t, "skopeo", "skopeo", "inspect", "--format", "{{.Architecture}}", "oci-archive:"+filepath.Join(first, "containerdisk/image.tar")); got != "amd64\n" {
		t.Errorf("architecture %s", got)
	}
}

// What qemu-img makes is read.
func TestConvertFromQEMU(t *testing.T) {
	dir, _ := build(t, "--type", "raw", "--size", "min", "--no-cache", "--target-arch", "amd64", smallImage(t))
	raw := filepath.Join(dir, "image/disk.raw")
	for _, args := range [][]string{
		{"-O", "qcow2", "-c", "-o", "compression_type=zstd"}, {"-O", "qcow2", "-o", "compat=0.10"},
		{"-O", "vmdk"}, {"-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"}, {"-O", "vpc", "-o", "force_size=on"}, {"-O", "vhdx"}, {"-O", "vdi"},
	} {
		file := filepath.Join(t.TempDir(), "disk.img")
		check(t, "qemu-img", "qemu-utils", append(append([]string{"convert", "-f", "raw"}, args...), raw, file)...)
		isRaw(t, file, raw)
	}
}

// A disk for EC2 has whole GiB.
func TestConvertForEC2(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 5000)), 0o666); err != nil {
		t.Fatal(err)
	}
	out, r := convert(t, "--type", "ami", file)
	if !strings.Contains(r.stderr, "made 1 GiB") {
		t.Errorf("not said: %s", r.stderr)
	}
	if info, err := os.Stat(filepath.Join(out, "image/disk.raw")); err != nil || info.Size() != 1<<30 {
		t.Fatal(info.Size(), err)
	}
}

// A disk for Compute Engine has whole GiB, and its partition table knows.
func TestConvertForGCE(t *testing.T) {
	dir, _ := build(t, "--type", "raw", "--size", "2500 MiB", "--no-cache", "--target-arch", "amd64", smallImage(t))
	out, r := convert(t, "--type", "gce", "--type", "raw", filepath.Join(dir, "image/disk.raw"))
	if !strings.Contains(r.stderr, "made 3 GiB") {
		t.Errorf("not said: %s", r.stderr)
	}
	raw := filepath.Join(out, "image/disk.raw")
	info, err := os.Stat(raw)
	if err != nil || info.Size() != 3<<30 {
		t.Fatal(info.Size(), err)
	}
	if text := check(t, "sgdisk", "gdisk", "-v", raw); !strings.Contains(text, "No problems found") {
		t.Errorf("sgdisk: %s", text)
	}
	check(t, "tar", "tar", "-C", out, "-xzf", filepath.Join(out, "gce/image.tar.gz"))
	sameDisk(t, filepath.Join(out, "disk.raw"), raw)
	for i := 1; i <= 2; i++ {
		sameDisk(t, partition(t, raw, i), partition(t, filepath.Join(dir, "image/disk.raw"), i))
	}
}

func TestConvertFails(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	raw := file("disk.raw", strings.Repeat("x", 1<<20))
	base := filepath.Join(dir, "overlay.qcow2")
	check(t, "qemu-img", "qemu-utils", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", base)
	pipe := filepath.Join(dir, "pipe")
	check(t, "mkfifo", "coreutils", pipe)
	vhd := filepath.Join(dir, "cut.vhd")
	check(t, "qemu-img", "qemu-utils", "convert", "-f", "raw", "-O", "vpc", raw, vhd)
	check(t, "truncate", "coreutils", "-s", "-1600k", vhd) // the disk has 1 MiB of a block of 2 MiB
	gz := filepath.Join(dir, "cut.gz")
	check(t, "sh", "dash", "-c", `head -c 300000 /dev/urandom | gzip -c | head -c 200000 >"$1"`, "sh", gz)
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"no type":          {[]string{raw}, 2},
		"no disk":          {[]string{"--type", "qcow2"}, 2},
		"two disks":        {[]string{"--type", "qcow2", raw, raw}, 2},
		"unknown type":     {[]string{"--type", "qcow3", raw}, 2},
		"unknown format":   {[]string{"--type", "qcow2", "--from", "img", raw}, 2},
		"no such file":     {[]string{"--type", "qcow2", raw + "x"}, 3},
		"a directory":      {[]string{"--type", "qcow2", dir}, 3},
		"another format":   {[]string{"--type", "raw", "--from", "qcow2", raw}, 5},
		"backing file":     {[]string{"--type", "raw", base}, 6},
		"truncated gzip":   {[]string{"--type", "raw", gz}, 5},
		"format not read":  {[]string{"--type", "raw", file("x.qed", "QED\x00"+strings.Repeat("x", 1000))}, 6},
		"flag of no type":  {[]string{"--type", "raw", "--ova-cpus", "2", raw}, 2},
		"qcow2 of no type": {[]string{"--type", "raw", "--qcow2-compression", "zstd", raw}, 2},
		"vhd of no type":   {[]string{"--type", "raw", "--vhd-subformat", "dynamic", raw}, 2},
		"raw of no type":   {[]string{"--type", "qcow2", "--compress", "zstd", raw}, 2},
		"medium":           {[]string{"--type", "raw", "--type", "iso", raw}, 2},
		"nothing":          {[]string{"--type", "qcow2", file("empty.raw", "")}, 5},
		"pipe":             {[]string{"--type", "qcow2", pipe}, 3},
		"cut vhd":          {[]string{"--type", "qcow2", vhd}, 5},
		"layers of images": {[]string{"--type", "raw", file("index.tar", "")}, 6},
	} {
		if name == "layers of images" {
			check(t, "tar", "tar", "-C", dir, "-cf", tc.args[2], "disk.raw", "overlay.qcow2")
		}
		out := t.TempDir()
		r := run(t, command(t, append([]string{"convert", "--output", out}, tc.args...)...))
		failed(t, name, r, tc.code, out)
	}
	if os.Geteuid() != 0 {
		for _, format := range []string{"archive", "layout"} {
			out := t.TempDir()
			r := run(t, command(t, "convert", "--output", out, "--type", "containerdisk", "--containerdisk-format", format, "--chown", "0:0", raw))
			failed(t, "chown of "+format, r, 8, out)
			if !strings.Contains(r.stderr, "only root") {
				t.Errorf("chown of %s: %s", format, r.stderr)
			}
		}
	}
	// The disk itself is never written to.
	out := t.TempDir()
	self := filepath.Join(out, "image/disk.raw")
	if err := os.MkdirAll(filepath.Dir(self), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(raw, self); err != nil {
		t.Fatal(err)
	}
	r := run(t, command(t, "convert", "--output", out, "--type", "raw", self))
	failed(t, "onto itself", r, 2, "")
}
