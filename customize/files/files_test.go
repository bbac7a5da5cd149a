package files

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// sample returns a system shaped as a bootc image.
func sample(t testing.TB) (sys *customize.System, etc, vars *tree.Inode) {
	t.Helper()
	os := tree.NewDir(0o755)
	for name, target := range map[string]string{"root": "var/roothome", "home": "var/home", "opt": "/var/opt"} {
		os.Set(name, tree.NewLink(target))
	}
	for p, i := range map[string]*tree.Inode{
		"usr/local":      tree.NewLink("../var/usrlocal"),
		"usr/bin/sh":     tree.NewFile(0o755, content.String("sh")),
		"usr/lib/passwd": tree.NewFile(0o644, content.String("sys:x:77:78::/:/bin/sh\n1234:x:9:9::/:\n")),
		"usr/lib/group":  tree.NewFile(0o644, content.String("sys:x:78:\n")),
	} {
		if err := tree.Put(os, p, i); err != nil {
			t.Fatal(err)
		}
	}
	etc, vars = tree.NewDir(0o755), tree.NewDir(0o755)
	for p, i := range map[string]*tree.Inode{
		"passwd":   tree.NewFile(0o644, content.String("root:x:0:0::/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\n")),
		"group":    tree.NewFile(0o644, content.String("root:x:0:\nme:x:1001:\nbroken\nsys:x:5:\n")),
		"old":      tree.NewFile(0o600, content.String("old")),
		"link":     tree.NewLink("old"),
		"loop":     tree.NewLink("loop"),
		"alt":      tree.NewLink("."),
		"toroot":   tree.NewLink("/root"),
		"usr":      tree.NewLink("/usr"),
		"dir/x":    tree.NewFile(0o644, content.String("x")),
		"dirlink":  tree.NewLink("dir"),
		"shadow":   tree.NewFile(0, content.String("")),
		"dir/down": tree.NewDir(0o700),
	} {
		if err := tree.Put(etc, p, i); err != nil {
			t.Fatal(err)
		}
	}
	return customize.New(os, etc, vars, 99, func(string) []byte { return nil }), etc, vars
}

func number(n int64) Owner { return Owner{ID: &n} }

// fixed serves one URI.
type fixed struct {
	uri, text string
	mode      uint32
	err       error
}

func (f fixed) Fetch(_ context.Context, uri, sum string) (content.Ref, uint32, error) {
	if uri != f.uri {
		return content.Ref{}, 0, errors.New("another URI")
	}
	return content.String(f.text), f.mode, f.err
}

