package oci

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"imgbuild/content"
	"imgbuild/oci/internal/tar"
	"imgbuild/tree"
)

func sampleRecord(t testing.TB) []byte {
	b := blobs{}
	p := rich(t)
	c := openCache(t, t.TempDir())
	unpacked(t, "oci:"+b.layout(t, b.image(t, "amd64", p)), sums(UnpackOptions{Cache: c}))
	raw, err := os.ReadFile(c.recordPath(sum(p.plain)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestRecord(t *testing.T) {
	raw := sampleRecord(t)
	r, err := decodeRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.encode(), raw) {
		t.Error("encoding what was decoded gives other bytes")
	}
	// A sparse file, and numbers at their limits.
	i := tree.NewFile(0o7777, content.NewRef(pending{}, 5, 1<<62))
	i.UID, i.GID, i.Mtime = 1<<32-2, 1<<32-2, -1<<63
	i.Object[0] = 1
	r = &record{
		durable: true, boot: "b", spoolSize: 1 << 62, spoolMtime: -5, hashID: "h", holes: []content.Range{{Start: 0, End: 1}, {Start: 5, End: 1 << 62}},
		entries: []entry{{path: "a", inode: i, off: 5, extra: &extra{sparse: true, data: []tar.Segment{{Offset: 1, Length: 2}, {Offset: 1<<62 - 1, Length: 1}}}},
			{path: "a/b", inode: tree.NewDir(0)}, {path: "", inode: tree.NewDir(0o755)}},
	}
	raw = r.encode()
	got, err := decodeRecord(raw)
	if err != nil {
		t.Fatal(err)
	}
	e := got.entries[0]
	if !bytes.Equal(got.encode(), raw) || e.inode.UID != i.UID || e.inode.Mtime != i.Mtime || e.inode.Content.Size() != 1<<62 ||
		len(e.extra.data) != 2 || e.inode.Object != i.Object || got.entries[1].path != "a/b" || len(got.holes) != 2 || !got.durable {
		t.Errorf("got %+v %+v", got, e)
	}
}

// FuzzRecord parses hostile records, checksums put aside, and builds their
// trees.
func FuzzRecord(f *testing.F) {
	raw := sampleRecord(f)
	f.Add(raw[len(recordMagic) : len(raw)-32])
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decodeBody(body)
		if err != nil {
			return
		}
		// Numbers can be written in more than one way, so it is not the bytes
		// that have to come back.
		again, err := decodeRecord(r.encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.encode(), r.encode()) {
			t.Fatal("encoding differs")
		}
		spool := content.NewSpool(nil, r.spoolSize, r.holes)
		if bind(r.entries, spool) == nil {
			_, _, _ = buildTree(context.Background(), r.entries, 1000)
		}
	})
}

// FuzzLayer unpacks hostile tars.
func FuzzLayer(f *testing.F) {
	x := reg("d/x", "")
	x.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "1"}
	f.Add(makeTar(f, dir("d", 0o755), x))
	f.Add(makeTar(f, hard("a", "b"), hard("b", "a")))
	f.Add(makeTar(f, hard("c", "b"), hard("b", "d/a"), reg("d/a", "text"), sym("s", "a"), dir("e/f", 0o755), reg("c", "")))
	f.Fuzz(func(t *testing.T, plain []byte) {
		// Most of a round through files is left out: the parser, the entries
		// and the tree are what there is to break.
		plain = bytes.Clone(plain)
		for off := 0; off+512 <= len(plain); off += 512 {
			// Without the right checksums little would be parsed.
			if b := plain[off : off+512]; string(b[257:262]) == "ustar" {
				n := 8 * int(' ')
				for i, c := range b {
					if i < 148 || i >= 156 {
						n += int(c)
					}
				}
				copy(b[148:], fmt.Sprintf("%06o\x00 ", n))
			}
		}
		s := &layerReader{ctx: context.Background(), u: &unpacker{}}
		s.u.budget.limits = Limits{Entries: 1000, Bytes: 1 << 20, Metadata: 1 << 20}
		if err := s.parse(tar.NewReader(&bytesStream{plain})); err != nil {
			return
		}
		root, _, err := buildTree(s.ctx, s.entries, 1000)
		if err != nil {
			return
		}
		err = tree.Walk(root, func(p string, i *tree.Inode) error {
			if i.Type() == 0 {
				return fmt.Errorf("%s has no type", p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := bind(s.entries, content.NewSpool(f, int64(len(plain)), nil)); err != nil {
			t.Fatal(err)
		}
	})
}

type bytesStream struct{ b []byte }

func (s *bytesStream) Next() ([]byte, error) {
	if len(s.b) == 0 {
		return nil, io.EOF
	}
	b := s.b[:min(len(s.b), 700)]
	s.b = s.b[len(b):]
	return b, nil
}

// TestMemory unpacks 100,000 files, cold and warm.
func TestMemory(t *testing.T) {
	const n = 100_000
	const most = 100 << 20
	plain := manyFiles(t, n)
	b := blobs{}
	ref := "oci:" + b.layout(t, b.image(t, "amd64", part{plain: plain, blob: filter(t, plain, "zstd", "-qc1")}))
	c := openCache(t, t.TempDir())
	plain, b = nil, nil
	for _, kind := range []string{"cold", "warm"} {
		img := open(t, ref, Options{})
		before := heap()
		layers, err := img.Unpack(context.Background(), sums(UnpackOptions{Cache: c}))
		if err != nil {
			t.Fatal(err)
		}
		used := heap() - before
		t.Logf("%s: %d bytes for %d files", kind, used, n)
		if used > most {
			t.Errorf("%s: %d bytes for %d files", kind, used, n)
		}
		if got := layers[0].Tree.Child("usr").Len(); got != n/100 {
			t.Errorf("%d directories", got)
		}
		runtime.KeepAlive(layers)
	}
}

// heap returns the bytes in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
