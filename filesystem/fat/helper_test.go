package fat

import (
	"bytes"
	"context"
	"flag"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/tree"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const mib = 1 << 20

// when is 2024-02-29 12:34:57 UTC: a leap day and an odd second.
const when = 1709210097

var options = Options{VolumeID: 0x7B7795E7, Label: "EFI-SYSTEM", HiddenSectors: 4096, Time: when}

// run runs a tool, which must exist and succeed, and returns what it prints.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := command(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func command(name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		// What mounts or checks is in sbin, which is not in everyone's PATH.
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", name)); err != nil {
			return "", err
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLSRC=/dev/null")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// write makes an image file of the tree, sparse.
func write(t testing.TB, root *tree.Inode, size int64, opt Options) string {
	t.Helper()
	extents, err := Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return save(t, size, extents)
}

func save(t testing.TB, size int64, extents []disk.Extent) string {
	t.Helper()
	if _, err := disk.New(size, extents); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fat.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		for off, n := range e.Data.Data() {
			if _, err := io.Copy(io.NewOffsetWriter(f, e.Off+off), e.Data.Slice(off, n).Reader()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

// fsck fails unless fsck.vfat is content and has nothing to say.
func fsck(t testing.TB, image string) {
	t.Helper()
	out := run(t, "fsck.vfat", "-n", image)
	// Two lines: the version, and the count of files and clusters.
	if lines := strings.Count(out, "\n"); lines != 2 {
		t.Fatalf("fsck.vfat:\n%s", out)
	}
}

// extract copies everything out of the image with mtools, and compares it with
// the tree.
func extract(t testing.TB, image string, root *tree.Inode) {
	t.Helper()
	if root.Len() == 0 {
		return
	}
	dir := t.TempDir()
	run(t, "mcopy", "-s", "-n", "-m", "-i", image, "::*", dir)
	compare(t, root, os.DirFS(dir))
}

// pattern returns n bytes that differ from those of another seed.
func pattern(seed, n int) content.Ref {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return content.Bytes(b)
}

func put(t testing.TB, root *tree.Inode, path string, c content.Ref) {
	t.Helper()
	i := tree.NewFile(0o644, c)
	i.Mtime = when
	if err := tree.Put(root, path, i); err != nil {
		t.Fatal(err)
	}
}

// esp is a tree like that of a Fedora ESP.
func esp(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	root.Mtime = when
	put(t, root, "EFI/BOOT/BOOTX64.EFI", pattern(1, 949424))
	put(t, root, "EFI/BOOT/fbx64.efi", pattern(2, 87816))
	put(t, root, "EFI/fedora/shimx64.efi", pattern(3, 949424))
	put(t, root, "EFI/fedora/shim.efi", pattern(3, 949424))
	put(t, root, "EFI/fedora/grubx64.efi", pattern(4, 3972416))
	put(t, root, "EFI/fedora/BOOTX64.CSV", pattern(5, 110))
	put(t, root, "EFI/fedora/grub.cfg", content.String("set btrfs_relative_path=\"yes\"\n"))
	put(t, root, "EFI/fedora/bootuuid.cfg", content.String("set BOOT_UUID=\"x\"\n"))
	put(t, root, "loader/random-seed", pattern(6, 32))
	put(t, root, "empty", content.Ref{})
	if err := tree.Put(root, "EFI/Linux", tree.NewDir(0o700)); err != nil {
		t.Fatal(err)
	}
	return root
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
}

func readAt(t testing.TB, path string, off int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

// compare fails where names, types or content of what another program read
// differ from the tree.
func compare(t testing.TB, root *tree.Inode, got fs.FS) {
	t.Helper()
	seen := 0
	err := fs.WalkDir(got, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		want := tree.Lookup(root, path)
		switch {
		case want == nil:
			t.Errorf("%s is not in the tree", path)
		case want.IsDir() != d.IsDir():
			t.Errorf("%s is of another type", path)
		case want.IsFile():
			b, err := fs.ReadFile(got, path)
			if err != nil {
				return err
			}
			w, err := want.Content.ReadAll(64 * mib)
			if err != nil {
				return err
			}
			if !bytes.Equal(b, w) {
				t.Errorf("%s differs: %d bytes, want %d", path, len(b), len(w))
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if diff := info.ModTime().Unix() - want.Mtime; want.Mtime > minTime && (diff > 0 || diff < -1) {
				t.Errorf("%s: mtime is %d seconds off", path, diff)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	if err := tree.Walk(root, func(string, *tree.Inode) error { count++; return nil }); err != nil {
		t.Fatal(err)
	}
	if seen != count {
		t.Errorf("%d files read back, want %d", seen, count)
	}
}
