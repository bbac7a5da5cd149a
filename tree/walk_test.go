package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
)

// sample makes a tree of lines "path", "path/" for directories and
// "path -> target" for links.
func sample(t *testing.T, lines ...string) *Inode {
	t.Helper()
	root := NewDir(0o755)
	for _, line := range lines {
		var err error
		if p, target, ok := strings.Cut(line, " -> "); ok {
			err = Put(root, p, NewLink(target))
		} else if strings.HasSuffix(line, "/") {
			_, err = MkdirAll(root, line)
		} else {
			err = Put(root, line, NewFile(0o644, content.String("content of "+line)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestWalk(t *testing.T) {
	root := sample(t, "b", "a/y", "a/x/1", "a-b", "c/", "d/only")
	root.Set("hard", root.Child("b"))
	stop := errors.New("stop")
	for _, c := range []struct {
		name string
		at   map[string]error
		want string
		err  error
	}{
		{"all", nil, "/ /a /a/x /a/x/1 /a/y /a-b /b /c /d /d/only /hard", nil},
		{"skip a directory", map[string]error{"/a": fs.SkipDir}, "/ /a /a-b /b /c /d /d/only /hard", nil},
		{"skip an empty one", map[string]error{"/c": fs.SkipDir}, "/ /a /a/x /a/x/1 /a/y /a-b /b /c /d /d/only /hard", nil},
		{"skip wrapped", map[string]error{"/a": fmt.Errorf("x: %w", fs.SkipDir)}, "/ /a /a-b /b /c /d /d/only /hard", nil},
		{"skip the root", map[string]error{"/": fs.SkipDir}, "/", nil},
		// As with fs.WalkDir, at a file it ends the directory around it.
		{"skip at a file", map[string]error{"/a/x/1": fs.SkipDir}, "/ /a /a/x /a/x/1 /a/y /a-b /b /c /d /d/only /hard", nil},
		{"skip at a file of the root", map[string]error{"/a-b": fs.SkipDir}, "/ /a /a/x /a/x/1 /a/y /a-b", nil},
		{"error", map[string]error{"/a/y": stop}, "/ /a /a/x /a/x/1 /a/y", stop},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			err := Walk(root, func(p string, i *Inode) error {
				if Lookup(root, p) != i {
					t.Errorf("%s is not what Lookup finds", p)
				}
				got = append(got, p)
				return c.at[p]
			})
			if s := strings.Join(got, " "); s != c.want || err != c.err {
				t.Errorf("met %s, %v; want %s, %v", s, err, c.want, c.err)
			}
		})
	}
}

func TestWalkNoDirectory(t *testing.T) {
	n := 0
	err := Walk(NewLink("x"), func(p string, _ *Inode) error { n++; return fs.SkipDir })
	if n != 1 || err != nil {
		t.Errorf("%d calls, %v", n, err)
	}
}

func TestLookup(t *testing.T) {
	root := sample(t, "a/b/c", "l -> a")
	for p, want := range map[string]*Inode{
		"": root, "/": root, "//.": root, "a": root.Child("a"), "/a//b/./c/": root.Child("a").Child("b").Child("c"),
		"l": root.Child("l"), "l/b": nil, "a/..": nil, "x": nil, "a/b/c/d": nil,
	} {
		if got := Lookup(root, p); got != want {
			t.Errorf("Lookup(%q) = %v, want %v", p, got, want)
		}
	}
}

func TestResolve(t *testing.T) {
	chain := func(n int) (lines []string) {
		lines = append(lines, "0")
		for k := range n {
			lines = append(lines, fmt.Sprintf("%d -> %d", k+1, k))
		}
		return lines
	}
	tree := []string{
		"usr/bin/sh", "usr/lib/os-release", "etc/",
		"bin -> usr/bin", "lib -> /usr/lib",
		"etc/os-release -> ../usr/lib/os-release",
		"usr/up -> ../../../..", "usr/etc -> ../../etc",
		"abs -> /", "dot -> .", "slash -> usr//bin/",
		"loop -> loop", "ping -> pong", "pong -> /ping", "in -> in/x",
		"dangling -> nowhere", "tofile -> usr/bin/sh",
		"grow -> grow/grow",
	}
	for _, c := range []struct{ p, want string }{
		{"", "/"}, {"/", "/"}, {"..", "/"}, {"/../..", "/"},
		{"bin/sh", "/usr/bin/sh"}, {"/bin/../bin/sh", "/usr/bin/sh"}, {"bin/..", "/usr"},
		{"lib/os-release", "/usr/lib/os-release"}, {"etc/os-release", "/usr/lib/os-release"},
		{"usr/up", "/"}, {"usr/up/usr/bin", "/usr/bin"}, {"usr/etc", "/etc"}, {"usr/etc/os-release", "/usr/lib/os-release"},
		{"abs/abs/abs/bin", "/usr/bin"}, {"dot/dot/bin/.", "/usr/bin"}, {"slash", "/usr/bin"}, {"slash/sh", "/usr/bin/sh"},
		{"tofile", "/usr/bin/sh"},
		{"loop", "many"}, {"ping", "many"}, {"pong/x", "many"}, {"in", "many"}, {"grow", "many"}, {"loop/..", "many"},
		{"dangling", "missing"}, {"nowhere", "missing"}, {"nowhere/..", "missing"},
		{"usr/bin/sh/x", "missing"}, {"usr/bin/sh/", "missing"}, {"usr/bin/sh/.", "missing"}, {"usr/bin/sh/..", "missing"}, {"tofile/", "missing"},
	} {
		root := sample(t, tree...)
		got, err := Resolve(root, c.p)
		switch c.want {
		case "missing":
			if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), c.p) {
				t.Errorf("Resolve(%q): %v", c.p, err)
			}
		case "many":
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Resolve(%q): %v", c.p, err)
			}
		default:
			if err != nil || got != Lookup(root, c.want) {
				t.Errorf("Resolve(%q): %v, want %s", c.p, err, c.want)
			}
		}
	}
	if _, err := Resolve(sample(t, chain(40)...), "40"); err != nil {
		t.Errorf("40 links: %v", err)
	}
	if _, err := Resolve(sample(t, chain(41)...), "41"); err == nil {
		t.Error("41 links are followed")
	}
}

