package iso

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	diskfsfile "github.com/diskfs/go-diskfs/backend/file"
	diskfsiso "github.com/diskfs/go-diskfs/filesystem/iso9660"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

func open(t testing.TB, name string) (*Image, *os.File) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im, f
}

// compare compares an ISO that is read with the tree that it was made of.
func compare(t *testing.T, im *Image, root *tree.Inode, skip ...string) {
	t.Helper()
	n := 0
	err := im.Walk(func(path string, f *File) error {
		n++
		i := tree.Lookup(root, path)
		if i == nil {
			t.Errorf("%s is not in the tree", path)
			return nil
		}
		if f.Mode != i.Mode || f.UID != i.UID || f.GID != i.GID || f.Mtime != i.Mtime || f.Target != i.Target || f.IsDir() != i.IsDir() {
			if path != "/" {
				t.Errorf("%s: %+v", path, *f)
			}
		}
		if !i.IsFile() || strings.Contains(strings.Join(skip, " "), path) {
			return nil
		}
		if f.Size != i.Content.Size() {
			t.Errorf("%s: %d bytes, want %d", path, f.Size, i.Content.Size())
			return nil
		}
		if f.Size > 64*mib {
			return nil
		}
		got, err := f.ReadAll(64 * mib)
		if err != nil {
			return err
		}
		if want, _ := i.Content.ReadAll(64 * mib); !bytes.Equal(got, want) {
			t.Errorf("%s: content differs", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	tree.Walk(root, func(string, *tree.Inode) error { want++; return nil })
	if n != want {
		t.Errorf("%d files, want %d", n, want)
	}
}

func TestRead(t *testing.T) {
	root := sample(t)
	longest := strings.Repeat(strings.Repeat("c", 254)+"/", 15) + strings.Repeat("d", 250)
	put(t, root, "links/longest", tree.NewLink(longest))
	put(t, root, "links/component", tree.NewLink("/a/"+strings.Repeat("x", 255)+"/.././b"))
	large := fstest.Sparse(t, 1<<32+9, content.Piece{Off: maxExtent - 2, Ref: content.String("seam")}, content.Piece{Off: 1<<32 + 6, Ref: content.String("end")})
	put(t, root, "large", tree.NewFile(0o644, large))
	opt := options(t)
	opt.OmitChecksum, opt.Publisher = true, "A publisher"
	im, _ := open(t, write(t, root, opt))
	compare(t, im, root, "/images/eltorito.img")
	if im.VolumeID != opt.VolumeID || im.SystemID != "LINUX" || im.Application != "IMGBUILD" || im.Publisher != "A publisher" || !im.RockRidge || !im.Joliet || im.Created != "2023111422132000" {
		t.Errorf("%+v", im)
	}
	if len(im.Boot) != 2 || im.Boot[0].PlatformName() != "bios" || im.Boot[1].PlatformName() != "uefi" || im.Boot[1].Sectors != 4*mib/512 || !im.Boot[1].Bootable {
		t.Errorf("%+v", im.Boot)
	}
	f, err := im.Lookup("large")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 6)
	if _, err := f.ReadAt(b, maxExtent-3); err != nil || string(b) != "\x00seam\x00" {
		t.Errorf("at the seam: %q, %v", b, err)
	}
	if n, err := f.ReadAt(b, 1<<32+5); n != 4 || err != io.EOF || string(b[:4]) != "\x00end" {
		t.Errorf("at the end: %q, %v", b[:n], err)
	}
	if _, err := im.Lookup("/images/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if sum, err := im.Checksum(); sum != "" || err != nil {
		t.Errorf("checksum %q, %v", sum, err)
	}
}

// What xorriso writes is read, with Rock Ridge, with Joliet alone and with neither.
func TestReadXorriso(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{"one/Two.txt": "2", "UPPER": "up", "one/" + strings.Repeat("n", 200): "long", "large": strings.Repeat("x", 3*mib)} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../one/./Two.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for flags, want := range map[string]map[string]string{
		"-R":          {"/one/Two.txt": "2", "/UPPER": "up", "/one/" + strings.Repeat("n", 200): "long"},
		"-R -J":       {"/one/Two.txt": "2"},
		"--norock -J": {"/one/Two.txt": "2", "/UPPER": "up", "/one/" + strings.Repeat("n", 64): "long"},
		"--norock":    {"/one/two.txt": "2", "/upper": "up"},
	} {
		name := filepath.Join(t.TempDir(), "x.iso")
		args := append(strings.Fields(flags), "-iso-level", "3", "-quiet", "-V", "TEST", "-o", name, dir)
		tool(t, "xorrisofs", args...)
		tool(t, "implantisomd5", name)
		im, _ := open(t, name)
		for path, text := range want {
			if b, err := im.ReadFile(path, mib); err != nil || string(b) != text {
				t.Errorf("%s %s: %q, %v", flags, path, b, err)
			}
		}
		if im.RockRidge != strings.Contains(flags, "R") || im.Joliet != strings.Contains(flags, "J") {
			t.Errorf("%s: Rock Ridge %t, Joliet %t", flags, im.RockRidge, im.Joliet)
		}
		if f, err := im.Lookup("/link"); im.RockRidge && (err != nil || f.Target != "../one/./Two.txt" || f.Mode>>12 != 0o12) {
			t.Errorf("link: %+v, %v", f, err)
		}
		if err := im.Verify(context.Background(), nil); err != nil {
			t.Error(err)
		}
	}
}

// go-diskfs reads our names and content as well.
func TestReadDiskfs(t *testing.T) {
	root := sample(t)
	name := write(t, root, options(t))
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := diskfsiso.Read(diskfsfile.New(f, true), info.Size(), 0, BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"EFI/BOOT/grub.cfg", "images/pxeboot/vmlinuz", "a/b/c/d/e/f/g/h/i/j/deep", "names/with.two.dots"} {
		r, err := fsys.OpenFile("/"+path, os.O_RDONLY)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		if want, _ := tree.ReadFile(root, path, mib); !bytes.Equal(got, want) {
			t.Errorf("%s: content differs", path)
		}
	}
}

// A changed ISO is the one that would have been made of the changed tree, in place
// and as a copy.
func TestChange(t *testing.T) {
	root := sample(t)
	put(t, root, "area", text(strings.Repeat("#", 5000)))
	put(t, root, "boot/config", text(strings.Repeat("-", 3*mib)))
	name := write(t, root, options(t))
	put(t, root, "area", text("changed"+strings.Repeat("#", 4993)))
	put(t, root, "boot/config", text(strings.Repeat("+", 3*mib)))
	want := write(t, root, options(t))

	im, f := open(t, name)
	if err := im.Verify(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var changes []Change
	for path, text := range map[string]string{"area": "changed" + strings.Repeat("#", 4993), "boot/config": strings.Repeat("+", 3*mib)} {
		c, err := im.Replace(path, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c...)
	}
	copied := filepath.Join(t.TempDir(), "copy.iso")
	g, err := os.Create(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := im.Copy(context.Background(), g, changes, nil); err != nil {
		t.Fatal(err)
	}
	tool(t, "cmp", copied, want)
	if err := im.ChangeInPlace(context.Background(), f, changes, nil); err != nil {
		t.Fatal(err)
	}
	tool(t, "cmp", name, want)
	if out := tool(t, "checkisomd5", name); !strings.Contains(out, "PASS") {
		t.Error(out)
	}

	if _, err := im.Replace("area", []byte("short")); err == nil {
		t.Error("a file gets another length")
	}
	if err := im.Copy(context.Background(), g, append(changes, Change{changes[0].Off + 1, []byte("x")}), nil); err == nil {
		t.Error("changes overlap")
	}
	if _, err := f.WriteAt([]byte{0xAA}, changes[0].Off+1); err != nil {
		t.Fatal(err)
	}
	if err := im.Verify(context.Background(), nil); !errors.Is(err, ErrChecksum) || fault.ClassOf(err) != fault.BadImage {
		t.Errorf("a damaged ISO: %v", err)
	}
}

// hostile is a small ISO to damage.
func hostile(t testing.TB) []byte {
	root := tree.NewDir(0o755)
	put(t, root, "dir/"+strings.Repeat("n", 240), text("x"))
	put(t, root, "dir/sub/file", text("y"))
	put(t, root, "link", tree.NewLink("/"+strings.Repeat("c/", 200)))
	put(t, root, "images/eltorito.img", tree.NewFile(0o644, content.Bytes(bootImage(3000))))
	b, err := os.ReadFile(write(t, root, Options{VolumeID: "X", BIOS: &BIOSBoot{Path: "images/eltorito.img"}}))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadRefuses(t *testing.T) {
	good := hostile(t)
	im, err := Open(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := im.Lookup("dir")
	if err != nil {
		t.Fatal(err)
	}
	at := dir.Extents[0].Off
	for want, edit := range map[string]func(b []byte) []byte{
		"this is no ISO":              func(b []byte) []byte { b[16*2048+1] = 'x'; return b },
		"beyond the":                  func(b []byte) []byte { return b[:17*2048] },
		"blocks of 1024 bytes":        func(b []byte) []byte { copy(b[16*2048+volBlockSize:], []byte{0, 4, 4, 0}); return b },
		"no primary":                  func(b []byte) []byte { b[16*2048] = 3; return b },
		"validation entry is damaged": func(b []byte) []byte { b[im.Catalog*2048+28]++; return b },
		"cut off":                     func(b []byte) []byte { b[at] = 20; return b },
		"identifier of":               func(b []byte) []byte { b[at+recIDLength] = 250; return b },
		"directory within itself": func(b []byte) []byte {
			// The first subdirectory becomes the directory it is in.
			r := b[at:]
			for r[recFlags]&byte(flagDirectory) == 0 || r[recID] <= 1 {
				r = r[r[recLength]:]
			}
			putBoth32(r[recBlock:], uint32(at/2048))
			return b
		},
		"last extent is missing": func(b []byte) []byte {
			r := b[at:]
			for r[recFlags]&byte(flagDirectory) != 0 {
				r = r[r[recLength]:]
			}
			n := r[recLength]
			r[recFlags] |= byte(flagMore)
			clear(r[n:][:300])
			return b
		},
	} {
		b := edit(bytes.Clone(good))
		bad, err := Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			err = bad.Walk(func(string, *File) error { return nil })
		}
		if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%v (%d), want %q", err, fault.ClassOf(err), want)
		}
	}
}

// Links are as long as Linux has them, and no longer: a directory of some MiB whose
// records share a few blocks would take gigabytes.
func TestReadLongLink(t *testing.T) {
	for n, ok := range map[int]bool{4095: true, 4097: false} {
		root := tree.NewDir(0o755)
		put(t, root, "link", tree.NewLink(strings.Repeat("c/", n/2)+"c"))
		b, err := os.ReadFile(write(t, root, Options{VolumeID: "X"}))
		if err != nil {
			t.Fatal(err)
		}
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		f, err := im.Lookup("link")
		if ok && (err != nil || len(f.Target) != n) || !ok && (fault.ClassOf(err) != fault.BadImage || !strings.Contains(err.Error(), "a link to one of")) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Nothing that claims to be an ISO makes the reader panic, read without end or
// reach beyond it.
func FuzzOpen(f *testing.F) {
	good := hostile(f)
	im, err := Open(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		f.Fatal(err)
	}
	dir, err := im.Lookup("dir")
	if err != nil {
		f.Fatal(err)
	}
	good = good[:im.Catalog*BlockSize+4*BlockSize]
	edit := func(off int64, v byte) []byte { return []byte{byte(off >> 16), byte(off >> 8), byte(off), v} }
	f.Add([]byte{}, uint8(0))
	f.Add(edit(dir.Extents[0].Off, 20), uint8(0))
	f.Add(append(edit(dir.Extents[0].Off+recIDLength, 250), edit(im.Catalog*BlockSize+28, 3)...), uint8(1))
	f.Add(edit(systemArea*BlockSize+volRoot+recSize+2, 1), uint8(9))
	// An input is edits of a sound ISO, three bytes where and one what, and how many
	// blocks are missing at its end: small, so that the fuzzer gets through many.
	f.Fuzz(func(t *testing.T, edits []byte, cut uint8) {
		b := bytes.Clone(good)
		for ; len(edits) >= 4; edits = edits[4:] {
			off := int(edits[0])<<16 | int(edits[1])<<8 | int(edits[2])
			b[off%len(b)] = edits[3]
		}
		b = b[:max(0, len(b)-int(cut)*BlockSize)]
		im, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		total := int64(0)
		_ = im.Walk(func(path string, file *File) error {
			if !file.IsDir() && file.Size <= mib {
				got, err := file.ReadAll(mib)
				if err != nil {
					return err
				}
				if total += int64(len(got)); total > 16*mib {
					return io.EOF
				}
			}
			return nil
		})
		_, _ = im.Checksum()
	})
}

// FuzzWrite writes trees of many shapes and reads them back.
func FuzzWrite(f *testing.F) {
	f.Add("name", "target", uint32(0o644), int64(1700000000), uint16(3), []byte("content"))
	f.Add(strings.Repeat("n", 255), strings.Repeat("t/", 1000), uint32(0o4755), int64(-5), uint16(400), bytes.Repeat([]byte{1}, 2048))
	f.Add("Ä.b.c;1", "../..//.", uint32(0), int64(1)<<40, uint16(1), []byte{})
	f.Fuzz(func(t *testing.T, name, target string, mode uint32, mtime int64, count uint16, data []byte) {
		if !tree.ValidName(name) || target == "" || len(target) > 4000 || strings.Contains(target, "\x00") {
			return
		}
		root := tree.NewDir(0o755)
		dir := tree.NewDir(0o700)
		root.Set(name, dir)
		for k := range int(count % 600) {
			file := tree.NewFile(mode&tree.PermMask, content.Bytes(data))
			file.Mtime = mtime
			child := fmt.Sprintf("%s%d", name[:min(len(name), 250)], k)
			dir.Set(child, file)
		}
		dir.Set("link", tree.NewLink(target))
		name2 := filepath.Join(t.TempDir(), "x.iso")
		out, err := os.Create(name2)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if err := Write(context.Background(), root, out, Options{VolumeID: "X", OmitChecksum: true}); err != nil {
			t.Fatal(err)
		}
		info, err := out.Stat()
		if err != nil {
			t.Fatal(err)
		}
		im, err := Open(out, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = im.Walk(func(path string, file *File) error {
			n++
			i := tree.Lookup(root, path)
			if i == nil || i.IsDir() != file.IsDir() || i.Mode != file.Mode && path != "/" {
				t.Fatalf("%q: %+v", path, file)
			}
			if i.IsFile() {
				got, err := file.ReadAll(mib)
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%q: content differs, %v", path, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := dir.Len() + 2; n != want {
			t.Fatalf("%d files, want %d", n, want)
		}
	})
}