func TestFiles(t *testing.T) {
	for _, tc := range []struct {
		name     string
		f        File
		o        Options
		src      Source
		at       string // path below etc or var
		text     string
		mode     uint32
		uid, gid uint32
	}{
		{name: "plain", f: File{Path: "/etc/new", Data: "a\n"}, at: "etc/new", text: "a\n", mode: 0o644},
		{name: "empty", f: File{Path: "/etc/new"}, at: "etc/new", mode: 0o644},
		{name: "mode", f: File{Path: "/etc/new", Mode: "0750"}, at: "etc/new", mode: 0o750},
		{name: "short mode", f: File{Path: "/etc/new", Mode: "400"}, at: "etc/new", mode: 0o400},
		{name: "user", f: File{Path: "/etc/new", User: Owner{Name: "me"}}, at: "etc/new", mode: 0o644, uid: 1000},
		{name: "both", f: File{Path: "/etc/new", User: Owner{Name: "sys"}, Group: Owner{Name: "sys"}}, at: "etc/new", mode: 0o644, uid: 77, gid: 5},
		{name: "numbers", f: File{Path: "/etc/new", User: number(7), Group: number(maxID)}, at: "etc/new", mode: 0o644, uid: 7, gid: maxID},
		{name: "numbers as names", f: File{Path: "/etc/new", User: Owner{Name: "1234"}, Group: Owner{Name: "1234"}}, at: "etc/new", mode: 0o644, uid: 9, gid: 1234},
		{name: "in place of another", f: File{Path: "/etc/old", Data: "new"}, at: "etc/old", text: "new", mode: 0o644},
		{name: "in place of a link", f: File{Path: "/etc/link", Data: "new"}, at: "etc/link", text: "new", mode: 0o644},
		{name: "behind a link", f: File{Path: "/etc/dirlink/y"}, at: "etc/dir/y", mode: 0o644},
		{name: "root's home", f: File{Path: "/root/.vimrc"}, at: "var/roothome/.vimrc", mode: 0o644},
		{name: "usr local", f: File{Path: "/usr/local/bin/tool", Mode: "755"}, at: "var/usrlocal/bin/tool", mode: 0o755},
		{name: "allowed", f: File{Path: "/opt/f"}, o: Options{Allow: []string{"/opt"}}, at: "var/opt/f", mode: 0o644},
		{name: "allowed one", f: File{Path: "/etc/fstab"}, o: Options{Allow: []string{"/etc/fstab"}}, at: "etc/fstab", mode: 0o644},
		{name: "allowed all", f: File{Path: "/var/home/x"}, o: Options{Allow: []string{"/"}}, at: "var/home/x", mode: 0o644},
		{name: "source", f: File{Path: "/etc/new", URI: "file:///src"}, src: fixed{"file:///src", "text", 0o100755, nil}, at: "etc/new", text: "text", mode: 0o755},
		{name: "source and mode", f: File{Path: "/etc/new", URI: "/src", Mode: "600"}, src: fixed{"/src", "text", 0o755, nil}, at: "etc/new", text: "text", mode: 0o600},
		{name: "https", f: File{Path: "/etc/new", URI: "https://example.com/x", SHA256: strings.Repeat("aB", 32)}, src: fixed{"https://example.com/x", "text", 0, nil}, at: "etc/new", text: "text", mode: 0o644},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sys, _, _ := sample(t)
			if _, err := Apply(t.Context(), sys, Config{Files: []File{tc.f}}, tc.o, tc.src); err != nil {
				t.Fatal(err)
			}
			i := tree.Lookup(sys.Root(), tc.at)
			if i == nil || !i.IsFile() {
				t.Fatalf("no file %s", tc.at)
			}
			text, err := i.Content.ReadAll(100)
			if err != nil || string(text) != tc.text || i.Perm() != tc.mode || i.UID != tc.uid || i.GID != tc.gid || i.Mtime != 99 {
				t.Errorf("%q %v %+v", text, err, i)
			}
		})
	}
	sys, etc, vars := sample(t)
	if _, err := Apply(t.Context(), sys, Config{Files: []File{{Path: "/etc/link"}, {Path: "/root/f"}, {Path: "/usr/local/sbin/f"}}}, Options{}, nil); err != nil {
		t.Fatal(err)
	}
	if old := etc.Child("old"); old.Content.Size() != 3 {
		t.Error("a link was followed")
	}
	if tree.Lookup(vars, "roothome").Perm() != 0o700 || tree.Lookup(vars, "usrlocal/sbin").Perm() != 0o755 {
		t.Error("permissions of directories that are made at boot")
	}
}

func TestDirectories(t *testing.T) {
	sys, etc, _ := sample(t)
	c := Config{
		Directories: []Directory{
			{Path: "/etc/a/b/c", Mode: "0750", User: Owner{Name: "me"}},
			{Path: "/etc/a"},
			{Path: "/etc/a/b", Mode: "700", Group: number(3)},
			{Path: "/etc/x/y", EnsureParents: true, Mode: "711"},
			{Path: "/etc/dir"},
			{Path: "/etc/dirlink/down", Mode: "775"},
		},
		Files: []File{{Path: "/etc/a/b/c/f"}, {Path: "/etc/x/f"}},
	}
	if _, err := Apply(t.Context(), sys, c, Options{}, nil); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"a": "755 0 0", "a/b": "700 0 3", "a/b/c": "750 1000 0", "x": "755 0 0", "x/y": "711 0 0", "dir": "755 0 0", "dir/down": "775 0 0"} {
		i := tree.Lookup(etc, p)
		if i == nil || !i.IsDir() || fmt.Sprintf("%o %d %d", i.Perm(), i.UID, i.GID) != want {
			t.Errorf("%s: %+v, want %s", p, i, want)
		}
	}
	if tree.Lookup(etc, "a/b/c/f") == nil || tree.Lookup(etc, "dir/x") == nil {
		t.Error("entries of directories")
	}
}