func TestReadFile(t *testing.T) {
	root := sample(t, "usr/f", "l -> usr/f", "d/")
	if b, err := ReadFile(root, "/l", 100); err != nil || string(b) != "content of usr/f" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadFile(root, "l", 15); err == nil || !strings.Contains(err.Error(), "read l: 16 bytes") {
		t.Errorf("limit: %v", err)
	}
	if _, err := ReadFile(root, "d", 15); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
	if _, err := ReadFile(root, "x", 15); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	root := sample(t, "file", "link -> d", "d/")
	root.Mtime = 9
	for p, want := range map[string]bool{
		"": true, "/": true, "a/b/c": true, "/d/./e/": true, "d": true,
		"file": false, "file/x": false, "link": false, "link/x": false, "d/..": false, "../x": false, strings.Repeat("x", 256): false, "a\x00b": false,
	} {
		i, err := MkdirAll(root, p)
		if (err == nil) != want {
			t.Errorf("MkdirAll(%q): %v", p, err)
		}
		if err == nil && (i != Lookup(root, p) || !i.IsDir()) {
			t.Errorf("MkdirAll(%q) returns something else", p)
		}
	}
	made := Lookup(root, "a/b")
	if made.Mode != TypeDir|0o755 || made.UID != 0 || made.Mtime != 9 {
		t.Errorf("made %+v", made)
	}
}

func TestPut(t *testing.T) {
	root := sample(t, "file", "d/x", "e/")
	for p, want := range map[string]bool{
		"/new/dir/f": true, "d/x": true, "e": true, "g/": true,
		"": false, "/": false, ".": false, "..": false, "file/x": false, "q/" + strings.Repeat("x", 256): false,
	} {
		i := NewLink(p)
		err := Put(root, p, i)
		if (err == nil) != want {
			t.Errorf("Put(%q): %v", p, err)
		}
	}
	for _, p := range []string{"new/dir/f", "d/x", "e", "g"} {
		if i := Lookup(root, p); i == nil || !i.IsLink() {
			t.Errorf("%s is %v", p, i)
		}
	}
}

// FuzzResolve makes links of the input; whatever they are, a path resolves to
// an inode of the tree, or to an error.
func FuzzResolve(f *testing.F) {
	f.Add("a -> b\nb/c -> ../a\nb/d", "a/c/d")
	f.Add("x -> x/x/x", "x")
	f.Add("x -> /../y\ny -> ./././x/..", "x/../y")
	f.Fuzz(func(t *testing.T, lines, p string) {
		root := NewDir(0o755)
		for line := range strings.Lines(lines) {
			name, target, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " -> ")
			i := NewFile(0o644, content.Ref{})
			if ok {
				i = NewLink(target)
			}
			Put(root, name, i) // an invalid name is refused
		}
		got, err := Resolve(root, p)
		if (got == nil) == (err == nil) {
			t.Fatalf("%v, %v", got, err)
		}
		if err != nil {
			return
		}
		var all []*Inode
		Walk(root, func(_ string, i *Inode) error { all = append(all, i); return nil })
		if !slices.Contains(all, got) || got.IsLink() {
			t.Fatalf("resolved to %+v", got)
		}
	})
}
