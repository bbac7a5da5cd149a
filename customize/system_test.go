package customize

import (
	"errors"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// sample returns a system shaped as a bootc image.
func sample(t *testing.T) (s *System, etc, vars *tree.Inode) {
	t.Helper()
	os := tree.NewDir(0o755)
	for name, target := range map[string]string{"home": "var/home", "root": "/var/roothome", "bin": "usr/bin"} {
		os.Set(name, tree.NewLink(target))
	}
	for _, p := range []string{"usr/bin/sh", "usr/etc/hostname"} {
		if err := tree.Put(os, p, tree.NewFile(0o644, content.String("image"))); err != nil {
			t.Fatal(err)
		}
	}
	etc, vars = tree.NewDir(0o755), tree.NewDir(0o755)
	old := tree.NewFile(0o600, content.String("old"))
	old.UID, old.Object = 7, tree.Sum{1}
	etc.Set("secret", old)
	etc.Set("link", tree.NewLink("../etc/secret"))
	etc.Set("out", tree.NewLink("/usr/bin/sh"))
	etc.Set("loop", tree.NewLink("loop"))
	return New(os, etc, vars, 99, func(string) []byte { return make([]byte, 32) }), etc, vars
}

func TestWriteFile(t *testing.T) {
	s, etc, vars := sample(t)
	for _, tc := range []struct {
		path string
		dir  *tree.Inode
		at   string
		mode uint32
		uid  uint32
	}{
		{"/etc/a/b", etc, "a/b", 0o640, 0},
		{"/root/.ssh/keys", vars, "roothome/.ssh/keys", 0o640, 0},
		{"/home/u/x", vars, "home/u/x", 0o640, 0},
		{"/etc/link", etc, "secret", 0o600, 7},
		{"/usr/../etc/../var/./c", vars, "c", 0o640, 0},
	} {
		if err := s.WriteFile(tc.path, 0o640, []byte("new")); err != nil {
			t.Errorf("%s: %v", tc.path, err)
			continue
		}
		f := tree.Lookup(tc.dir, tc.at)
		if f == nil {
			t.Errorf("%s: nothing at %s", tc.path, tc.at)
			continue
		}
		text, err := f.Content.ReadAll(10)
		if err != nil || string(text) != "new" || f.Mode != tree.TypeFile|tc.mode || f.UID != tc.uid || f.Mtime != 99 || f.Object != (tree.Sum{}) {
			t.Errorf("%s: %q, %v, %+v", tc.path, text, err, f)
		}
		if read, err := s.ReadFile(tc.path, 10); err != nil || string(read) != "new" {
			t.Errorf("%s: read %q, %v", tc.path, read, err)
		}
	}
	if l := etc.Child("link"); l == nil || !l.IsLink() {
		t.Error("the link is gone")
	}
}

func TestReadOnly(t *testing.T) {
	s, _, _ := sample(t)
	for _, p := range []string{"/usr/bin/sh", "/bin/new", "/etc", "/", "/etc/out", "/var/..", "/new/x"} {
		if err := s.WriteFile(p, 0o644, nil); !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", p, err)
		}
		if p == "/etc/out" {
			continue // the link itself may go
		}
		if err := s.Link(p, "x"); !errors.Is(err, ErrReadOnly) {
			t.Errorf("link %s: %v", p, err)
		}
		if _, err := s.Remove(p); !errors.Is(err, ErrReadOnly) {
			t.Errorf("remove %s: %v", p, err)
		}
	}
	for _, p := range []string{"/etc/loop", "/etc/loop/x", "/etc/secret/x"} {
		if err := s.WriteFile(p, 0o644, nil); err == nil {
			t.Errorf("%s: written", p)
		}
	}
}

func TestLinkAndRemove(t *testing.T) {
	s, etc, vars := sample(t)
	if err := s.Link("/home/u/l", "../x"); err != nil {
		t.Fatal(err)
	}
	if l := tree.Lookup(vars, "home/u/l"); l == nil || l.Target != "../x" || l.Mtime != 99 {
		t.Errorf("link %+v", l)
	}
	if err := s.Link("/etc/link", "elsewhere"); err != nil || etc.Child("link").Target != "elsewhere" || etc.Child("secret") == nil {
		t.Errorf("replaced link: %v", err)
	}
	if removed, err := s.Remove("/etc/link"); !removed || err != nil || etc.Child("link") != nil || etc.Child("secret") == nil {
		t.Errorf("removed link: %v, %v", removed, err)
	}
	if removed, err := s.Remove("/etc/missing"); removed || err != nil {
		t.Errorf("nothing to remove: %v, %v", removed, err)
	}
	if _, err := s.Remove("/home/u"); err == nil {
		t.Error("a directory is removed")
	}
	if err := s.Link("/home/u", "x"); err == nil {
		t.Error("a directory is replaced by a link")
	}
}

func TestRealPath(t *testing.T) {
	s, _, _ := sample(t)
	for p, want := range map[string]string{"/root": "/var/roothome", "home/a/../b": "/var/home/b", "/etc/link": "/etc/secret", "/": "/", "/no/such/../x": "/no/x"} {
		if got, err := s.RealPath(p); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", p, got, err, want)
		}
	}
}
