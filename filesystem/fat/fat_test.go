package fat

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

// TestSizes writes volumes of many sizes, has the owners of the format check and
// read them, and compares the cluster size with that of mkfs.fat.
func TestSizes(t *testing.T) {
	root := esp(t)
	for _, test := range []struct {
		sectorSize int
		sizes      []int64 // MiB
	}{
		{512, []int64{34, 64, 100, 129, 256, 260, 261, 501, 512, 2048, 8192, 8193, 16385, 32769, 40960}},
		{4096, []int64{260, 501, 512, 2048, 2080, 2081, 8192, 40960}},
	} {
		for _, size := range test.sizes {
			t.Run(fmt.Sprintf("%d/%dMiB", test.sectorSize, size), func(t *testing.T) {
				opt := options
				opt.SectorSize = test.sectorSize
				image := write(t, root, size*mib, opt)
				fsck(t, image)
				extract(t, image, root)
				if label := run(t, "blkid", "-p", "-s", "LABEL", "-o", "value", image); label != "EFI-SYSTEM\n" {
					t.Errorf("label %q", label)
				}
				if id := run(t, "blkid", "-p", "-s", "UUID", "-o", "value", image); id != UUID(opt.VolumeID)+"\n" {
					t.Errorf("uuid %q", id)
				}
				checkLikeMkfs(t, image, size*mib, opt)
			})
		}
	}
}

// checkLikeMkfs compares the boot sector with that of mkfs.fat, but for what is
// known to differ.
func checkLikeMkfs(t *testing.T, image string, size int64, opt Options) {
	t.Helper()
	other := filepath.Join(t.TempDir(), "mkfs.img")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(other, size); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.fat", "-F", "32", "-S", fmt.Sprint(opt.SectorSize), "-h", fmt.Sprint(opt.HiddenSectors),
		"-i", fmt.Sprintf("%08x", opt.VolumeID), "-n", opt.Label, other)
	var sectors [2][]byte
	for i, path := range []string{image, other} {
		b := readAt(t, path, 0, sizeBootSector)
		clear(b[0x00:0x0B])  // jump and OEM name
		clear(b[0x18:0x1C])  // CHS geometry
		clear(b[0x5A:0x1FE]) // boot code
		if i == 0 {
			total, fat := binary.LittleEndian.Uint32(b[0x20:]), binary.LittleEndian.Uint32(b[0x24:])
			// mkfs.fat cuts the volume to whole tracks, and aligns nothing
			// behind its 32 reserved sectors with 64 sectors a cluster.
			if lost := size/int64(opt.SectorSize) - int64(total); lost < 0 || lost > int64(b[0x0D]) {
				t.Errorf("%d sectors unused", lost)
			}
			if want := binary.LittleEndian.Uint32(readAt(t, other, 0x24, 4)); fat+uint32(b[0x0D]) < want || fat > want+uint32(b[0x0D]) {
				t.Errorf("FAT of %d sectors, mkfs.fat has %d", fat, want)
			}
		}
		clear(b[0x20:0x28])
		if b[0x0D] > reservedSectors {
			clear(b[0x0E:0x10]) // mkfs.fat then reserves a whole cluster
		}
		sectors[i] = b
	}
	if !bytes.Equal(sectors[0], sectors[1]) {
		t.Errorf("boot sector\n% x\nmkfs.fat has\n% x", sectors[0][:0x5A], sectors[1][:0x5A])
	}
}

// TestFileSizes has files on both sides of every cluster boundary that matters.
func TestFileSizes(t *testing.T) {
	for _, test := range []struct {
		size        int64
		sectorSize  int
		clusterSize int
	}{{40 * mib, 512, 512}, {300 * mib, 512, 4096}, {300 * mib, 4096, 4096}, {9 << 30, 512, 8192}} {
		root := tree.NewDir(0o755)
		for _, clusters := range []int{0, 1, 2, 7, 128} {
			for _, d := range []int{-1, 0, 1} {
				if n := clusters*test.clusterSize + d; n >= 0 {
					put(t, root, fmt.Sprintf("%d.bin", n), pattern(n, n))
				}
			}
		}
		opt := options
		opt.SectorSize = test.sectorSize
		image := write(t, root, test.size, opt)
		b := readAt(t, image, 0, 512)
		if c := int(binary.LittleEndian.Uint16(b[0x0B:])) * int(b[0x0D]); c != test.clusterSize {
			t.Errorf("clusters of %d bytes, want %d", c, test.clusterSize)
		}
		fsck(t, image)
		extract(t, image, root)
	}
}

