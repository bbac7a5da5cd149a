package ext4

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// TestContent reads everything back with debugfs.
func TestContent(t *testing.T) {
	root := tree.NewDir(0o755)
	contents := map[string]content.Ref{"empty": {}}
	for i, n := range []int{1, blockSize - 1, blockSize, blockSize + 1, 1<<20 + 1, 3 << 20} {
		contents[fmt.Sprint("size-", n)] = fstest.Noise(uint64(i), n)
	}
	contents["sparse"] = fstest.Sparse(t, 9*mib+17,
		content.Piece{Off: 100, Ref: fstest.Noise(10, 10)},
		content.Piece{Off: blockSize - 1, Ref: fstest.Noise(11, 2)},
		content.Piece{Off: 5*mib + 1, Ref: fstest.Noise(12, 2*mib)},
		content.Piece{Off: 9*mib + 16, Ref: fstest.Noise(13, 1)})
	contents["scattered"] = fstest.Scattered(t, 1500).Content
	for name, c := range contents {
		root.Set(name, tree.NewFile(0o640, c))
	}
	f := root.Child("size-4097")
	f.UID, f.GID, f.Mtime, f.Mode = 70001, 80002, 1<<32+5, tree.TypeFile|0o6751
	f.Flags = tree.Immutable
	values := map[string]string{
		"security.selinux":         "system_u:object_r:usr_t:s0\x00",
		"user.empty":               "",
		"user.large":               strings.Repeat("large", 300),
		"system.posix_acl_access":  fstest.ACL,
		"trusted.overlay.metacopy": "\x00\x24\x00\x01",
	}
	for name, v := range values {
		f.SetXattr(name, v)
	}
	root.Set("second name", f)
	root.Set("link", tree.NewLink("short"))
	root.Set("long link", tree.NewLink(strings.Repeat("long/", 800)))
	root.Set("device", &tree.Inode{Mode: tree.TypeBlock | 0o660, Major: 259, Minor: 70000, GID: 6})

	image := writeImage(t, root, 128*mib, testOptions())
	fsck(t, image)
	out := t.TempDir()
	var commands []string
	for name := range contents {
		commands = append(commands, fmt.Sprintf("dump %s %s", name, filepath.Join(out, name)))
	}
	for name := range values {
		commands = append(commands, fmt.Sprintf("ea_get -f %s /size-4097 %s", filepath.Join(out, name), name))
	}
	debugfs(t, image, commands...)
	for name, c := range contents {
		fstest.CompareFile(t, filepath.Join(out, name), c)
	}
	// libext2fs gives entries without an identity 0, Linux -1.
	values["system.posix_acl_access"] = strings.ReplaceAll(fstest.ACL, "\xff\xff\xff\xff", "\x00\x00\x00\x00")
	for name, v := range values {
		fstest.CompareFile(t, filepath.Join(out, name), content.String(v))
	}
	stat := debugfs(t, image, `stat "/second name"`)
	for _, want := range []string{
		"Type: regular", "Mode:  06751", "Flags: 0x80010", "User: 70001", "Group: 80002", "Size: 4097", "Links: 2", "Blockcount: 24",
		"mtime: 0x00000005:00000001", "atime: 0x00000005:00000001", "crtime: 0x00000005:00000001",
	} {
		if !strings.Contains(stat, want) {
			t.Errorf("without %q:\n%s", want, stat)
		}
	}
	stat = debugfs(t, image, "stat /link", `stat "/long link"`, "stat /device", "stat /sparse", "ls -l /")
	for _, want := range []string{
		`Fast link dest: "short"`, "Size: 4000", "Device major/minor number: 259:70000", "(0-1):", "(1280-1792):", "(2304):",
		"  100640 (1)", "  120777 (7)", "  106751 (1)  70001  80002    4097",
	} {
		if !strings.Contains(stat, want) {
			t.Errorf("without %q:\n%s", want, stat)
		}
	}
	if n := strings.Count(debugfs(t, image, "ls -l /"), "4097 "); n < 2 {
		t.Errorf("%d names of the linked file", n)
	}
}

