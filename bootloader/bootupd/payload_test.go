package bootupd

import (
	"fmt"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// list returns the paths below a tree, directories with a slash, files with
// their content.
func list(t *testing.T, root *tree.Inode) string {
	t.Helper()
	var lines []string
	err := tree.Walk(root, func(p string, i *tree.Inode) error {
		switch {
		case i.IsDir():
			lines = append(lines, strings.TrimSuffix(p, "/")+"/")
		default:
			b, err := i.Content.ReadAll(100)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("%s=%s", p, b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, " ")
}

// keys returns the paths of the files as the state file has them, and the
// sources in parentheses where they differ.
func keys(p *Payload) string {
	var out []string
	for _, f := range p.Files {
		s := f.Path
		if f.Source != f.Path {
			s += "(" + f.Source + ")"
		}
		if !f.Copied {
			s += "!"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestPayload(t *testing.T) {
	const efi = "usr/lib/efi/"
	const old = "usr/lib/bootupd/updates/EFI/"
	for _, c := range []struct {
		name  string
		files []string // path, or path=content
		root  string
		esp   string
		keys  string
		warns int
	}{
		{
			"old layout", []string{old + "BOOT/BOOTX64.EFI", old + "debian/shimx64.efi"},
			"usr/lib/bootupd/updates/EFI",
			"/ /EFI/ /EFI/BOOT/ /EFI/BOOT/BOOTX64.EFI= /EFI/debian/ /EFI/debian/shimx64.efi=",
			"BOOT/BOOTX64.EFI debian/shimx64.efi", 0,
		},
		{
			"new layout wins", []string{old + "old/shimx64.efi", efi + "shim/15-1/EFI/fedora/shimx64.efi"},
			"usr/lib/efi", "/ /EFI/ /EFI/fedora/ /EFI/fedora/shimx64.efi=",
			"fedora/shimx64.efi(shim/15-1/EFI/fedora/shimx64.efi)", 0,
		},
		{
			"new layout without a component", []string{old + "old/shimx64.efi", efi + "shim/15-1/README", efi + "shim/15-1/sub/EFI/x"},
			"usr/lib/bootupd/updates/EFI", "/ /EFI/ /EFI/old/ /EFI/old/shimx64.efi=", "old/shimx64.efi", 0,
		},
		{
			"the newest version", []string{
				efi + "shim/15.9-1/EFI/v/shimx64.efi=9", efi + "shim/15.10-1/EFI/v/shimx64.efi=10", efi + "shim/15.8-1/EFI/v/shimx64.efi=8",
				efi + "grub2/2:1/EFI/v/grubx64.efi=new", efi + "grub2/1:9/EFI/v/grubx64.efi=old",
			},
			"usr/lib/efi", "/ /EFI/ /EFI/v/ /EFI/v/grubx64.efi=new /EFI/v/shimx64.efi=10",
			"v/grubx64.efi(grub2/2:1/EFI/v/grubx64.efi) v/shimx64.efi(shim/15.10-1/EFI/v/shimx64.efi)", 2,
		},
		{
			"files outside EFI", []string{efi + "a/1/EFI/v/x", efi + "a/1/README", efi + "NOTES", efi + "a/2/doc"},
			"usr/lib/efi", "/ /EFI/ /EFI/v/ /EFI/v/x=",
			"NOTES! v/x(a/1/EFI/v/x) a/1/README! a/2/doc!", 0,
		},
		{
			"case", []string{efi + "a/1/EFI/boot/x.efi=1", efi + "b/1/EFI/BOOT/X.EFI=2", efi + "b/1/EFI/BOOT/y=3"},
			"usr/lib/efi", "/ /EFI/ /EFI/boot/ /EFI/boot/X.EFI=2 /EFI/boot/y=3",
			"boot/x.efi(a/1/EFI/boot/x.efi) BOOT/X.EFI(b/1/EFI/BOOT/X.EFI) BOOT/y(b/1/EFI/BOOT/y)", 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree.NewDir(0o755)
			for _, f := range c.files {
				p, text, _ := strings.Cut(f, "=")
				put(t, root, p, text)
			}
			p, err := FindPayload(root)
			if err != nil || p == nil {
				t.Fatalf("%v, %v", p, err)
			}
			if p.Root != c.root {
				t.Errorf("root %s", p.Root)
			}
			if got := list(t, p.ESP()); got != c.esp {
				t.Errorf("ESP %s, want %s", got, c.esp)
			}
			if got := keys(p); got != c.keys {
				t.Errorf("files %s, want %s", got, c.keys)
			}
			if len(p.Warnings) != c.warns {
				t.Errorf("warnings %q", p.Warnings)
			}
		})
	}

	for _, files := range [][]string{nil, {"usr/lib/efi/x"}, {"usr/lib/bootupd/updates/EFI.json"}} {
		root := tree.NewDir(0o755)
		for _, f := range files {
			put(t, root, f, "")
		}
		if p, err := FindPayload(root); p != nil || err != nil {
			t.Errorf("%v: %v, %v", files, p, err)
		}
	}
}

func TestPayloadRefuses(t *testing.T) {
	for _, dir := range []string{"usr/lib/efi/shim/1/EFI/BOOT", "usr/lib/bootupd/updates/EFI/BOOT", "usr/lib/efi/shim/1"} {
		for want, e := range map[string]tree.Entry{
			"symbolic link":   {Name: "x", Inode: tree.NewLink("y")},
			"not a regular":   {Name: "x", Inode: &tree.Inode{Mode: tree.TypeFIFO | 0o644}},
			"temporary files": {Name: ".btmp.x", Inode: tree.NewDir(0o755)},
			"not UTF-8":       {Name: "\xff", Inode: tree.NewDir(0o755)},
		} {
			root := tree.NewDir(0o755)
			put(t, root, dir+"/ok", "")
			if strings.HasSuffix(dir, "/1") {
				put(t, root, dir+"/EFI/ok", "")
			}
			if err := tree.Put(root, dir+"/"+e.Name, e.Inode); err != nil {
				t.Fatal(err)
			}
			if p, err := FindPayload(root); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: %v, %v", dir, want, p, err)
			}
		}
	}
}

// TestVendorFile: a FAT directory has no two names that differ in case.
func TestVendorFile(t *testing.T) {
	root := tree.NewDir(0o755)
	put(t, root, oldEFIDir+"/Fedora/GRUB.CFG", "old")
	p, err := FindPayload(root)
	if err != nil {
		t.Fatal(err)
	}
	esp := p.ESP()
	PutFile(esp, "EFI/fedora/grub.cfg", tree.NewFile(0o644, content.String("new")))
	if got, want := list(t, esp), "/ /EFI/ /EFI/Fedora/ /EFI/Fedora/grub.cfg=new"; got != want {
		t.Errorf("ESP %s, want %s", got, want)
	}
}

func TestVendor(t *testing.T) {
	for _, c := range []struct{ files, vendor, err string }{
		{"BOOT/BOOTX64.EFI fedora/shimx64.efi", "fedora", ""},
		{"BOOT/BOOTX64.EFI fedora/shimaa64.efi", "", "no shimx64.efi"},
		{"a/shimx64.efi b/shimx64.efi", "", "twice"},
		{"shimx64.efi", "", "no vendor"},
		{"fedora/SHIMX64.EFI", "", "no shimx64.efi"},
	} {
		root := tree.NewDir(0o755)
		for f := range strings.FieldsSeq(c.files) {
			put(t, root, "usr/lib/bootupd/updates/EFI/"+f, "")
		}
		p, err := FindPayload(root)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Vendor(Shim("amd64"))
		if got != c.vendor || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.files, got, err)
		}
	}
}

func TestStatic(t *testing.T) {
	const dir = "usr/lib/bootupd/grub2-static/"
	root := tree.NewDir(0o755)
	if s, err := ReadStatic(root); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	put(t, root, dir+"grub-static-pre.cfg", "pre\n")
	if s, err := ReadStatic(root); err == nil {
		t.Errorf("without configs.d: %v", s)
	}
	put(t, root, dir+"grub-static-efi.cfg", "stub\n")
	put(t, root, dir+"configs.d/10_blscfg.cfg", "blscfg\n")
	put(t, root, dir+"configs.d/01_users.cfg", "users")
	put(t, root, dir+"configs.d/README.md", "no\n")
	s, err := ReadStatic(root)
	if err != nil {
		t.Fatal(err)
	}
	const want = "# Generated by bootupd / do not edit\n\npre\n" +
		"\n### BEGIN 01_users.cfg ###\nusers### END 01_users.cfg ###\n" +
		"\n### BEGIN 10_blscfg.cfg ###\nblscfg\n### END 10_blscfg.cfg ###\n"
	if got := string(s.GrubCfg()); got != want || s.Sourced || s.ConfigMode() != 0o600 || string(s.EFI) != "stub\n" {
		t.Errorf("%+v\n%s", s, got)
	}

	put(t, root, dir+"grub-static-post.cfg", "post\n")
	if s, err = ReadStatic(root); err != nil {
		t.Fatal(err)
	}
	const wantOld = "pre\nsource $prefix/01_users.cfg\nsource $prefix/10_blscfg.cfg\npost\n"
	if got := string(s.GrubCfg()); got != wantOld || !s.Sourced || s.ConfigMode() != 0o644 || len(s.DropIns) != 2 {
		t.Errorf("%+v\n%s", s, got)
	}
	if got := string(s.Script()); got != "pre\n\nusers\nblscfg\n\npost\n" {
		t.Errorf("script %q", got)
	}

	put(t, root, dir+"configs.d/20.cfg", "\xff")
	if s, err := ReadStatic(root); err == nil {
		t.Errorf("not UTF-8: %v", s)
	}
}

func TestBootUUIDCfg(t *testing.T) {
	for uuid, want := range map[string]string{
		"0fc63daf-8483-4772-8e79-3d69d8477de4": "set BOOT_UUID=\"0fc63daf-8483-4772-8e79-3d69d8477de4\"\n",
		"ABCD-1234":                            "set BOOT_UUID=\"ABCD-1234\"\n",
		"":                                     "",
		"a\"; reboot":                          "",
		"$x":                                   "",
	} {
		got, err := BootUUIDCfg(uuid)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", uuid, got, err)
		}
	}
}