// Everything that is wrong whatever the image.
func TestValidate(t *testing.T) {
	sum := strings.Repeat("0", 64)
	for _, tc := range []struct {
		c    Config
		o    Options
		want string // field: part of the message
	}{
		{c: Config{Files: []File{{Path: ""}}}, want: "files[0].path: is missing"},
		{c: Config{Files: []File{{Path: "etc/x"}}}, want: "files[0].path: \"etc/x\" is not absolute"},
		{c: Config{Files: []File{{Path: "/etc/x/"}}}, want: "files[0].path: \"/etc/x/\" is not written plainly"},
		{c: Config{Files: []File{{Path: "/etc/../usr/x"}}}, want: "not written plainly"},
		{c: Config{Files: []File{{Path: "/etc/\x00"}}}, want: "NUL"},
		{c: Config{Files: []File{{Path: "/etc/" + strings.Repeat("x", 256)}}}, want: "255 bytes"},
		{c: Config{Files: []File{{Path: "/etc/" + strings.Repeat("x/", 2100) + "x"}}}, want: "longer than"},
		{c: Config{Files: []File{{Path: "/usr/bin/x"}}}, want: "files[0].path: /usr/bin/x is not among"},
		{c: Config{Files: []File{{Path: "/etcetera"}}}, want: "not among"},
		{c: Config{Files: []File{{Path: "/"}}}, want: "not among"},
		{c: Config{Files: []File{{Path: "/etc/passwd"}}}, want: "belongs to other settings"},
		{c: Config{Files: []File{{Path: "/etc/fstab/x"}}}, want: "belongs to other settings"},
		{c: Config{Files: []File{{Path: "/var/lib/x"}}}, want: "not among"},
		{c: Config{Directories: []Directory{{Path: "/root/x"}}}, want: "directories[0].path: /root/x is not among"},
		{c: Config{Directories: []Directory{{Path: "/etc/passwd"}}}, want: ""},
		{c: Config{Files: []File{{Path: "/etc/a"}, {Path: "/etc/a"}}}, want: "files[1].path: /etc/a is in files[0] already"},
		{c: Config{Files: []File{{Path: "/etc/a"}}, Directories: []Directory{{Path: "/etc/a"}}}, want: "files[0].path: /etc/a is in directories[0] already"},
		{c: Config{Files: []File{{Path: "/etc/a"}, {Path: "/etc/a/b/c"}}}, want: "files[1].path: /etc/a/b/c is below /etc/a, which is a file of files[0]"},
		{c: Config{Files: []File{{Path: "/etc/a"}}, Directories: []Directory{{Path: "/etc/a/b"}}}, want: "directories[0].path: /etc/a/b is below"},
		{c: Config{Files: []File{{Path: "/etc/a", Mode: "0999"}}}, want: "files[0].mode: \"0999\""},
		{c: Config{Files: []File{{Path: "/etc/a", Mode: "4755"}}}, want: "files[0].mode"},
		{c: Config{Directories: []Directory{{Path: "/etc/a", Mode: "u=rwx"}}}, want: "directories[0].mode"},
		{c: Config{Files: []File{{Path: "/etc/a", User: Owner{Name: "ä"}}}}, want: "files[0].user"},
		{c: Config{Files: []File{{Path: "/etc/a", User: Owner{Name: "-x"}}}}, want: "files[0].user"},
		{c: Config{Files: []File{{Path: "/etc/a", Group: Owner{Name: "a.b"}}}}, want: "files[0].group"},
		{c: Config{Files: []File{{Path: "/etc/a", Group: number(-1)}}}, want: "files[0].group: -1"},
		{c: Config{Files: []File{{Path: "/etc/a", User: number(1 << 32)}}}, want: "files[0].user"},
		{c: Config{Files: []File{{Path: "/etc/a", Data: strings.Repeat("x", 10<<20)}}}, want: "files[0].data: is 10485760 bytes long"},
		{c: Config{Files: []File{{Path: "/etc/a", Data: "x", URI: "file:///x"}}}, want: "files[0].uri: there is data"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "http://example.com/x"}}}, want: "files[0].uri: \"http://example.com/x\": the scheme http"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "ftp://u:secret@example.com/x"}}}, want: "u:xxxxx@example.com"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "https://example.com/x"}}}, want: "files[0].sha256: is missing"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "https:///x", SHA256: sum}}}, want: "no host"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "https://example.com/x", SHA256: "abc"}}}, want: "files[0].sha256: \"abc\""},
		{c: Config{Files: []File{{Path: "/etc/a", SHA256: sum}}}, want: "files[0].sha256: is for"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "x/y"}}}, want: "files[0].uri: \"x/y\" does not name"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "file://host/y"}}}, want: "files[0].uri"},
		{c: Config{Files: []File{{Path: "/etc/a", URI: "https://a:secret@b c/%"}}}, want: "files[0].uri"},
		{o: Options{Allow: []string{"var"}}, want: "allow-paths[0]"},
		{c: Config{Files: []File{{Path: "/var/x"}}}, o: Options{Allow: []string{"/var"}}, want: ""},
	} {
		p := Validate(tc.c, tc.o)
		if tc.want == "" && len(p) > 0 || tc.want != "" && !strings.Contains(p.Error(), tc.want) || strings.Contains(p.Error(), "secret") {
			t.Errorf("%.200q: %v, want %s", fmt.Sprint(tc.c), p, tc.want)
		}
		for _, q := range p {
			if fault.ClassOf(q.Err) != fault.Usage {
				t.Errorf("%v: class %d", q, fault.ClassOf(q.Err))
			}
		}
	}
}

