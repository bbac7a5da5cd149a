package fsverity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
)

// noise returns size bytes of a linear congruential generator.
func noise(seed uint32, size int) []byte {
	b := make([]byte, size)
	x := seed
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func digestOf(t testing.TB, c content.Ref) string {
	t.Helper()
	m, err := Of(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Valid(c.Size()) {
		t.Fatalf("metadata of %d bytes for %d", m.Size, c.Size())
	}
	return fmt.Sprintf("%x", m.Digest())
}

// What fsverity-utils' "fsverity digest" prints.
func TestVectors(t *testing.T) {
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{nil, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
		{[]byte("hello world"), "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"},
		{[]byte{0}, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
		{noise(1, 4097), "db901980faf2bbec788ea9b0535ec97b004b20c53cdc87fcb9c7c954b2277e20"},
		{noise(1, 129*4096), "cd8c3b900deceec801330a16c296635c7a9bf6753cc4c0d60e8487893ea70d20"},
		{noise(1, 128*128*4096+4097), "8df69aba0bc7a0ae74e3e91bbd07f867baffa45aa3b7255b9be79c8a9ddbd098"},
	} {
		if got := digestOf(t, content.Bytes(tt.data)); got != tt.want {
			t.Errorf("%d bytes: %s, want %s", len(tt.data), got, tt.want)
		}
	}
}

// The sizes that the tool is asked about: all around the borders of blocks, of
// blocks of hashes, and of segments, and many between them.
func toolSizes() []int {
	sizes := []int{0}
	around := func(n int) {
		for d := -2; d <= 2; d++ {
			sizes = append(sizes, n+d)
		}
	}
	for _, blocks := range []int{1, 2, 3, 127, 128, 129, 255, 256, 257, segment - 1, segment, segment + 1, 2 * segment} {
		around(blocks * BlockSize)
	}
	sizes = append(sizes, 128*128*BlockSize, 128*128*BlockSize+1)
	x := uint32(7)
	for len(sizes) < 4000 {
		x = x*1664525 + 1013904223
		sizes = append(sizes, 3+int(x>>8)%(1<<(8+x>>28*3/4)))
	}
	return sizes
}

// The tool of fsverity-utils computes the same digests, and the same trees and
// descriptors, of thousands of sizes.
func TestTool(t *testing.T) {
	if _, err := exec.LookPath("fsverity"); err != nil {
		t.Fatalf("this test needs fsverity-utils: %v", err)
	}
	dir := t.TempDir()
	sizes := toolSizes()
	var contents []content.Ref
	var names []string
	biggest := 0
	for _, n := range sizes {
		biggest = max(biggest, n)
	}
	all := noise(42, biggest+len(sizes)+BlockSize+1)
	for k, n := range sizes {
		// Each content begins at another place, so that no two are alike.
		data := all[k : k+n]
		contents = append(contents, content.Bytes(data))
	}
	list, err := Measure(context.Background(), contents, NewMemory(contents...), nil)
	if err != nil {
		t.Fatal(err)
	}
	const batch = 500
	for first := 0; first < len(sizes); first += batch {
		names = names[:0]
		for k := first; k < min(first+batch, len(sizes)); k++ {
			name := filepath.Join(dir, fmt.Sprint(k-first))
			if err := os.WriteFile(name, all[k:k+sizes[k]], 0o600); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		out, err := exec.Command("fsverity", append([]string{"digest", "--compact"}, names...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Fields(string(out)) {
			if got := fmt.Sprintf("%x", list[first+i].Digest()); got != line {
				t.Errorf("%d bytes: %s, and fsverity says %s", sizes[first+i], got, line)
			}
		}
	}
	// Trees and descriptors of some.
	for _, n := range []int{0, 1, 4096, 4097, 128*4096 + 1, segment*BlockSize + 1, 128*128*4096 + 1} {
		name, merkle, descriptor := filepath.Join(dir, "data"), filepath.Join(dir, "merkle"), filepath.Join(dir, "descriptor")
		if err := os.WriteFile(name, all[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("fsverity", "digest", "--out-merkle-tree="+merkle, "--out-descriptor="+descriptor, name).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m, err := Of(context.Background(), content.Bytes(all[:n]))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, merkle, m.Tree, n)
		d := m.Descriptor()
		compare(t, descriptor, content.Bytes(d[:]), n)
	}
}

func compare(t *testing.T, name string, c content.Ref, size int) {
	t.Helper()
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.ReadAll(c.Size())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes: %s of %d bytes differs from the tool's %d", size, filepath.Base(name), len(got), len(want))
	}
}

func TestTreeSize(t *testing.T) {
	for size, want := range map[int64]int64{
		0: 0, 1: 0, 4096: 0, 4097: 4096, 128 * 4096: 4096, 128*4096 + 1: 3 * 4096, 256 * 4096: 3 * 4096,
		128 * 128 * 4096: 129 * 4096,
		128*128*4096 + 1: (129 + 2 + 1) * 4096,
		1<<63 - 1:        0x0081020408102000 + 4096*2,
	} {
		got := TreeSize(size)
		if size == 1<<63-1 {
			// About 1/127 of the file, in eight levels.
			if s := shapeOf(size); s.levels > maxLevels || got < size/128 || got > size/126 {
				t.Errorf("%d bytes: a tree of %d bytes in %d levels", size, got, s.levels)
			}
			continue
		}
		if got != want {
			t.Errorf("%d bytes: a tree of %d bytes, want %d", size, got, want)
		}
	}
}

type failing struct{ Memory }

var errFull = errors.New("full")

func (failing) WriteAt([]byte, int64) (int, error) { return 0, errFull }

func TestErrors(t *testing.T) {
	short := content.NewRef(bytes.NewReader(make([]byte, 10)), 0, 5000)
	if _, err := Of(context.Background(), short); err == nil {
		t.Error("a content that ends early is measured")
	}
	big := content.Bytes(make([]byte, 5000))
	if _, err := Measure(context.Background(), []content.Ref{big}, failing{}, nil); !errors.Is(err, errFull) {
		t.Errorf("a store that is full: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Of(ctx, big); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	m := make(Memory, 10)
	if _, err := m.WriteAt(make([]byte, 8), 5); err == nil {
		t.Error("a write beyond the end of a store")
	}
	if _, err := m.WriteAt(nil, 11); err == nil {
		t.Error("a write behind the end of a store")
	}
}

// slow is the definition, with all hashes in memory.
func slow(data []byte) (root [32]byte, tree []byte) {
	for level := data; len(data) > 0; {
		var hashes []byte
		for at := 0; at < len(level); at += BlockSize {
			var block [BlockSize]byte
			copy(block[:], level[at:])
			sum := sha256.Sum256(block[:])
			hashes = append(hashes, sum[:]...)
		}
		if len(hashes) == sizeHash {
			return [32]byte(hashes), tree
		}
		level = append(hashes, make([]byte, -len(hashes)&(BlockSize-1))...)
		tree = append(bytes.Clone(level), tree...)
	}
	return root, tree
}

// FuzzMeasure measures two contents at once and compares with the definition.
func FuzzMeasure(f *testing.F) {
	for _, size := range []uint32{0, 1, 4095, 4096, 4097, 128 * 4096, 128*4096 + 1, 129 * 4096, segment * BlockSize, segment*BlockSize + 1} {
		f.Add(size, uint32(1), []byte("x"))
		f.Add(uint32(5000), size, []byte{})
	}
	f.Fuzz(func(t *testing.T, a, b uint32, change []byte) {
		const limit = 2*segment*BlockSize + 5
		data := [][]byte{noise(a, int(a%limit)), noise(b, int(b%limit))}
		copy(data[0], change)
		contents := []content.Ref{content.Bytes(data[0]), content.Bytes(data[1])}
		store := NewMemory(contents...)
		list, err := Measure(context.Background(), contents, store, nil)
		if err != nil {
			t.Fatal(err)
		}
		roots := make([][32]byte, len(list))
		for k, m := range list {
			root, tree := slow(data[k])
			got, err := m.Tree.ReadAll(1 << 30)
			if err != nil || !bytes.Equal(got, tree) || m.Root != root {
				t.Fatalf("%d bytes: root %x, want %x; trees equal: %v; %v", len(data[k]), m.Root, root, bytes.Equal(got, tree), err)
			}
			roots[k] = root
		}
		for k, m := range Restore(contents, roots, store) {
			if m.Size != list[k].Size || m.Root != list[k].Root || m.Tree.Size() != list[k].Tree.Size() {
				t.Fatalf("restored %+v, want %+v", m, list[k])
			}
			a, _ := m.Tree.ReadAll(1 << 30)
			if b, _ := list[k].Tree.ReadAll(1 << 30); !bytes.Equal(a, b) {
				t.Fatal("another tree is restored")
			}
		}
	})
}

func BenchmarkMeasure(b *testing.B) {
	data := content.Bytes(make([]byte, 64<<20))
	b.SetBytes(data.Size())
	for b.Loop() {
		if _, err := Of(context.Background(), data); err != nil {
			b.Fatal(err)
		}
	}
}
