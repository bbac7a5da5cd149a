package qemu

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/oci"
	"imgbuild/test/image"
	"imgbuild/tree"
)

// prepareRoot is what makes a boot demand fs-verity.
const prepareRoot = "[composefs]\nenabled = verity\n\n[sysroot]\nreadonly = true\n"

// victim is a program that runs at boot. Its text is on the disk once.
const victimMark = "# the byte that is flipped is in here: 5d1c0f5b8f5d4f0c"

var victim = "#!/bin/sh\n" + victimMark + "\n" + strings.Repeat("# as long as it takes for a Merkle tree\n", 200) + "exit 0\n"

// verityCheck compares, of all that bootc protects, what the kernel measures
// with what fsverity-utils computes of the content, which reads all of it.
const verityCheck = `#!/bin/busybox sh
d=/usr/libexec/verity
fsverity() { $d/lib/ld-linux-x86-64.so.2 --library-path $d/lib $d/fsverity "$@"; }
note() { echo "SAMPLE-NOTE verity: $*" >/dev/ttyS0; }
cd /sysroot/ostree || exit 1
{
	busybox find repo/objects -type f ! -name '*.commitmeta'
	echo repo/config
	busybox find deploy/*/deploy/*/.ostree.cfs
} >/run/verity.list
fsverity measure $(busybox cat /run/verity.list) >/run/verity.measured 2>/run/verity.errors || { note "measure: $(busybox head -n 3 /run/verity.errors)"; exit 1; }
fsverity digest $(busybox cat /run/verity.list) >/run/verity.computed 2>/run/verity.errors || { note "digest: $(busybox head -n 3 /run/verity.errors)"; exit 1; }
busybox cmp /run/verity.measured /run/verity.computed || { note "digests differ"; exit 1; }
busybox grep ' / / .* overlay ' /proc/self/mountinfo | busybox grep -q verity=require || { note "the root does not require fs-verity"; exit 1; }
note "equal $(busybox wc -l </run/verity.measured)"
`

const unit = "[Unit]\nDescription=%s\n\n[Service]\nType=oneshot\nTimeoutStartSec=20min\nExecStart=/usr/libexec/verity/%s\n"

