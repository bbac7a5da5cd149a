package mount

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/filesystem/btrfs"
	"imgbuild/filesystem/ext4"
	"imgbuild/filesystem/xfs"
	"imgbuild/tree"
)

// randomWriter is a writer with options drawn at random, and the checker of its
// owners.
type randomWriter struct {
	fs    string
	image func(t *testing.T, r *rand.Rand, root *tree.Inode) string
	check func(t testing.TB, image string)
}

func randomWriters() []randomWriter {
	return []randomWriter{
		{"ext4", func(t *testing.T, r *rand.Rand, root *tree.Inode) string {
			opt := ext4Options()
			opt.ReservedPercent = r.IntN(20) - 1
			opt.BytesPerInode = []int64{0, 4096, 65536}[r.IntN(3)]
			size, err := ext4.Size(root, r.Int64N(2<<30), opt)
			if err != nil {
				t.Fatal(err)
			}
			return ext4Image(t, root, size+r.Int64N(100)*4096, opt)
		}, ext4Check},
		{"xfs", func(t *testing.T, r *rand.Rand, root *tree.Inode) string {
			// No older than bigtime, so that times are as in the tree.
			opt := xfs.Options{Label: "random", Time: 1700000000, Features: []xfs.Features{
				0, xfs.Bigtime, xfs.DefaultFeatures | xfs.Rmapbt, xfs.DefaultFeatures | xfs.Rmapbt | xfs.NrExt64,
				xfs.DefaultFeatures | xfs.Rmapbt | xfs.NrExt64 | xfs.ExchangeRange | xfs.Parent,
			}[r.IntN(5)]}
			for i := range opt.UUID {
				opt.UUID[i] = byte(1 + r.IntN(255))
			}
			opt.AGCount = []int64{0, 2, 5}[r.IntN(3)]
			opt.StripeUnit = []int64{0, 0, 16 << 10, 256 << 10}[r.IntN(4)]
			opt.StripeWidth = opt.StripeUnit * (1 + r.Int64N(8))
			size, err := xfs.Size(root, r.Int64N(2<<30), opt)
			if err != nil {
				t.Fatal(err)
			}
			return xfsImage(t, root, size+r.Int64N(100)*4096, opt)
		}, xfsCheck},
		{"btrfs", func(t *testing.T, r *rand.Rand, root *tree.Inode) string {
			opt := btrfs.Options{
				Label: "random", Time: 1700000000, SingleMetadata: r.IntN(2) == 0, BlockGroupTree: r.IntN(2) == 0,
				Checksum: btrfs.Checksum(r.IntN(int(btrfs.SHA256) + 1)),
				Compress: []btrfs.Compression{{}, {Algorithm: btrfs.Zstd, Level: 1}, {Algorithm: btrfs.Zlib}}[r.IntN(3)],
			}
			for i := range opt.UUID {
				opt.UUID[i] = byte(1 + r.IntN(255))
			}
			tree.Walk(root, func(p string, i *tree.Inode) error {
				switch {
				case p == "/" || !i.IsDir() && !i.IsFile():
				case r.IntN(20) == 0:
					opt.NoDataCow = append(opt.NoDataCow, p)
				}
				return nil
			})
			opt = btrfsPacked(t, root, opt)
			size, err := btrfs.Size(root, r.Int64N(2<<30), opt)
			if err != nil {
				t.Fatal(err)
			}
			return btrfsImage(t, root, size+r.Int64N(100)*4096, opt)
		}, btrfsCheck},
	}
}

// TestRandomTrees draws trees, has each writer make a file system of them, its
// owner's tool check that, and the kernel mount it; what it shows is compared
// with the tree. Then it changes what is there, and the tool checks again.
// IMGBUILD_SOAK draws many.
func TestRandomTrees(t *testing.T) {
	needRoot(t)
	n := uint64(4)
	if os.Getenv("IMGBUILD_SOAK") != "" {
		n = 1000
	}
	for seed := range n {
		for _, w := range randomWriters() {
			t.Run(fmt.Sprint(w.fs, " ", seed), func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 3))
				root := randomTree(t, r)
				image := w.image(t, r, root)
				w.check(t, image)
				device := attach(t, image)
				mounted(t, w.fs, "ro", device, func(dir string) {
					if d := Compare(root, dir, "lost+found"); d != "" {
						t.Error(d)
					}
				})
				mounted(t, w.fs, "rw", device, func(dir string) { rewrite(t, dir, r) })
				w.check(t, image)
			})
		}
	}
}

