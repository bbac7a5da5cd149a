package oci

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// zstd:chunked as skopeo writes it: a frame for each file, and tables in frames
// that decoders skip. The layers are those that went in.
func TestZstdChunked(t *testing.T) {
	b := blobs{}
	plain := makeTar(t, dir("usr", 0o755), reg("usr/a", strings.Repeat("one", 5000)), hard("usr/b", "usr/a"), sym("c", "usr/a"), reg("empty", ""), reg(".wh.gone", ""))
	layout := b.layout(t, tagged(b.image(t, "amd64", part{plain: plain, blob: filter(t, plain, "gzip", "-nc")}, bigPart(t, 300_000)), "1"))
	root := store(t, layout, map[string]string{"1": "localhost/os:1"})
	chunked := filepath.Join(t.TempDir(), "chunked")
	skopeo(t, "copy", "-q", "--dest-compress", "--dest-compress-format", "zstd:chunked",
		fmt.Sprintf("containers-storage:[vfs@%s+%s:vfs.ignore_chown_errors=true]localhost/os:1", root, t.TempDir()), "oci:"+chunked+":1")
	img := open(t, "oci:"+chunked+":1", Options{})
	for _, l := range img.Layers {
		if !strings.HasSuffix(l.MediaType, "+zstd") {
			t.Errorf("layer of type %s", l.MediaType)
		}
	}
	if !strings.Contains(string(img.Manifest), "manifest-position") {
		t.Errorf("skopeo wrote no zstd:chunked: %s", img.Manifest)
	}
	if got, want := trees(t, "oci:"+chunked+":1", Options{}), trees(t, "oci:"+layout+":1", Options{}); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// eStargz: a gzip member for each file, one for the table of contents, which is
// a file of the layer, and an empty one that says where that is.
func TestStargz(t *testing.T) {
	plain := makeTar(t, reg("a", strings.Repeat("one", 5000)), reg("b", "two"), reg("stargz.index.json", `{"version":1,"entries":[]}`))
	var blob bytes.Buffer
	member := func(data, extra []byte) {
		z, err := gzip.NewWriterLevel(&blob, gzip.BestCompression)
		if err != nil {
			t.Fatal(err)
		}
		z.Extra = extra
		if _, err := z.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	toc := 0
	for i := 0; i < len(plain); i += 1000 {
		toc = blob.Len()
		member(plain[i:min(i+1000, len(plain))], nil)
	}
	member(nil, append([]byte{'S', 'G', 22, 0}, fmt.Sprintf("%016xSTARGZ", toc)...))
	b := blobs{}
	layout := b.layout(t, b.image(t, "amd64", part{plain: plain, blob: blob.Bytes()}))
	if got := trees(t, "oci:"+layout, Options{}); !strings.Contains(got, "stargz.index.json") || !strings.Contains(got, sum(plain)) {
		t.Errorf("%s", got)
	}
}
