package xz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// packWith lets xz of XZ Utils compress b.
func packWith(t testing.TB, b []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("xz", append([]string{"-z", "-c", "-T1"}, args...)...)
	cmd.Stdin = bytes.NewReader(b)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz %v: %v: %s", args, err, stderr.Bytes())
	}
	return out
}

// contents are bytes that make chunks of all kinds.
func contents() map[string][]byte {
	rng := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 300_000)
	rng.Read(noise)
	text := bytes.Repeat([]byte("all work and no play makes jack a dull boy\n"), 9000)
	return map[string][]byte{
		"nothing": nil, "byte": {7}, "text": text, "noise": noise,
		"both": append(append(bytes.Clone(text), noise...), text...),
	}
}

func unpack(b []byte, maxDict int64) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(b), maxDict)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestReader(t *testing.T) {
	for name, want := range contents() {
		for _, args := range []string{"-0", "-6", "-9 --check=none", "--check=crc32", "--check=sha256", "--block-size=65536", "--block-size=10000 --check=crc32", "-T2 --block-size=100000"} {
			packed := packWith(t, want, strings.Fields(args)...)
			got, err := unpack(packed, 64<<20)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, xz %s: %d bytes of %d, %v", name, args, len(got), len(want), err)
			}
			// Streams behind each other, with padding.
			more := append(append(bytes.Clone(packed), 0, 0, 0, 0, 0, 0, 0, 0), packed...)
			if got, err := unpack(more, 64<<20); err != nil || !bytes.Equal(got, append(bytes.Clone(want), want...)) {
				t.Errorf("%s, xz %s, twice: %d bytes of %d, %v", name, args, len(got), 2*len(want), err)
			}
			// Each cut is an error.
			for _, n := range []int{1, 5, 11, 13, 20, len(packed) / 2, len(packed) - 13, len(packed) - 1} {
				if got, err := unpack(packed[:n], 64<<20); err == nil {
					t.Errorf("%s, xz %s, %d bytes of %d: %d bytes and no error", name, args, n, len(packed), len(got))
				}
			}
		}
	}
}

func TestDictionary(t *testing.T) {
	small, text := packWith(t, []byte("small"), "--lzma2=dict=4KiB"), contents()["text"]
	for _, c := range []struct {
		dict  string
		bytes int64
	}{{"4KiB", 4 << 10}, {"6KiB", 6 << 10}, {"1MiB", 1 << 20}, {"1536KiB", 3 << 19}, {"64MiB", 64 << 20}, {"1536MiB", 3 << 29}} {
		packed := packWith(t, text, "--lzma2=mf=hc3,dict="+c.dict)
		if c.bytes <= 64<<20 {
			if got, err := unpack(packed, c.bytes); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s: %d bytes, %v", c.dict, len(got), err)
			}
		}
		if _, err := unpack(packed, c.bytes-1); !errors.Is(err, ErrDictionary) {
			t.Errorf("%s, a byte less allowed: %v", c.dict, err)
		}
		if c.bytes == 4<<10 {
			continue
		}
		// Also where it is not the first block, of the file or of the stream.
		if got, err := unpack(append(bytes.Clone(small), packed...), 5<<10); !errors.Is(err, ErrDictionary) || string(got) != "small" {
			t.Errorf("%s in the second stream: %q, %v", c.dict, got, err)
		}
		later := append(bytes.Clone(small[:sizeHeader]), blocks(small)...)
		if got, err := unpack(append(later, blocks(packed)...), 5<<10); !errors.Is(err, ErrDictionary) || string(got) != "small" {
			t.Errorf("%s in the second block: %q, %v", c.dict, got, err)
		}
	}
	// Also where the chunk before says that it is longer, and the header within it.
	first := packWith(t, text[:2000], "--lzma2=dict=4KiB")
	first = append(bytes.Clone(first[:sizeHeader]), blocks(first)...)
	chunk := sizeHeader + 4*(int(first[sizeHeader])+1)
	if first[chunk] < 0x80 {
		t.Fatalf("chunk %#x is not compressed", first[chunk])
	}
	binary.BigEndian.PutUint16(first[chunk+3:], binary.BigEndian.Uint16(first[chunk+3:])+60)
	large := packWith(t, text, "--lzma2=mf=hc3,dict=1536MiB")
	if got, err := unpack(append(first, blocks(large)...), 5<<10); !errors.Is(err, ErrDictionary) || !bytes.Equal(got, text[:2000]) {
		t.Errorf("hidden in a chunk: %d bytes, %v", len(got), err)
	}
	// The largest that can be said.
	packed := packWith(t, text)
	packed[sizeHeader+4] = 40
	seal(packed[sizeHeader:])
	if _, err := unpack(packed, 1<<30); !errors.Is(err, ErrDictionary) || !strings.Contains(err.Error(), "4294967295 bytes, more than 1073741824") {
		t.Errorf("4 GiB: %v", err)
	}
}

// seal sums up a block header again.
func seal(b []byte) {
	size := 4 * (int(b[0]) + 1)
	binary.LittleEndian.PutUint32(b[size-sizeCRC:], crc32.ChecksumIEEE(b[:size-sizeCRC]))
}

// blocks returns the blocks of a file of one stream.
func blocks(b []byte) []byte {
	footer := b[len(b)-sizeHeader:]
	index := 4 * (int(binary.LittleEndian.Uint32(footer[4:])) + 1)
	return b[sizeHeader : len(b)-sizeHeader-index]
}

func TestDamaged(t *testing.T) {
	packed := packWith(t, contents()["text"])
	for at, value := range map[int]byte{
		0: 'x', 7: 0x0f, sizeHeader: 0xff, sizeHeader + 1: 0x03, sizeHeader + 2: 0x03, sizeHeader + 3: 0x05, sizeHeader + 4: 41,
		sizeHeader + 12: 0x03, // the first chunk
		len(packed) - 1: 0,
	} {
		b := bytes.Clone(packed)
		b[at] = value
		if got, err := unpack(b, 64<<20); err == nil || errors.Is(err, ErrDictionary) {
			t.Errorf("byte %d: %d bytes, %v", at, len(got), err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, b := range contents() {
		f.Add(packWith(f, b[:min(len(b), 2000)], "-0", "--block-size=500"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(r io.Reader, err error) ([]byte, error) {
			if err != nil {
				return nil, err
			}
			return io.ReadAll(io.LimitReader(r, 1<<20))
		}
		got, err := read(NewReader(bytes.NewReader(b), 1<<20))
		if err != nil {
			return // which may be a dictionary that the other reader would allocate
		}
		want, werr := read(xz.NewReader(bytes.NewReader(b)))
		if werr != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes; the library's own reader has %d, %v", len(got), len(want), werr)
		}
	})
}
