package composefs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
)

// veritySizes are around the borders of one, two and three levels of hashes.
var veritySizes = []int{0, 1, 4095, 4096, 4097, 8192, 128 * 4096, 128*4096 + 1, 129 * 4096, 128*128*4096 + 4097}

func verityData(size int) []byte {
	b := make([]byte, size)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// TestVerityVectors has what fsverity-utils' "fsverity digest" prints.
func TestVerityVectors(t *testing.T) {
	for _, tt := range []struct {
		data []byte
		want string
	}{
		{nil, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"},
		{[]byte("hello world"), "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64"},
		{[]byte{0}, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"},
		{verityData(4097), "db901980faf2bbec788ea9b0535ec97b004b20c53cdc87fcb9c7c954b2277e20"},
		{verityData(129 * 4096), "cd8c3b900deceec801330a16c296635c7a9bf6753cc4c0d60e8487893ea70d20"},
		{verityData(128*128*4096 + 4097), "8df69aba0bc7a0ae74e3e91bbd07f867baffa45aa3b7255b9be79c8a9ddbd098"},
	} {
		got, err := FSVerity(bytes.NewReader(tt.data), int64(len(tt.data)))
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%x", got) != tt.want {
			t.Errorf("%d bytes: %x, want %s", len(tt.data), got, tt.want)
		}
	}
}

func TestFSVerityErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		r    io.Reader
		size int64
		want error
	}{
		{"short", bytes.NewReader(make([]byte, 9)), 10, io.ErrUnexpectedEOF},
		{"long", bytes.NewReader(make([]byte, 11)), 10, nil},
		{"negative", bytes.NewReader(nil), -1, nil},
		{"broken", iotest.ErrReader(broken), 10, broken},
		{"broken at the end", io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(broken)), 10, broken},
	} {
		sum, err := FSVerity(tt.r, tt.size)
		if err == nil || sum != [32]byte{} || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %x, %v", tt.name, sum, err)
		}
	}
}

// slowVerity is the definition, with all hashes in memory.
func slowVerity(data []byte) [32]byte {
	var root [32]byte
	for level := data; len(data) > 0; {
		var hashes []byte
		for at := 0; at < len(level); at += blockSize {
			var block [blockSize]byte
			copy(block[:], level[at:])
			sum := sha256.Sum256(block[:])
			hashes = append(hashes, sum[:]...)
		}
		if len(hashes) == 32 {
			root = [32]byte(hashes)
			break
		}
		level = hashes
	}
	return descriptorDigest(uint64(len(data)), root)
}

// FuzzVerity writes a content in pieces, twice through one Verity.
func FuzzVerity(f *testing.F) {
	for _, size := range veritySizes[:9] {
		f.Add(uint32(size), uint16(4096), uint8(1))
		f.Add(uint32(size), uint16(1), uint8(0))
		f.Add(uint32(size), uint16(5000), uint8(255))
	}
	f.Fuzz(func(t *testing.T, size uint32, piece uint16, seed uint8) {
		data := verityData(int(size % (1 << 21)))
		for i := range data {
			data[i] ^= seed
		}
		want := slowVerity(data)
		var v Verity
		for range 2 {
			for rest := data; len(rest) > 0; {
				n := min(max(int(piece), 1), len(rest))
				if k, err := v.Write(rest[:n]); k != n || err != nil {
					t.Fatal(k, err)
				}
				rest = rest[n:]
			}
			if got := v.Sum(); got != want {
				t.Fatalf("%d bytes in pieces of %d: %x, want %x", len(data), piece, got, want)
			}
			v.Reset()
		}
	})
}

func BenchmarkVerity(b *testing.B) {
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var v Verity
		v.Write(data)
		v.Sum()
	}
}
