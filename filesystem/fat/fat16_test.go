package fat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// A FAT16 is one to its owners, in all sizes, and says what mkfs.fat would.
func TestFAT16(t *testing.T) {
	root := esp(t)
	for i, name := range awkward {
		put(t, root, "names/"+name, pattern(i, i*300))
	}
	put(t, root, "names/one/two/three", pattern(1, 5000)) // the first directory's ".."
	opt := options
	opt.FAT16 = true
	least, err := Size(root, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{least, least + 512, least + 65*512, 8 * mib, 16*mib + 1536, 31 * mib} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			image := write(t, root, size, opt)
			fsck(t, image)
			extract(t, image, root)
			for field, want := range map[string]string{"LABEL": "EFI-SYSTEM\n", "UUID": UUID(opt.VolumeID) + "\n", "VERSION": "FAT16\n"} {
				if got := run(t, "blkid", "-p", "-s", field, "-o", "value", image); got != want {
					t.Errorf("%s %q", field, got)
				}
			}
			mkfs := filepath.Join(t.TempDir(), "mkfs.img")
			if err := os.WriteFile(mkfs, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(mkfs, size); err != nil {
				t.Fatal(err)
			}
			run(t, "mkfs.fat", "-a", "-F", "16", "-s", "1", "-R", "1", "-h", fmt.Sprint(opt.HiddenSectors), "-i", fmt.Sprintf("%08x", opt.VolumeID), "-n", opt.Label, mkfs)
			var sectors [2][]byte
			for i, path := range []string{image, mkfs} {
				b := readAt(t, path, 0, sizeBootSector)
				clear(b[0x00:0x0B])  // jump and OEM name
				clear(b[0x18:0x1C])  // geometry
				clear(b[0x3E:0x1FE]) // boot code
				// mkfs.fat cuts the volume to whole tracks, and its FATs may be a
				// sector longer.
				for _, at := range []int{0x13, 0x16} {
					binary.LittleEndian.PutUint16(b[at:], 0)
				}
				clear(b[0x20:0x24])
				sectors[i] = b
			}
			if string(sectors[0]) != string(sectors[1]) {
				t.Errorf("boot sector\n% x\nmkfs.fat\n% x", sectors[0], sectors[1])
			}
			if out := run(t, "file", "-b", image); !strings.Contains(out, "FAT (16 bit)") {
				t.Errorf("file: %s", out)
			}
		})
	}
}

func TestFAT16Sizes(t *testing.T) {
	opt := options
	opt.FAT16 = true
	root := esp(t)
	for _, free := range []int64{0, 1, 5 * mib, 20 * mib} {
		size, err := Size(root, free, opt)
		if err != nil {
			t.Fatal(err)
		}
		image := write(t, root, size, opt)
		fsck(t, image)
		var used, all int64
		out := run(t, "fsck.vfat", "-n", image)
		if _, err := fmt.Sscanf(out[strings.LastIndex(out, ",")+1:], "%d/%d clusters", &used, &all); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if left := (all - used) * 512; left < free || all > minClusters16 && left >= free+512 {
			t.Errorf("%d bytes left, want %d", left, free)
		}
		if _, err := Write(context.Background(), root, size-512, opt); free == 0 && !errors.As(err, new(*filesystem.TooSmallError)) {
			t.Errorf("a sector less: %v", err)
		}
	}
	// The root directory grows with its entries.
	many := tree.NewDir(0o755)
	for i := range 700 {
		put(t, many, fmt.Sprintf("a rather long name %d", i), pattern(i, 10))
	}
	size, err := Size(many, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	image := write(t, many, size, opt)
	fsck(t, image)
	extract(t, image, many)

	// What a directory can have is more than the boot sector can say.
	full := tree.NewDir(0o755)
	for i := range 65_530 {
		put(t, full, fmt.Sprintf("F%05d", i), content.Ref{})
	}
	if _, err := Size(full, 0, opt); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "names in the root") {
		t.Errorf("65,530 names in the root: %v", err)
	}

	if _, err := Size(root, 33*mib, opt); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("33 MiB free: %v", err)
	}
	if _, err := Write(context.Background(), root, 40*mib, opt); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("40 MiB: %v", err)
	}
	opt.SectorSize = 4096
	size, err = Size(root, 0, opt)
	if err != nil {
		t.Fatal(err)
	}
	image = write(t, root, size, opt)
	fsck(t, image)
	extract(t, image, root)
}
