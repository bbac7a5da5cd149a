package xfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// mkfs makes an empty file system with mkfs.xfs and returns its path.
func mkfs(t *testing.T, size int64, opt Options, args ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "mkfs")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	on := func(f Features) int {
		if opt.has(f) {
			return 1
		}
		return 0
	}
	all := []string{"-q", "-f", "-m", fmt.Sprintf("uuid=%s,finobt=%d,rmapbt=%d,reflink=%d,inobtcount=%d,bigtime=%d",
		fstest.UUIDString(opt.UUID), on(Finobt), on(Rmapbt), on(Reflink), on(InobtCount), on(Bigtime)),
		"-i", fmt.Sprintf("nrext64=%d", on(NrExt64))}
	version, err := tool(t, "mkfs.xfs", "-V")
	if err != nil {
		t.Fatalf("%v\n%s", err, version)
	}
	// "mkfs.xfs version 6.1.0"; since 6.10 more is on, since 6.13 the number of
	// processors counts.
	numbers := strings.Split(strings.Fields(version)[2], ".")
	major, _ := strconv.Atoi(numbers[0])
	minor, _ := strconv.Atoi(numbers[1])
	if major > 6 || minor >= 10 {
		all = append(all, "-i", fmt.Sprint("exchange=", on(ExchangeRange)), "-n", fmt.Sprint("parent=", on(Parent)))
	}
	if major > 6 || minor >= 13 {
		if opt.AGCount == 0 {
			all = append(all, "-d", "concurrency=0")
		}
		if opt.LogSize == 0 {
			all = append(all, "-l", "concurrency=0")
		}
	}
	if opt.Label != "" {
		all = append(all, "-L", opt.Label)
	}
	if opt.SectorSize > 0 {
		all = append(all, "-s", fmt.Sprint("size=", opt.SectorSize))
	}
	if opt.AGCount > 0 {
		all = append(all, "-d", fmt.Sprint("agcount=", opt.AGCount))
	}
	if opt.StripeUnit > 0 {
		all = append(all, "-d", fmt.Sprintf("su=%d,sw=%d", opt.StripeUnit, opt.StripeWidth/opt.StripeUnit))
	}
	if opt.LogSize > 0 {
		all = append(all, "-l", fmt.Sprint("size=", opt.LogSize))
	}
	if out, err := tool(t, "mkfs.xfs", append(append(all, args...), name)...); err != nil {
		t.Fatalf("mkfs.xfs %q: %v\n%s", all, err, out)
	}
	return name
}

// TestMkfs compares empty file systems with those of mkfs.xfs, byte by byte:
// all headers of all groups, all roots of trees, the log, the first inodes.
func TestMkfs(t *testing.T) {
	var sizes []int64
	for _, s := range []int64{
		300 * mib, 301*mib - 1, 777*mib + 12345, gib, 20 * gib, 100_000_000_000, 200 * gib, 1*tib - 4096, tib, tib + 1,
		4*tib - 4096, 4 * tib, 4*tib + 16*mib - 8*4096, 4*tib + 16*mib - 4*4096 - 1, 4*tib + 16*mib - 4*4096, 8 * tib, 15 * tib,
	} {
		sizes = append(sizes, s)
	}
	variants := map[string]func(*Options){
		"default":    func(o *Options) {},
		"label":      func(o *Options) { o.Label = "twelve bytes" },
		"nothing":    func(o *Options) { o.Features = NoFeatures },
		"everything": func(o *Options) { o.Features = DefaultFeatures | Rmapbt | NrExt64; o.SectorSize = 4096 },
		"today":      func(o *Options) { o.Features = newest },
		"7 groups":   func(o *Options) { o.AGCount, o.Features = 7, Reflink },
		"16K stripe": func(o *Options) { o.StripeUnit, o.StripeWidth = 16<<10, 48<<10 },
		"1M stripe":  func(o *Options) { o.StripeUnit, o.StripeWidth = mib, 8*mib },
		"large log":  func(o *Options) { o.LogSize = gib },
	}
	for name, set := range variants {
		for _, size := range sizes {
			opt := testOptions()
			set(&opt)
			if name != "default" && size < 6*gib || opt.AGCount > 0 && size > 6*tib {
				continue
			}
			t.Run(fmt.Sprint(name, " of ", size), func(t *testing.T) {
				var args []string
				if opt.StripeUnit > logRecordSize { // what mkfs.xfs chooses needs a record with several headers
					args = []string{"-l", fmt.Sprint("su=", logRecordSize)}
				}
				t.Parallel()
				root := tree.NewDir(0o755)
				if opt.has(Parent) { // a property for xfs_healer, with what it needs
					root.SetXattr("trusted.xfs:autofsck", "repair")
				}
				compareEmpty(t, writeImage(t, root, size, opt), mkfs(t, size, opt, args...), size, &opt)
			})
		}
	}
}

func compareEmpty(t *testing.T, ours, theirs string, size int64, opt *Options) {
	t.Helper()
	g, err := newGeometry(uint64(size)/blockSize, opt)
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) *os.File {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(ours), open(theirs)
	// compare compares n bytes of a group, but for what is in mask: offset,
	// length of 0 for a checksum.
	compare := func(what string, ag, agbno uint64, off, n int, mask ...[2]int) {
		t.Helper()
		x, y := make([]byte, n), make([]byte, n)
		at := int64(g.linear(ag, agbno))<<blockShift + int64(off)
		if _, err := a.ReadAt(x, at); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(y, at); err != nil {
			t.Fatal(err)
		}
		for _, m := range mask {
			clear(x[m[0] : m[0]+m[1]])
			clear(y[m[0] : m[0]+m[1]])
		}
		if !bytes.Equal(x, y) {
			i := 0
			for x[i] == y[i] {
				i++
			}
			t.Errorf("%s of group %d differs from offset %d on: %x, mkfs.xfs has %x", what, ag, i, x[i:min(i+16, n)], y[i:min(i+16, n)])
		}
	}
	sector := int(opt.sectorSize())
	for ag := range g.agCount {
		if ag == 0 {
			compare("superblock", ag, 0, 0, sector)
		} else { // inode numbers, inprogress, counters
			compare("superblock", ag, 0, 0, sector, [2]int{56, 24}, [2]int{126, 1}, [2]int{128, 24}, [2]int{224, 4})
		}
		compare("AGF", ag, 0, sector, sector)
		compare("AGI", ag, 0, 2*sector, sector)
		compare("AGFL", ag, 0, 3*sector, sector)
		// The first records; behind them mkfs.xfs leaves what it moved.
		for root, name := range map[uint32]string{g.bnoRoot: "bnobt", g.cntRoot: "cntbt", g.inoRoot: "inobt", g.finoRoot: "finobt", g.refcRoot: "refcountbt"} {
			if root != 0 {
				compare(name, ag, uint64(root), 0, sizeShortHeader+16, [2]int{52, 4})
			}
		}
	}
	compare("log", g.logAG, g.logAt, 0, 128<<10)
	for i := range inodesPerChunk {
		mask := [][2]int{{32, 24}, {92, 4}, {100, 4}, {104, 8}, {144, 8}} // times, generation, checksum, count of changes
		if i >= nodeFirst {
			mask = [][2]int{{92, 4}, {100, 4}}
		}
		compare(fmt.Sprint("inode ", i), 0, g.rootAt, i*inodeSize, inodeSize, mask...)
	}
}