// Everything that an image is at odds with.
func TestProblems(t *testing.T) {
	gone := errors.New("gone")
	for _, tc := range []struct {
		c     Config
		o     Options
		src   Source
		want  string
		class fault.Class
	}{
		{c: Config{Files: []File{{Path: "/etc/none/x"}}}, want: "files[0].path: there is no directory /etc/none", class: fault.Usage},
		{c: Config{Directories: []Directory{{Path: "/etc/none/x"}}}, want: "directories[0].path: there is no directory /etc/none", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/old/x"}}}, want: "not a directory", class: fault.Usage},
		{c: Config{Directories: []Directory{{Path: "/etc/old/x", EnsureParents: true}}}, want: "not a directory", class: fault.Usage},
		{c: Config{Directories: []Directory{{Path: "/etc/old"}}}, want: "/etc/old is there and not a directory", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/dir"}}}, want: "directory", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/loop/x"}}}, want: "too many symbolic links", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/usr/x"}}}, want: "which is /usr/x, is read-only", class: fault.Unsupported},
		{c: Config{Directories: []Directory{{Path: "/etc/usr"}}}, want: "read-only", class: fault.Unsupported},
		{c: Config{Files: []File{{Path: "/usr/bin/x"}}}, o: Options{Allow: []string{"/usr"}}, want: "/usr/bin/x is read-only", class: fault.Unsupported},
		{c: Config{Files: []File{{Path: "/etc/alt/passwd"}}}, want: "leads to /etc/passwd", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/new"}, {Path: "/etc/alt/new"}}}, want: "files[0].path: /etc/new is /etc/new, as is files[1]", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/new", User: Owner{Name: "nobody"}}}}, want: "files[0].user: there is no user nobody", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/new", Group: Owner{Name: "wheel"}}}}, want: "files[0].group: there is no group wheel", class: fault.Usage},
		{c: Config{Files: []File{{Path: "/etc/new", URI: "/x"}}}, src: fixed{"/x", "", 0, fault.New(fault.NotFound, gone, "")}, want: "files[0].uri: gone", class: fault.NotFound},
	} {
		sys, _, _ := sample(t)
		_, err := Apply(t.Context(), sys, tc.c, tc.o, tc.src)
		p, ok := err.(customize.Problems)
		if !ok || len(p) != 1 || !strings.Contains(p.Error(), tc.want) || fault.ClassOf(p[0].Err) != tc.class {
			t.Errorf("%+v: %v, want %s", tc.c, err, tc.want)
		}
	}
	// Several at once.
	sys, _, _ := sample(t)
	_, err := Apply(t.Context(), sys, Config{Files: []File{{Path: "/etc/a/b", User: Owner{Name: "no"}, Group: Owner{Name: "no"}}, {Path: "/etc/none/b"}}}, Options{}, nil)
	if p, ok := err.(customize.Problems); !ok || len(p) != 4 {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Apply(ctx, sys, Config{Files: []File{{Path: "/etc/new", URI: "/x"}}}, Options{}, fixed{uri: "/x", err: gone}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// Whatever is asked for, only /etc and /var change.
func FuzzApply(f *testing.F) {
	f.Add("/etc/a", "/etc/b", "0644", "me", "/")
	f.Add("/root/x", "/etc/alt/alt/dir", "", "", "/usr")
	f.Add("/etc/usr/bin/sh", "/etc/toroot/a", "7", "", "/etc")
	f.Fuzz(func(t *testing.T, file, dir, mode, user, allow string) {
		sys, etc, vars := sample(t)
		c := Config{Files: []File{{Path: file, Mode: mode, User: Owner{Name: user}}}, Directories: []Directory{{Path: dir, EnsureParents: true}}}
		o := Options{Allow: []string{allow}}
		before := listing(sys.Root(), etc, vars)
		_, err := Apply(t.Context(), sys, c, o, nil)
		if after := listing(sys.Root(), etc, vars); after != before {
			t.Errorf("changed:\n%s\n%s", before, after)
		}
		if err == nil && tree.Lookup(sys.Root(), "root") == nil {
			t.Error("root")
		}
		if _, ok := err.(customize.Problems); err != nil && !ok {
			t.Errorf("%v", err)
		}
	})
}

// listing describes a tree without some of its directories.
func listing(root *tree.Inode, without ...*tree.Inode) string {
	var b strings.Builder
	var walk func(string, *tree.Inode)
	walk = func(p string, i *tree.Inode) {
		for _, w := range without {
			if w == i {
				return
			}
		}
		fmt.Fprintf(&b, "%s %o %d\n", p, i.Mode, i.Content.Size())
		for _, e := range i.Entries() {
			walk(p+"/"+e.Name, e.Inode)
		}
	}
	walk("", root)
	return b.String()
}