// randomTree draws a tree of what all Linux file systems can hold. Every choice
// prefers small numbers, and now and then takes a large one.
func randomTree(t *testing.T, r *rand.Rand) *tree.Inode {
	some := func(most int) int { return r.IntN(1 + r.IntN(1+r.IntN(most))) }
	stamp := func(i *tree.Inode) *tree.Inode {
		i.Mtime = r.Int64N(1 << 33)
		i.UID, i.GID = uint32(r.IntN(1<<20)), uint32(some(1<<30))
		spaces := []string{"trusted.", "security.", "user."}
		if !i.IsFile() && !i.IsDir() {
			spaces = spaces[:2] // Linux shows no others there
		}
		for k := range some(8) {
			i.SetXattr(spaces[k%len(spaces)]+fmt.Sprint(k, strings.Repeat("n", some(100))), strings.Repeat("v", some(300)))
		}
		return i
	}
	root := tree.NewDir(0o755)
	root.Mtime = 5
	dirs, files := []*tree.Inode{root}, []*tree.Inode{}
	spool := noise(byte(r.IntN(256)), 4<<20)
	for n := range 50 + some(3000) {
		dir := dirs[r.IntN(len(dirs))]
		name := fmt.Sprint(n, "-", strings.Repeat(string(rune('a'+r.IntN(26))), some(240)))
		perm := uint32(r.IntN(0o10000))
		switch r.IntN(12) {
		case 0, 1:
			d := stamp(tree.NewDir(perm))
			dirs = append(dirs, d)
			dir.Set(name, d)
		case 2:
			l := tree.NewLink(strings.Repeat("t", 1+some(1022)))
			l.Mtime = r.Int64N(1 << 33)
			dir.Set(name, l)
		case 3:
			dir.Set(name, stamp(&tree.Inode{Mode: tree.TypeBlock | perm, Major: uint32(r.IntN(512)), Minor: uint32(r.IntN(1 << 18))}))
		case 4:
			dir.Set(name, stamp(&tree.Inode{Mode: []uint32{tree.TypeFIFO, tree.TypeSock, tree.TypeChar}[r.IntN(3)] | perm}))
		case 5:
			for k := range some(2000) {
				e := tree.NewFile(0o600, content.Ref{})
				e.Mtime = int64(k)
				dir.Set(fmt.Sprintf("%d.%d", k, n), e)
			}
		case 6, 7:
			if len(files) > 0 {
				for k := range 1 + some(200) {
					dirs[r.IntN(len(dirs))].Set(fmt.Sprint(name[:min(len(name), 200)], k), files[r.IntN(len(files))])
				}
			}
		case 8:
			var pieces []content.Piece
			at := int64(0)
			for range some(800) {
				at += int64(some(100_000))
				size := int64(1 + some(20_000))
				pieces = append(pieces, content.Piece{Off: at, Ref: spool.Slice(at%(3<<20), size)})
				at += size
			}
			c, err := content.Sparse(at+int64(some(1<<24)), pieces)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, stamp(tree.NewFile(perm, c)))
			dir.Set(name, files[len(files)-1])
		default:
			f := stamp(tree.NewFile(perm, spool.Slice(int64(r.IntN(1<<20)), int64(some(3<<20)))))
			if r.IntN(30) == 0 {
				f.Flags = tree.Immutable
			}
			files = append(files, f)
			dir.Set(name, f)
		}
	}
	return root
}

// rewrite changes what is in a mounted file system: new files in every directory,
// some of the old ones appended to, removed or moved.
func rewrite(t *testing.T, dir string, r *rand.Rand) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for k, e := range entries {
		name := dir + "/" + e.Name()
		switch {
		case e.IsDir() && e.Name() != "lost+found":
			if r.IntN(2) == 0 {
				rewrite(t, name, r)
			}
		case k%4 == 0:
			_ = os.Remove(name) // what is immutable stays
		case k%4 == 1 && e.Type().IsRegular():
			if f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0); err == nil {
				_, werr := f.Write(make([]byte, r.IntN(100_000)))
				if cerr := f.Close(); werr != nil || cerr != nil {
					t.Fatal(werr, cerr)
				}
			}
		case k%4 == 2:
			_ = os.Rename(name, dir+"/moved-"+fmt.Sprint(k))
		}
	}
	for k := range 20 {
		if err := os.WriteFile(fmt.Sprint(dir, "/new-", k), make([]byte, r.IntN(20_000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