// TestLargestFile writes the largest file FAT can hold, nearly all of it a hole.
func TestLargestFile(t *testing.T) {
	large := func(size int64) *tree.Inode {
		ref, err := content.Sparse(size, []content.Piece{{Off: size - 5, Ref: content.String("tail\n")}})
		if err != nil {
			t.Fatal(err)
		}
		root := tree.NewDir(0o755)
		put(t, root, "dir/large.bin", ref)
		return root
	}
	// fsck.vfat 4.2 multiplies clusters by their size in 32 bits: it finds fault
	// with every file that takes 4 GiB of clusters, whoever wrote it.
	for _, size := range []int64{1<<32 - 4096, 1<<32 - 1} {
		root := large(size)
		need, err := Size(root, 0, options)
		if err != nil {
			t.Fatal(err)
		}
		image := write(t, root, need, options)
		if size < 1<<32-1 {
			fsck(t, image)
		}
		if out := run(t, "mdir", "-i", image, "::dir/large.bin"); !strings.Contains(out, fmt.Sprint(size)) {
			t.Errorf("mdir: %s", out)
		}
		// The chain as mtools sees it: one run of all clusters.
		if out := run(t, "mshowfat", "-i", image, "::dir/large.bin"); !strings.Contains(out, fmt.Sprintf("<4-%d>", 3+(1<<32)/4096-(1<<32-size)/4096)) {
			t.Errorf("mshowfat: %s", out)
		}
	}

	_, err := Write(context.Background(), large(1<<32), 8<<30, options)
	wantRefused(t, err, "/dir/large.bin")
}

func wantRefused(t *testing.T, err error, path string) {
	t.Helper()
	if fault.ClassOf(err) != fault.BadImage || !strings.Contains(fmt.Sprint(err), path+": ") {
		t.Errorf("got %v, want a refusal of %s", err, path)
	}
}

// TestSmallest tries the smallest volume there is, and one sector less.
func TestSmallest(t *testing.T) {
	for _, sectorSize := range []int{512, 4096} {
		opt := options
		opt.SectorSize = sectorSize
		root := esp(t)
		size, err := Size(root, 0, opt)
		if err != nil {
			t.Fatal(err)
		}
		image := write(t, root, size, opt)
		fsck(t, image)
		info := readAt(t, image, int64(sectorSize), sizeFSInfo)
		boot := readAt(t, image, 0, 2*sectorSize)
		if !bytes.Equal(boot, readAt(t, image, int64(sectorBackup*sectorSize), 2*sectorSize)) {
			t.Error("the backup differs from the boot sectors")
		}
		g := fit(size/int64(sectorSize), 1, int64(sectorSize))
		if g.clusters != minClusters {
			t.Errorf("%d clusters", g.clusters)
		}
		used := countUsed(t, image, g)
		if free := int64(binary.LittleEndian.Uint32(info[0x1E8:])); free != minClusters-used {
			t.Errorf("FSInfo says %d of %d clusters are free, %d are used", free, g.clusters, used)
		}
		if last := int64(binary.LittleEndian.Uint32(info[0x1EC:])); last != used+1 {
			t.Errorf("FSInfo says cluster %d is the last, want %d", last, used+1)
		}

		_, err = Write(context.Background(), root, size-1, opt)
		var small *filesystem.TooSmallError
		if !errors.As(err, &small) || small.Need != size || small.Size != size-1 {
			t.Errorf("one byte less: %v, want a TooSmallError for %d", err, size)
		}
	}
}

// countUsed counts the entries of the first FAT that are not free.
func countUsed(t *testing.T, image string, g geometry) (used int64) {
	t.Helper()
	b := readAt(t, image, g.fatOffset(0), int(g.clusters+rootCluster)*sizeFATEntry)
	for i := rootCluster * sizeFATEntry; i < len(b); i += sizeFATEntry {
		if binary.LittleEndian.Uint32(b[i:]) != 0 {
			used++
		}
	}
	return used
}

