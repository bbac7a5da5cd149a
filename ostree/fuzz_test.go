package ostree

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"imgbuild/tree"
)

func objectSeeds(f *testing.F) {
	for _, n := range []int{0, 1, 3, 20, 300} {
		d := &DirTree{}
		m := &DirMeta{UID: 1, GID: 2, Mode: 0o40755}
		c := &Commit{Time: 7, Subject: "s", Body: strings.Repeat("b", n)}
		for k := range n {
			name := strings.Repeat("n", 1+k/26) + string(rune('a'+k%26))
			d.Files = append(d.Files, DirFile{name, tree.Sum{byte(k)}})
			d.Dirs = append(d.Dirs, DirDir{name, tree.Sum{byte(k)}, tree.Sum{1}})
			m.Xattrs = append(m.Xattrs, tree.Xattr{Name: name, Value: name})
			c.Metadata = append(c.Metadata, Metadata{name, String(name)})
			c.Related = append(c.Related, Related{name, tree.Sum{byte(k)}})
		}
		f.Add(d.Encode())
		f.Add(m.Encode())
		f.Add(c.Encode())
	}
	f.Add([]byte{})
	f.Add([]byte{0xff})
}

// What is parsed is written again as it was, and nothing panics.
func FuzzParseObjects(f *testing.F) {
	objectSeeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := ParseDirTree(b); err == nil && !bytes.Equal(d.Encode(), b) {
			t.Error("dirtree differs")
		}
		if d, err := ParseDirMeta(b); err == nil && !bytes.Equal(d.Encode(), b) {
			t.Error("dirmeta differs")
		}
		c, err := ParseCommit(b)
		if err == nil && !bytes.Equal(c.Encode(), b) {
			t.Error("commit differs")
		}
	})
}

func TestParseObjects(t *testing.T) {
	c := &Commit{
		Metadata: []Metadata{{"a", String("text")}, {"u", Variant{"u", []byte{1, 2, 3, 4}}}, {"ay", Variant{"ay", nil}}},
		Parent:   tree.Sum{1}, Related: []Related{{"r", tree.Sum{2}}}, Subject: "s", Body: "b", Time: -5, Contents: tree.Sum{3}, Meta: tree.Sum{4},
	}
	back, err := ParseCommit(c.Encode())
	if err != nil || !bytes.Equal(back.Encode(), c.Encode()) || back.Time != -5 || back.Related[0] != c.Related[0] {
		t.Fatalf("%+v, %v", back, err)
	}
	if v, ok := back.Lookup("a"); !ok || v.Type != "s" {
		t.Errorf("a is %+v", v)
	} else if s, ok := v.Text(); !ok || s != "text" {
		t.Errorf("a is %q", s)
	}
	if _, ok := back.Lookup("none"); ok {
		t.Error("found what is not there")
	}
	// Padding that is not zero is read by GVariant, and is not normal.
	b := c.Encode()
	if i := bytes.Index(b, []byte("a\x00\x00\x00\x00\x00\x00\x00text")); i < 0 {
		t.Fatal("no padding found")
	} else {
		b[i+3] = 1
	}
	if _, err := ParseCommit(b); !errors.Is(err, errNotNormal) {
		t.Errorf("padding: %v", err)
	}
	for n := range c.Encode() {
		if _, err := ParseCommit(c.Encode()[:n]); err == nil {
			t.Errorf("commit cut to %d bytes was read", n)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b"} {
		if _, err := ParseDirTree((&DirTree{Files: []DirFile{{Name: name}}}).Encode()); err == nil {
			t.Errorf("name %q was read", name)
		}
	}
	if _, err := ParseDirTree((&DirTree{Dirs: []DirDir{{Name: "b"}, {Name: "a"}}}).Encode()); err == nil {
		t.Error("names out of order were read")
	}
	if _, err := ParseDirMeta((&DirMeta{Mode: 0o100644}).Encode()); err == nil {
		t.Error("mode of a file was read")
	}
}

// A reader finds from the size of a container the width that its writer chose,
// which is the smallest that can be.
func TestOffsetWidth(t *testing.T) {
	for n := range 300 {
		for _, limit := range []int{0xff, 0xffff, 0xffffffff} {
			for size := max(0, limit-9*n-20); size < limit+20; size++ {
				w := offsetWidth(size, n)
				if n > 0 && w != containerWidth(size+n*w) || w > 1 && containerWidth(size+n*w/2) < w {
					t.Fatalf("%d bytes, %d offsets: width %d", size, n, w)
				}
			}
		}
	}
}

// unescapeRef is ostree-ext's reverse of EscapeRef.
func unescapeRef(s string) (string, bool) {
	var b strings.Builder
	for s != "" {
		c := s[0]
		s = s[1:]
		if c != '_' {
			b.WriteByte(c)
			continue
		}
		code, rest, ok := strings.Cut(s, "_")
		if s = rest; !ok {
			return "", false
		}
		if code == "" {
			b.WriteByte('_')
			continue
		}
		var r rune
		for _, d := range code {
			k := strings.IndexRune("0123456789ABCDEF", d)
			if k < 0 || r > 1<<24 {
				return "", false
			}
			r = r<<4 | rune(k)
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

func TestEscapeRef(t *testing.T) {
	for s, want := range map[string]string{
		"docker://quay.io/org/os:1": "docker_3A__2F__2F_quay_2E_io/org/os_3A_1",
		"sha256:abc":                "sha256_3A_abc",
		"a_b-c":                     "a__b-c",
		"/a/":                       "_2F_a_2F_",
		"a//b":                      "a/_2F_b",
		"a-/b":                      "a-_2F_b",
		"é/x":                       "_E9__2F_x",
		"\U0001F600":                "_1F600_",
		"~":                         "_7E_",
	} {
		if got := EscapeRef(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
	if got := BlobRef("sha256:00"); got != "ostree/container/blob/sha256_3A_00" {
		t.Error(got)
	}
	if got := ImageRef("oci:/x"); got != "ostree/container/image/oci_3A__2F_x" {
		t.Error(got)
	}
}

func FuzzEscapeRef(f *testing.F) {
	for _, s := range []string{"docker://quay.io/org/os:1", "_", "__", "a/b//c/", "é_\x00", "_3A_"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || s == "" {
			return
		}
		e := EscapeRef(s)
		if back, ok := unescapeRef(e); !ok || back != s {
			t.Errorf("%q: %q: %q, %v", s, e, back, ok)
		}
		if err := checkRef(ImageRef(s)); err != nil && len(e) < 250 && !strings.Contains("/"+e, "/-") {
			t.Errorf("%q: %v", s, err)
		}
	})
}
