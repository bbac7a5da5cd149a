package ostree

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/tree"
)

func TestImportLayer(t *testing.T) {
	linked := file(0o644, "linked")
	labelled := file(0o644, "labelled")
	labelled.SetXattr("security.selinux", "l\x00")
	labelled.SetXattr("user.x", "y")
	checksum(t, put(t, tree.NewDir(0o755), "d", dirOf(t, "f", labelled)))
	root := tree.NewDir(0o755)
	root.SetXattr("security.selinux", "root")
	for p, i := range map[string]*tree.Inode{
		"usr/bin/a":                               linked,
		"sysroot/ostree/repo/objects/aa/bb.file":  linked,
		"sysroot/ostree/repo/objects/aa/dev.file": {Mode: tree.TypeBlock | 0o600},
		"sysroot/other":                           file(0o644, "x"),
		"etc/passwd":                              file(0o644, "etc"),
		"etc/both":                                file(0o644, "etc"),
		"etc/.wh.gone":                            file(0o644, ""),
		"usr/etc/both":                            file(0o644, "usr/etc"),
		"etc/d/1":                                 file(0o644, ""),
		"usr/etc/d/2":                             file(0o644, ""),
		"var/lib/x":                               file(0o644, "x"),
		"run/lock/x":                              file(0o644, "x"),
		"dev/null":                                {Mode: tree.TypeChar | 0o666, Major: 1, Minor: 3},
		"proc":                                    tree.NewDir(0o555),
		"sys":                                     tree.NewLink("somewhere"),
		"tmp/a/b":                                 {Mode: tree.TypeFIFO | 0o600},
		"boot/vmlinuz":                            file(0o600, "x"),
		"opt/l1":                                  labelled,
		"opt/l2":                                  labelled,
		".wh.top":                                 file(0o600, ""),
		"etcetera/x":                              file(0o600, ""),
	} {
		put(t, root, p, i)
	}
	root.Child("run").Mode = tree.TypeDir | 0o711
	before := describe(root)

	for _, keep := range []bool{false, true} {
		got, dropped, err := ImportLayer(root, ImportOptions{KeepTopLevel: keep, StripSELinux: true})
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"/", "/dev", "/proc", "/run", "/sys", "/tmp",
			"/usr", "/usr/bin", "/usr/bin/a", "/usr/etc", "/usr/etc/.wh.gone", "/usr/etc/both", "/usr/etc/d", "/usr/etc/d/1", "/usr/etc/d/2", "/usr/etc/passwd",
			"/var", "/var/lib", "/var/lib/x"}
		wantDropped := []string{".wh.top (1)", "boot (2)", "dev (1)", "etcetera (2)", "opt (3)", "run (2)", "sysroot (8)", "tmp (2)"}
		if keep {
			want = append(want, "/.wh.top", "/boot", "/boot/vmlinuz", "/etcetera", "/etcetera/x", "/opt", "/opt/l1", "/opt/l2", "/sysroot", "/sysroot/ostree", "/sysroot/ostree/repo", "/sysroot/other")
			wantDropped = []string{"dev (1)", "run (2)", "sysroot/ostree/repo (4)", "tmp (2)"}
		}
		var paths []string
		_ = tree.Walk(got, func(p string, _ *tree.Inode) error { paths = append(paths, p); return nil })
		diff(t, fmt.Sprintf("keep=%v", keep), paths, want)
		if !slices.Equal(dropped, wantDropped) {
			t.Errorf("dropped %q, want %q", dropped, wantDropped)
		}
		if tree.Lookup(got, "usr/bin/a") != linked || got.Child("run").Perm() != 0o711 || len(got.Xattrs) != 0 {
			t.Error("a file is not shared, or a directory changed")
		}
		if b, err := tree.ReadFile(got, "usr/etc/both", 10); err != nil || string(b) != "usr/etc" {
			t.Errorf("usr/etc/both is %q, %v", b, err)
		}
		if keep {
			l := tree.Lookup(got, "opt/l1")
			if l != tree.Lookup(got, "opt/l2") || len(l.Xattrs) != 1 || l.Object != (tree.Sum{}) {
				t.Errorf("label was not removed, or the hard link broken: %+v", l)
			}
		}
	}
	if len(labelled.Xattrs) != 2 || labelled.Object == (tree.Sum{}) {
		t.Error("the input was modified")
	}
	diff(t, "input", describe(root), before)

	kept, _, err := ImportLayer(root, ImportOptions{KeepTopLevel: true})
	if err != nil || tree.Lookup(kept, "opt/l1") != labelled || len(kept.Xattrs) != 1 {
		t.Errorf("labels were removed: %v", err)
	}
}

func dirOf(t *testing.T, name string, i *tree.Inode) *tree.Inode {
	d := tree.NewDir(0o755)
	put(t, d, name, i)
	return d
}

