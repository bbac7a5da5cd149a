package qcow2

import (
	"fmt"
	"strings"
	"testing"

	"imgbuild/fault"
)

func TestParseCompression(t *testing.T) {
	for s, want := range map[string]struct {
		c     Compression
		level int
		ok    bool
	}{
		"zlib": {Zlib, 0, true}, "none": {None, 0, true}, "zstd": {Zstd, 0, true},
		"zstd:1": {Zstd, 1, true}, "zstd:22": {Zstd, 22, true},
		"": {}, "ZLIB": {}, "gzip": {}, "zstd:": {}, "zstd:0": {}, "zstd:23": {}, "zstd:-1": {}, "zstd:x": {}, "zstd:3:4": {},
		"zlib:6": {}, "none:1": {}, ":3": {}, "zstd 3": {}, "zstd:99999999999999999999": {},
	} {
		c, level, err := ParseCompression(s)
		if c != want.c || level != want.level || (err == nil) != want.ok {
			t.Errorf("ParseCompression(%q) = %v, %d, %v", s, c, level, err)
		}
		if err != nil && (fault.ClassOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("ParseCompression(%q): class %d, hint %q", s, fault.ClassOf(err), fault.HintOf(err))
		}
	}
}

func FuzzParseCompression(f *testing.F) {
	for _, s := range []string{"zlib", "none", "zstd", "zstd:3", "zstd:", "x:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, level, err := ParseCompression(s)
		if err != nil {
			return
		}
		if err := checkLevel(c, level); err != nil {
			t.Fatal(err)
		}
		if text := c.String(); s != text && !strings.HasPrefix(s, text+":") {
			t.Fatalf("%q is read as %s", s, text)
		}
	})
}

// TestEncoderHasNoMemory compresses clusters after different others.
func TestEncoderHasNoMemory(t *testing.T) {
	for _, opt := range variants {
		if opt.Compression == None {
			continue
		}
		for range 2 {
			old, err := newEncoder(opt.Compression, opt.Level)
			if err != nil {
				t.Fatal(err)
			}
			// The order of the map is another one every time.
			for name, src := range clusterSamples() {
				got, err := old.compress([]byte("before"), src)
				if err != nil {
					t.Fatal(err)
				}
				fresh, err := newEncoder(opt.Compression, opt.Level)
				if err != nil {
					t.Fatal(err)
				}
				want, err := fresh.compress(nil, src)
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != "before"+string(want) {
					t.Errorf("%v:%d: %s: other bytes with a used encoder", opt.Compression, opt.Level, name)
				}
			}
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, opt := range variants {
		b.Run(fmt.Sprint(opt.Compression, opt.Level), func(b *testing.B) {
			e, err := newEncoder(opt.Compression, opt.Level)
			if err != nil || e == nil {
				b.Skip("nothing to compress with")
			}
			src := clusterSamples()["text 1"]
			b.SetBytes(clusterSize)
			var dst []byte
			for b.Loop() {
				if dst, err = e.compress(dst[:0], src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