// TestSizeLeavesFree checks the promise of Size, and that one sector less would
// break it.
func TestSizeLeavesFree(t *testing.T) {
	for _, sectorSize := range []int64{512, 4096} {
		for _, free := range []int64{0, 1, 511, 512, 33 * mib, 34*mib + 1, 100 * mib, 255 * mib, 258 * mib, 259 * mib, 260 * mib, 300*mib + 17,
			2070 * mib, 2079 * mib, 8190 * mib, 8191 * mib, 8192 * mib, 33 << 30} {
			opt := options
			opt.SectorSize = int(sectorSize)
			root := esp(t)
			size, err := Size(root, free, opt)
			if err != nil {
				t.Fatal(err)
			}
			p, err := newPlan(context.Background(), root, true)
			if err != nil {
				t.Fatal(err)
			}
			left := func(sectors int64) int64 {
				g, ok := p.choose(sectors, sectorSize)
				if !ok {
					return -1
				}
				return (g.clusters - p.clusters(g.clusterSize())) * g.clusterSize()
			}
			sectors := size / sectorSize
			if size%sectorSize != 0 || left(sectors) < free {
				t.Errorf("sector size %d: %d bytes leave %d, want %d", sectorSize, size, left(sectors), free)
			}
			for less := int64(1); less < 300; less++ {
				if l := left(sectors - less); l >= free {
					t.Errorf("sector size %d: %d sectors less than %d leave %d, want less than %d", sectorSize, less, sectors, l, free)
				}
			}
		}
	}
}

// TestManySmallFiles has more files than a volume of its size has clusters of
// the usual size: smaller clusters are taken.
func TestManySmallFiles(t *testing.T) {
	root := tree.NewDir(0o755)
	for i := range 70000 {
		put(t, root, fmt.Sprintf("D%03d/F%03d", i/500, i%500), content.String("x"))
	}
	size, err := Size(root, 0, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{size, 261 * mib} {
		fsck(t, write(t, root, size, options))
	}
}

// TestDirectories has directories of one entry more and less than a cluster
// holds, a large one, and deep ones.
func TestDirectories(t *testing.T) {
	root := tree.NewDir(0o755)
	for _, n := range []int{0, 1, 13, 14, 15, 300} { // 14 and two dots fill 512 bytes
		dir := fmt.Sprintf("DIR%d", n)
		if err := tree.Put(root, dir, tree.NewDir(0o755)); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			put(t, root, fmt.Sprintf("%s/F%d", dir, i), pattern(i, i))
			put(t, root, fmt.Sprintf("long/%s/some longer name of file number %d", dir, i), pattern(i, 3))
		}
	}
	put(t, root, strings.Repeat("deep/", 60)+"file", content.String("down here\n"))
	image := write(t, root, 34*mib, options)
	fsck(t, image)
	extract(t, image, root)
}

// TestDirectoryLimit fills a directory with as many entries as FAT allows, and
// one more.
func TestDirectoryLimit(t *testing.T) {
	root := tree.NewDir(0o755)
	dir := tree.NewDir(0o755)
	root.Set("D", dir)
	for i := range 65534 { // and two dots
		dir.Set(fmt.Sprintf("F%05d", i), tree.NewFile(0o644, content.Ref{}))
	}
	fsck(t, write(t, root, 40*mib, options))
	dir.Set("ONEMORE", tree.NewFile(0o644, content.Ref{}))
	_, err := Write(context.Background(), root, 40*mib, options)
	wantRefused(t, err, "/D")
}

// TestTimes reads back times at and beyond the limits.
func TestTimes(t *testing.T) {
	root := tree.NewDir(0o755)
	for name, mtime := range map[string]int64{"ZERO": 0, "NEGATIVE": -1, "FIRST": minTime, "ODD": when, "LAST": maxTime, "BEYOND": maxTime + 1} {
		i := tree.NewFile(0o644, content.Ref{})
		i.Mtime = mtime
		root.Set(name, i)
	}
	out := run(t, "mdir", "-i", write(t, root, 34*mib, options), "::")
	golden(t, "times.txt", out)
	if got := newTimestamp(when).hundredths; got != 100 {
		t.Errorf("%d hundredths", got)
	}
}

// TestRefused has what FAT cannot hold. The error names the path, of two names
// that collide the second one.
func TestRefused(t *testing.T) {
	file := tree.NewFile(0o644, content.Ref{})
	for _, test := range []struct {
		path    string
		node    *tree.Inode
		refused string // where it is not path
	}{
		{path: "/EFI/link", node: tree.NewLink("BOOT")},
		{path: "/EFI/dev", node: &tree.Inode{Mode: tree.TypeChar | 0o600, Major: 1, Minor: 3}},
		{path: "/EFI/pipe", node: &tree.Inode{Mode: tree.TypeFIFO | 0o600}},
		{path: "/EFI/a:b", node: file},
		{path: "/EFI/a?b", node: file},
		{path: `/EFI/a\b`, node: file},
		{path: `/EFI/a"b`, node: file},
		{path: "/EFI/a\tb", node: file},
		{path: "/EFI/dot.", node: file},
		{path: "/EFI/...", node: file},
		{path: "/EFI/blank ", node: file},
		{path: "/EFI/not\xFFutf8", node: file},
		{path: "/EFI/\uFFFF", node: file},
		{path: "/EFI/boot", node: tree.NewDir(0o755)},
		{path: "/EFI/BOOT/bootX64.efi", node: file},
		{path: "/EFI/fedora/SHIM.EFI", node: file, refused: "/EFI/fedora/shim.efi"},
		{path: "/\u00c4pfel", node: file, refused: "/\u00e4pfel"},
	} {
		root := esp(t)
		put(t, root, "/\u00e4pfel", content.Ref{})
		if err := tree.Put(root, test.path, test.node); err != nil {
			t.Fatal(err)
		}
		if test.refused == "" {
			test.refused = test.path
		}
		_, err := Write(context.Background(), root, 64*mib, options)
		wantRefused(t, err, test.refused)
		_, err = Size(root, 0, options)
		wantRefused(t, err, test.refused)
	}
}

