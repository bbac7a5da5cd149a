package tree

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
)

func TestConstructors(t *testing.T) {
	for _, c := range []struct {
		name            string
		i               *Inode
		mode            uint32
		dir, file, link bool
	}{
		{"dir", NewDir(0o1755), TypeDir | 0o1755, true, false, false},
		{"dir, type bits given", NewDir(TypeFile | 0o700), TypeDir | 0o700, true, false, false},
		{"file", NewFile(0o4755, content.String("x")), TypeFile | 0o4755, false, true, false},
		{"link", NewLink("a"), TypeLink | 0o777, false, false, true},
		{"node", &Inode{Mode: TypeChar | 0o600, Major: 1, Minor: 3}, TypeChar | 0o600, false, false, false},
	} {
		i := c.i
		if i.Mode != c.mode || i.IsDir() != c.dir || i.IsFile() != c.file || i.IsLink() != c.link {
			t.Errorf("%s: mode %o, %v %v %v", c.name, i.Mode, i.IsDir(), i.IsFile(), i.IsLink())
		}
		if i.Type()|i.Perm() != i.Mode || i.Type()&i.Perm() != 0 {
			t.Errorf("%s: type %o, permissions %o", c.name, i.Type(), i.Perm())
		}
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "...": true, ".a": true, " ": true, "\xff\n": true, strings.Repeat("x", 255): true,
		"": false, ".": false, "..": false, "a/b": false, "/": false, "a\x00": false, strings.Repeat("x", 256): false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("ValidName(%q) = %v", name, got)
		}
	}
}

func TestSetInvalidName(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Set of an invalid name does not panic")
		}
	}()
	NewDir(0o755).Set("..", NewDir(0o755))
}

// TestDirectory does random changes to a directory and to a map.
func TestDirectory(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	d := NewDir(0o755)
	model := map[string]*Inode{}
	for step := range 2000 {
		name := fmt.Sprint(rng.IntN(30))
		switch rng.IntN(40) {
		default:
			i := NewLink(fmt.Sprint(step))
			d.Set(name, i)
			model[name] = i
		case 0:
			d.Clear()
			clear(model)
		case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
			d.Remove(name)
			delete(model, name)
		case 11, 12, 13:
			before := d.Entries()
			kept := slices.Clone(before)
			d.Set(name, NewDir(0))
			model[name] = d.Child(name)
			d.Entries()
			if !slices.Equal(before, kept) {
				t.Fatal("a change reaches entries that were handed out")
			}
		}
		if d.Len() != len(model) || d.Child(name) != model[name] {
			t.Fatalf("step %d: %d entries, want %d", step, d.Len(), len(model))
		}
		if rng.IntN(3) > 0 {
			continue // several changes between two looks
		}
		entries := d.Entries()
		if len(entries) != len(model) {
			t.Fatalf("step %d: %d entries, want %d", step, len(entries), len(model))
		}
		for k, e := range entries {
			if model[e.Name] != e.Inode || k > 0 && entries[k-1].Name >= e.Name {
				t.Fatalf("step %d: entry %d is %q", step, k, e.Name)
			}
		}
	}
}

func TestEntriesOrder(t *testing.T) {
	d := NewDir(0o755)
	names := []string{"\xff", "a", "A", "a.b", "a b", "ab", "é", "Z", "-", "10", "9"}
	for _, n := range names {
		d.Set(n, NewDir(0))
	}
	slices.Sort(names) // by bytes
	for k, e := range d.Entries() {
		if e.Name != names[k] {
			t.Errorf("entry %d is %q, want %q", k, e.Name, names[k])
		}
	}
}

func TestNotADirectory(t *testing.T) {
	for _, i := range []*Inode{NewLink("x"), NewFile(0, content.Ref{}), {Mode: TypeFIFO}} {
		if i.Len() != 0 || i.Child("x") != nil || i.Entries() != nil {
			t.Errorf("mode %o has entries", i.Mode)
		}
	}
}

func TestXattrs(t *testing.T) {
	i := NewFile(0o644, content.Ref{})
	for _, name := range []string{"user.b", "security.selinux", "user.a", "user.b"} {
		i.Object = Sum{1}
		i.SetXattr(name, "of "+name)
		if i.Object != (Sum{}) {
			t.Errorf("set %s keeps the object checksum", name)
		}
	}
	want := []Xattr{{"security.selinux", "of security.selinux"}, {"user.a", "of user.a"}, {"user.b", "of user.b"}}
	if !slices.Equal(i.Xattrs, want) {
		t.Errorf("xattrs %v", i.Xattrs)
	}
	i.SetXattr("user.a", "")
	if v, ok := i.Xattr("user.a"); v != "" || !ok {
		t.Errorf("empty value: %q, %v", v, ok)
	}
	if _, ok := i.Xattr("user"); ok {
		t.Error("a prefix of a name is found")
	}
	i.Object = Sum{1}
	i.RemoveXattr("user.missing")
	if i.Object == (Sum{}) {
		t.Error("removing nothing forgets the object checksum")
	}
	i.RemoveXattr("user.a")
	if _, ok := i.Xattr("user.a"); ok || i.Object != (Sum{}) || len(i.Xattrs) != 2 {
		t.Errorf("after removing: %v, object %x", i.Xattrs, i.Object)
	}
}

func TestCopy(t *testing.T) {
	d := NewDir(0o700)
	d.UID, d.Mtime = 5, 77
	d.SetXattr("user.a", "1")
	d.Set("x", NewDir(0))
	d.Object = Sum{1}
	c := d.Copy()
	if c.Mode != d.Mode || c.UID != 5 || c.Mtime != 77 || c.Object != d.Object || c.Len() != 0 {
		t.Errorf("copy %+v", c)
	}
	c.Set("y", NewDir(0))
	c.SetXattr("user.a", "2")
	if v, _ := d.Xattr("user.a"); v != "1" || d.Len() != 1 || d.Child("y") != nil {
		t.Error("a change of the copy reaches the original")
	}
	f := NewFile(0o644, content.String("abc"))
	if g := f.Copy(); g.Content.Size() != 3 || g == f {
		t.Errorf("copy of a file: %+v", g)
	}
}