// TestSplitLinks checks that the names of a file that has too many go to
// copies of it.
func TestSplitLinks(t *testing.T) {
	d, f := tree.NewDir(0o755), fstest.File("linked")
	for i := range 2*maxLinks + 1 {
		d.Set(fmt.Sprintf("%06d", i), f)
	}
	image := writeImage(t, fstest.DirOf("d", d), 64*mib, testOptions())
	out := debugfs(t, image, "stat /d/000000", "stat /d/064999", "stat /d/065000", "stat /d/130000")
	var got []string
	for _, m := range regexp.MustCompile(`Inode: (\d+)|Links: (\d+)`).FindAllStringSubmatch(out, -1) {
		got = append(got, m[1]+m[2])
	}
	if want := "13 65000 13 65000 14 65000 15 1"; strings.Join(got, " ") != want {
		t.Errorf("inodes and links %v, want %s", got, want)
	}
}

// TestFeatures compares what dumpe2fs says of the superblock.
func TestFeatures(t *testing.T) {
	opt := testOptions()
	opt.Label, opt.Verity = "root", true
	out, err := tool(t, "dumpe2fs", "-h", writeImage(t, tree.NewDir(0o755), 1*gib, opt))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Filesystem features: has_journal ext_attr resize_inode dir_index filetype extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum verity\n",
		"Filesystem volume name: root\n", "Filesystem state: clean\n", "Filesystem UUID: " + fstest.UUIDString(opt.UUID) + "\n",
		"Directory Hash Seed: " + fstest.UUIDString(opt.HashSeed) + "\n", "Default directory hash: half_md4\n", "Flex block group size: 16\n",
		"Reserved GDT blocks: 127\n", "Inode count: 65536\n", "Block count: 262144\n", "Total journal size: 32M\n", "Journal start: 0\n",
		"Filesystem flags: signed_directory_hash \n", "Last write time: Tue Nov 14 22:13:20 2023\n",
	} {
		if !strings.Contains(regexp.MustCompile(`: +`).ReplaceAllString(out, ": "), want) {
			t.Errorf("without %q:\n%s", want, out)
		}
	}
}

// TestDeterministic writes a tree twice.
func TestDeterministic(t *testing.T) {
	digest := func() string {
		h := sha256.New()
		hashExtents(t, h, fstest.Objects(3000), 512*mib)
		return fmt.Sprintf("%x", h.Sum(nil))
	}
	if a, b := digest(), digest(); a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func hashExtents(t *testing.T, h hash.Hash, root *tree.Inode, size int64) {
	extents, err := Write(context.Background(), root, size, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range extents {
		fmt.Fprintln(h, e.Off, e.Data.Size())
		if _, err := io.Copy(h, e.Data.Reader()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLayout checks what copiers and readers rely on: the content of files is
// in the order of the inodes, with nothing between.
func TestLayout(t *testing.T) {
	root := fstest.Objects(2000)
	opt := testOptions()
	c, err := collect(context.Background(), root, &opt)
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.placeIn(1 * gib / blockSize)
	if err != nil {
		t.Fatal(err)
	}
	gaps := 0
	for i := 1; i < len(l.fileData); i++ {
		if end := (l.fileData[i-1].End() + blockSize - 1) &^ (blockSize - 1); l.fileData[i].Off != end {
			gaps++
		}
	}
	if gaps > 3 { // journal, copy of the superblock
		t.Errorf("%d gaps between %d files", gaps, len(l.fileData))
	}
	extents, err := Write(context.Background(), fstest.DirOf("f", tree.NewFile(0o644, fstest.Zeros(5*gib))), 10*gib, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(extents) > 90 {
		t.Errorf("%d extents for one file", len(extents))
	}
}