// verityImage makes the layout of the sample image with a layer that asks for
// fs-verity, in the image and in its initramfs, and has programs that look.
func verityImage(t *testing.T) string {
	t.Helper()
	from := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	name, initramfs := findInitramfs(t, from)
	tools, err := exec.LookPath("fsverity")
	if err == nil {
		tools, err = filepath.EvalSymlinks(tools)
	}
	if err != nil {
		t.Fatalf("this test needs fsverity: %v: make tools makes it", err)
	}
	root := filepath.Join(filepath.Dir(tools), "../root")
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatalf("%v: make tools makes it", err)
		}
		return b
	}
	files := []image.File{
		{Name: "usr/lib/ostree/prepare-root.conf", Mode: 0o644, Data: []byte(prepareRoot)},
		// What comes later wins in an initramfs of several archives.
		{Name: name, Mode: 0o644, Data: append(initramfs, cpio("usr/lib/ostree/prepare-root.conf", []byte(prepareRoot))...)},
		{Name: "usr/libexec/verity/victim", Mode: 0o755, Data: []byte(victim)},
		{Name: "usr/libexec/verity/check", Mode: 0o755, Data: []byte(verityCheck)},
		{Name: "usr/libexec/verity/fsverity", Mode: 0o755, Data: read("usr/bin/fsverity")},
	}
	for _, lib := range []string{"ld-linux-x86-64.so.2", "libfsverity.so.0", "libc.so.6", "libcrypto.so.3", "libz.so.1", "libzstd.so.1"} {
		files = append(files, image.File{Name: "usr/libexec/verity/lib/" + lib, Mode: 0o755, Data: read("usr/lib/x86_64-linux-gnu/" + lib)})
	}
	for _, program := range []string{"victim", "check"} {
		service := "verity-" + program + ".service"
		files = append(files,
			image.File{Name: "usr/lib/systemd/system/" + service, Mode: 0o644, Data: fmt.Appendf(nil, unit, service, program)},
			image.File{Name: "usr/lib/systemd/system/multi-user.target.wants/" + service, Mode: 0o777, Link: "../" + service})
	}
	dir := filepath.Join(t.TempDir(), "image")
	if err := image.Derive(from, dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

// findInitramfs returns the initramfs of an image, and its path.
func findInitramfs(t *testing.T, layout string) (name string, data []byte) {
	t.Helper()
	ref, err := oci.ParseReference("oci:" + layout)
	if err != nil {
		t.Fatal(err)
	}
	img, err := oci.Open(context.Background(), ref, oci.Options{Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	layers, err := img.Unpack(context.Background(), oci.UnpackOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		modules := tree.Lookup(l.Tree, "usr/lib/modules")
		if modules == nil {
			continue
		}
		for _, e := range modules.Entries() {
			if i := e.Inode.Child("initramfs.img"); i != nil {
				if data, err = i.Content.ReadAll(1 << 30); err != nil {
					t.Fatal(err)
				}
				name = "usr/lib/modules/" + e.Name + "/initramfs.img"
			}
		}
	}
	if name == "" {
		t.Fatal("the image has no initramfs")
	}
	return name, data
}

// cpio returns an archive of one file, in the format "newc" of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst, that can follow
// another archive.
func cpio(name string, data []byte) []byte {
	var b bytes.Buffer
	b.Write(make([]byte, 512)) // zeros may stand between archives
	entry := func(ino, mode int, name string, data []byte) {
		fmt.Fprintf(&b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	entry(1, 0o100644, name, data)
	entry(0, 0, "TRAILER!!!", nil)
	return b.Bytes()
}

// An image whose boot demands fs-verity boots, the kernel measures what
// fsverity-utils computes, and a program with one flipped bit does not run.
func TestBootVerity(t *testing.T) {
	dir := built(t, verityImage(t), "--type", "raw", "--size", "min")
	disk := filepath.Join(dir, "image/disk.raw")
	m := boots(t, disk, BIOS)
	objects := 0
	for _, note := range m.Notes {
		fmt.Sscanf(note, "verity: equal %d", &objects)
	}
	if objects < 500 {
		t.Errorf("%d files with fs-verity were measured:\n%s", objects, strings.Join(m.Notes, "\n"))
	}
	t.Logf("%d files measured", objects)

	flip(t, disk, victimMark)
	start := time.Now()
	m, err := Boot(context.Background(), disk, Options{Firmware: BIOS})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("with a flipped bit: %.1f s, %s\n%s", time.Since(start).Seconds(), m.Line, strings.Join(m.Notes, "\n"))
	notes := strings.Join(m.Notes, "\n")
	for _, want := range []string{"failed unit: verity-victim.service", "failed unit: verity-check.service", "verity: digest: ", "Input/output error"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no %q among the notes", want)
		}
	}
	if m.FailedUnits != 2 || !m.Composefs {
		t.Errorf("%d failed units, composefs %v", m.FailedUnits, m.Composefs)
	}
}

// flip changes a bit within a text that is on a disk once.
func flip(t *testing.T, disk, text string) {
	t.Helper()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := int64(-1)
	buf := make([]byte, 4<<20)
	for off := int64(0); ; off += int64(len(buf) - len(text)) {
		n, err := f.ReadAt(buf, off)
		if i := bytes.Index(buf[:n], []byte(text)); i >= 0 && found != off+int64(i) {
			if found >= 0 {
				t.Fatalf("the text is at %d and at %d", found, off+int64(i))
			}
			found = off + int64(i)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 0 {
		t.Fatal("the text is not on the disk")
	}
	at := found + int64(len(text)) - 1
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