// TestOptions has options that are refused.
func TestOptions(t *testing.T) {
	root := tree.NewDir(0o755)
	for _, change := range []func(*Options){
		func(o *Options) { o.VolumeID = 0 },
		func(o *Options) { o.SectorSize = 1024 },
		func(o *Options) { o.SectorSize = -512 },
		func(o *Options) { o.Label = "TWELVE CHARS" },
		func(o *Options) { o.Label = "A.B" },
		func(o *Options) { o.Label = " A" },
		func(o *Options) { o.Label = "ÄÖ" },
		func(o *Options) { o.Label = "A\x00" },
	} {
		opt := options
		change(&opt)
		if _, err := Write(context.Background(), root, 64*mib, opt); err == nil {
			t.Errorf("%+v: no error", opt)
		}
	}
	for _, size := range []int64{-1, 0, 1, 511, 32 << 9, 1 << 20, 33 * mib / 2} {
		_, err := Write(context.Background(), root, size, options)
		if small := new(filesystem.TooSmallError); !errors.As(err, &small) {
			t.Errorf("size %d: %v", size, err)
		}
	}
	if _, err := Write(context.Background(), root, 2<<40, options); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("2 TiB: %v", err)
	}
	if _, err := Size(root, 1<<62, options); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("free 4 EiB: %v", err)
	}
	if _, err := Size(root, -1, options); err == nil {
		t.Error("negative free space: no error")
	}
	if _, err := Write(context.Background(), tree.NewFile(0o644, content.Ref{}), 64*mib, options); err == nil {
		t.Error("root is a file: no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, root, 64*mib, options); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestLabel reads labels back.
func TestLabel(t *testing.T) {
	for _, test := range []struct{ label, want string }{
		{"", ""}, {"a", "A"}, {"efi system", "EFI SYSTEM"}, {"ELEVENCHARS", "ELEVENCHARS"}, {"x_(1)!", "X_(1)!"},
	} {
		opt := options
		opt.Label = test.label
		fsck(t, write(t, tree.NewDir(0o755), 34*mib, opt))
		image := write(t, esp(t), 34*mib, opt)
		fsck(t, image)
		out := strings.TrimRight(run(t, "blkid", "-p", "-o", "value", "-s", "LABEL", image), "\n")
		if out != test.want {
			t.Errorf("label %q reads as %q", test.label, out)
		}
	}
}

// TestDeterministic writes twice, from trees made in different order, and finds
// the same extents; and only metadata that is needed.
func TestDeterministic(t *testing.T) {
	names := []string{"a", "B", "longer name", "longer names", "EFI/x.efi", "EFI/Y.EFI"}
	build := func(step int) (extents []disk.Extent) {
		root := tree.NewDir(0o755)
		for i := range names {
			name := names[(i*step)%len(names)]
			put(t, root, name, content.String(name))
		}
		extents, err := Write(context.Background(), root, 1<<30, options)
		if err != nil {
			t.Fatal(err)
		}
		return extents
	}
	one, two := build(1), build(5)
	if len(one) != len(two) {
		t.Fatalf("%d and %d extents", len(one), len(two))
	}
	sum := int64(0)
	for i := range one {
		a, err := one[i].Data.ReadAll(mib)
		if err != nil {
			t.Fatal(err)
		}
		b, err := two[i].Data.ReadAll(mib)
		if err != nil {
			t.Fatal(err)
		}
		if one[i].Off != two[i].Off || !bytes.Equal(a, b) {
			t.Errorf("extent %d differs", i)
		}
		if i > 0 && one[i].Off < one[i-1].End() {
			t.Errorf("extent %d is not behind the one before", i)
		}
		sum += one[i].Data.Size()
	}
	if sum > 4096 {
		t.Errorf("%d bytes of extents for a few small files", sum)
	}
}