func TestImportLayerParents(t *testing.T) {
	root := tree.NewDir(0o755)
	etc := put(t, root, "etc", tree.NewDir(0o700))
	etc.UID, etc.GID = 5, 6
	got, _, err := ImportLayer(root, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	usr := got.Child("usr")
	if usr.Perm() != 0o755 || usr.UID != 5 || usr.GID != 6 || usr.Child("etc").Perm() != 0o700 || got.Child("etc") != nil {
		t.Errorf("usr %+v", usr)
	}
	empty := file(0o644, "x")
	empty.SetXattr("user.empty", "")
	empty.Object = tree.Sum{1}
	got, _, err = ImportLayer(dirOf(t, "usr/x", empty), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if x := tree.Lookup(got, "usr/x"); len(x.Xattrs) != 0 || x.Object != (tree.Sum{}) || len(empty.Xattrs) != 1 {
		t.Errorf("xattr without a value was kept: %+v", x)
	}
}

func TestImportLayerErrors(t *testing.T) {
	deep := tree.NewDir(0o755)
	for d, k := deep, 0; k < maxDepth+10; k++ {
		sub := tree.NewDir(0o755)
		d.Set("usr", sub)
		d = sub
	}
	device := &tree.Inode{Mode: tree.TypeChar | 0o600}
	both := dirOf(t, "usr/etc/a", file(0o644, ""))
	put(t, both, "etc/a/b", file(0o644, ""))
	noUsr := dirOf(t, "usr", tree.NewLink("x"))
	put(t, noUsr, "etc/a", file(0o644, ""))
	noName := file(0o644, "")
	noName.Xattrs = []tree.Xattr{{Value: "x"}}
	for path, root := range map[string]*tree.Inode{
		"/usr/null":      dirOf(t, "usr/null", device), // as whiteouts of overlayfs are
		"/etc/null":      dirOf(t, "etc/null", device),
		"/dev":           dirOf(t, "dev", device),
		"/usr/fifo":      dirOf(t, "usr/fifo", &tree.Inode{Mode: tree.TypeFIFO}),
		"/usr/sock":      dirOf(t, "usr/sock", &tree.Inode{Mode: tree.TypeSock}),
		"/usr/disk":      dirOf(t, "usr/disk", &tree.Inode{Mode: tree.TypeBlock}),
		`/usr: "\xff"`:   dirOf(t, "usr/\xff", file(0o644, "")),
		`/run/x: "\xff"`: dirOf(t, "run/x/\xff", file(0o644, "")),
		"/usr/l":         dirOf(t, "usr/l", tree.NewLink("\xff")),
		"/usr/x":         dirOf(t, "usr/x", noName),
		"/usr/usr/usr":   deep,
		"/usr/etc/a":     both,
		"/usr is not":    noUsr,
	} {
		_, _, err := ImportLayer(root, ImportOptions{KeepTopLevel: true})
		if fault.ClassOf(err) != fault.BadImage || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, _, err := ImportLayer(file(0o644, ""), ImportOptions{}); err == nil {
		t.Error("a file was accepted as a layer")
	}
}

func TestCheckEtc(t *testing.T) {
	etc, usrEtc := dirOf(t, "etc/passwd", file(0o644, "")), dirOf(t, "usr/etc/passwd", file(0o644, ""))
	usrEtcEmpty := dirOf(t, "usr/etc", tree.NewDir(0o755))
	hidden := dirOf(t, "usr/.wh.etc", file(0o600, ""))
	for _, c := range []struct {
		name   string
		layers []*tree.Inode
		bad    bool
	}{
		{"none", nil, false},
		{"etc", []*tree.Inode{etc}, false},
		{"usr/etc", []*tree.Inode{usrEtc}, false},
		{"both", []*tree.Inode{etc, usrEtc}, true},
		{"both, the other way", []*tree.Inode{usrEtc, etc}, true},
		{"empty usr/etc", []*tree.Inode{etc, usrEtcEmpty}, true},
		{"empty etc", []*tree.Inode{usrEtc, dirOf(t, "etc", tree.NewDir(0o755))}, false},
		{"usr/etc removed", []*tree.Inode{etc, usrEtc, hidden}, false},
		{"usr removed", []*tree.Inode{etc, usrEtc, dirOf(t, ".wh.usr", file(0o600, ""))}, false},
		{"etc removed", []*tree.Inode{etc, usrEtc, dirOf(t, "etc/.wh..wh..opq", file(0o600, ""))}, false},
	} {
		if err := CheckEtc(c.layers...); c.bad != (fault.ClassOf(err) == fault.BadImage) || !c.bad && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if etc.Len() != 1 || hidden.Len() != 1 {
		t.Error("the input was modified")
	}
}

// Whatever is imported holds what the rules say, and has lost nothing else.
func FuzzImportLayer(f *testing.F) {
	for seed := range 10 {
		f.Add(randomBytes(uint64(seed), 200), true)
		f.Add(randomBytes(uint64(seed+100), 200), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, keep bool) {
		for _, layer := range randomLayers(data) {
			before := describe(layer)
			got, _, err := ImportLayer(layer, ImportOptions{KeepTopLevel: keep})
			diff(t, "input", describe(layer), before)
			if err != nil {
				if fault.ClassOf(err) != fault.BadImage {
					t.Fatal(err)
				}
				continue
			}
			if got.Child("etc") != nil {
				t.Error("etc is left")
			}
			// By paths: all that was in the layer, etc renamed.
			want := map[string]bool{"/": true}
			_ = tree.Walk(layer, func(p string, i *tree.Inode) error {
				if p == "/etc" || strings.HasPrefix(p, "/etc/") {
					p = "/usr" + p
					want["/usr"] = true
				}
				top, _, _ := strings.Cut(p[1:], "/")
				if keep || top == "usr" || top == "var" || top == "" {
					want[p] = true
				}
				return nil
			})
			_ = tree.Walk(got, func(p string, _ *tree.Inode) error {
				if !want[p] {
					t.Errorf("%s is new", p)
				}
				delete(want, p)
				return nil
			})
			for p := range want {
				t.Errorf("%s is lost", p)
			}
		}
	})
}
