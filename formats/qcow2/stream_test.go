package qcow2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"imgbuild/formats/output"
)

// TestStreamPacking packs pieces that end at, before and behind the end of a
// cluster, with plain clusters and tables in between, and checks every address
// and reference count against a count of its own.
func TestStreamPacking(t *testing.T) {
	const c = clusterSize
	const flush, whole, l2 = 0, -1, -2 // instead of a length
	rng := rand.New(rand.NewPCG(1, 7))
	var random []int
	for range 2000 {
		switch rng.IntN(10) {
		case 0:
			random = append(random, whole)
		case 1:
			random = append(random, []int{l2, flush, c - 1, 1}[rng.IntN(4)])
		default:
			random = append(random, 2+rng.IntN(plainAbove))
		}
	}
	for _, adds := range [][]int{
		{},
		{whole},
		{l2},
		{c / 2, c / 2},
		{c / 2, c / 2, 1},
		{c / 2, c/2 - 1},
		{c / 2, c/2 - 1, 1, 1},
		{c / 2, c/2 + 1},
		{c - 1, 1, c - 1, 1, whole, c - 1},
		{c - 512, 512, 512, c - 512},
		{511, 1, 513, c - 1025, 1},
		{c / 2, flush, c / 2, whole},
		{c / 2, flush, c/2 - 1, whole, flush, 2},
		{c / 2, flush, c/2 + 1, whole, flush, 2},
		{c / 2, flush, whole, flush, whole, c / 2},
		{c / 2, flush, l2, flush, 2},
		{c / 2, c / 2, flush, 2},
		{flush, flush, 2, flush, flush, 2},
		slices.Repeat([]int{2}, 3*c/2), // as many pieces in a cluster as can be
		slices.Repeat([]int{whole, c/2 + 3}, 200),
		random,
	} {
		t.Run(fmt.Sprint(len(adds), adds[:min(6, len(adds))]), func(t *testing.T) {
			f := create(t, "stream")
			out := output.NewFile(f)
			defer out.Stop()
			s := newStream(out)
			type added struct {
				data    []byte
				entries []uint64 // of a table, instead of data
				entry   *uint64
			}
			var all []added
			add := func(what func([]byte, *uint64) error, i, n int, entry *uint64) {
				data := bytes.Repeat([]byte{byte(1 + i%255)}, n)
				all = append(all, added{data: slices.Clone(data), entry: entry})
				if err := what(data, entry); err != nil {
					t.Fatal(err)
				}
				clear(data) // the stream must have a copy of its own
			}
			for i, n := range adds {
				switch n {
				case flush:
					if err := s.flush(); err != nil {
						t.Fatal(err)
					}
				case whole:
					add(s.addPlain, i, c, new(uint64))
				case l2:
					// What it maps is mostly in the same group.
					a := added{entries: make([]uint64, l2Entries), entry: new(uint64)}
					add(s.addCompressed, i, 100, &a.entries[5])
					add(s.addPlain, i, c, &a.entries[7])
					all = append(all, a)
					if err := s.addTable(a.entries, a.entry); err != nil {
						t.Fatal(err)
					}
				default:
					add(s.addCompressed, i, n, new(uint64))
				}
			}
			if err := s.finish(); err != nil {
				t.Fatal(err)
			}
			file, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if len(all) > 0 && int64(len(file)) != s.end {
				t.Errorf("file of %d bytes, want %d", len(file), s.end)
			}
			refs := make([]uint16, s.end/c)
			refs[0] = 1
			used := make([]bool, s.end)
			for _, a := range all {
				if a.entries != nil {
					a.data = encodeUint64s(a.entries)
				}
				off := int64(*a.entry &^ entryCopied)
				if *a.entry&entryCompressed != 0 {
					off = int64(*a.entry & (1<<sectorsShift - 1))
					if want := compressedEntry(off, len(a.data)); *a.entry != want {
						t.Fatalf("entry %#x, want %#x", *a.entry, want)
					}
				} else if *a.entry&entryCopied == 0 || off%c != 0 {
					t.Fatalf("entry %#x of a plain cluster", *a.entry)
				}
				end := off + int64(len(a.data))
				if off < c || end > s.end || !bytes.Equal(file[off:end], a.data) {
					t.Fatalf("%d bytes at %d are not what was added", len(a.data), off)
				}
				if i := slices.Index(used[off:end], true); i >= 0 {
					t.Fatalf("byte %d is used twice", off+int64(i))
				}
				for i := off; i < end; i++ {
					used[i] = true
				}
				for k := off / c; k <= (end-1)/c; k++ {
					refs[k]++
				}
			}
			if !slices.Equal(refs, s.refs) {
				t.Errorf("reference counts %v, want %v", s.refs, refs)
			}
		})
	}
}
