package debian

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The packages in testdata were made by dpkg-deb with each of its compressions.
func TestReadFile(t *testing.T) {
	const script, when = "#!/bin/sh\necho hello\n", 1700000000
	want := []Entry{
		{Path: "etc", Type: tar.TypeDir, Mode: 0o755, Mtime: when},
		{Path: "etc/hello.conf", Type: tar.TypeReg, Mode: 0o640, UID: 1000, GID: 42, Mtime: when},
		{Path: "usr", Type: tar.TypeDir, Mode: 0o755, Mtime: when},
		{Path: "usr/bin", Type: tar.TypeDir, Mode: 0o755, Mtime: when},
		{Path: "usr/bin/hello", Type: tar.TypeReg, Mode: 0o4755, Mtime: when, Content: []byte(script)},
		{Path: "usr/bin/hello-hard", Type: tar.TypeLink, Mode: 0o4755, Mtime: when, Link: "usr/bin/hello"},
		{Path: "usr/lib", Type: tar.TypeDir, Mode: 0o755, Mtime: when},
		{Path: "usr/lib/hello-link", Type: tar.TypeSymlink, Mode: 0o777, Mtime: when, Link: "../bin/hello"},
	}
	for _, compression := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			var got []Entry
			err := ReadFile(filepath.Join("testdata", "hello-"+compression+".deb"),
				func(p string) bool { return strings.HasPrefix(p, "usr/") },
				func(e Entry) error { got = append(got, e); return nil })
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReadRejects(t *testing.T) {
	member := func(name, size string) string {
		return arMagic + name + strings.Repeat(" ", 16-len(name)) + strings.Repeat("0", 32) + size + strings.Repeat(" ", 10-len(size)) + "`\n"
	}
	outside := func(name string) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Close()
		return b.String()
	}
	for name, c := range map[string]struct{ data, want string }{
		"empty":       {"", "not an ar archive"},
		"magic":       {"!<arsh>\n", "not an ar archive"},
		"no members":  {arMagic, "no data member"},
		"size":        {member("data.tar", "-1"), "size"},
		"truncated":   {member("control.tar.xz", "999999999"), "control.tar.xz"},
		"compression": {member("data.tar.lz4", "4"), "unknown compression"},
		"outside":     {member("data.tar", "4096") + outside("./../x"), "leads outside"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Read(strings.NewReader(c.data), nil, func(Entry) error { return nil })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, expected %q", err, c.want)
			}
		})
	}
}

// Members of ar are padded to even sizes.
func TestReadOddMember(t *testing.T) {
	b, err := os.ReadFile("testdata/hello-none.deb")
	if err != nil {
		t.Fatal(err)
	}
	const firstEnd = len(arMagic) + sizeArHeader + len("2.0\n")
	odd := []byte(string(b[len(arMagic):len(arMagic)+sizeArHeader]) + "odd\n")
	copy(odd, "extra           ")
	odd[48], odd[len(odd)-1] = '3', '\n'
	n := 0
	err = Read(bytes.NewReader(slices.Insert(b, firstEnd, odd...)), nil, func(Entry) error { n++; return nil })
	if err != nil || n != 8 {
		t.Errorf("%d entries, %v", n, err)
	}
}

func FuzzRead(f *testing.F) {
	files, err := filepath.Glob("testdata/hello-*.deb")
	if err != nil || len(files) != 4 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = Read(bytes.NewReader(b), nil, func(e Entry) error {
			if strings.HasPrefix(e.Path, "/") || e.Path == ".." || strings.HasPrefix(e.Path, "../") {
				t.Errorf("path %q", e.Path)
			}
			return nil
		})
	})
}
