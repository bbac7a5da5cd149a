package efivars

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"imgbuild/content"
	"imgbuild/partition"
	"imgbuild/tree"
)

// efibootmgr runs the tool on a directory in place of efivarfs.
func efibootmgr(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("efibootmgr")
	if err != nil {
		path = "/usr/bin/efibootmgr"
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "EFIVARFS_PATH="+dir+"/", "LIBEFIBOOT_REPORT_GPT_ERRORS=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("efibootmgr %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func never(partition.GUID) bool  { return false }
func always(partition.GUID) bool { return true }

func guid(t *testing.T, s string) partition.GUID {
	t.Helper()
	g, err := partition.ParseGUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const (
	idA = "5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6"
	idB = "01234567-89ab-cdef-0123-456789abcdef"
)

func debian(t *testing.T, id string) Entry {
	return Entry{Label: "debian", Loader: `\EFI\debian\shimx64.efi`, Number: 2, ID: guid(t, id), Start: 4096, Size: 1026048}
}

// What is installed is what efibootmgr shows.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	s := Store{dir}
	// As a firmware has them: an entry of a network card, and order.
	if err := s.write("Boot0000", []byte("\x01\x00\x00\x00\x04\x00P\x00X\x00E\x00\x00\x00\x7f\xff\x04\x00")); err != nil {
		t.Fatal(err)
	}
	if err := s.write("BootOrder", []byte{0, 0}); err != nil {
		t.Fatal(err)
	}
	if name, err := s.Install(debian(t, idA), never); err != nil || name != "Boot0001" {
		t.Fatalf("%s, %v", name, err)
	}
	out := efibootmgr(t, dir, "-v")
	for _, want := range []string{
		"BootOrder: 0001,0000\n",
		`Boot0001* debian	HD(2,GPT,` + idA + `,0x1000,0xfa800)/File(\EFI\debian\shimx64.efi)`,
		"Boot0000* PXE",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	// Again: replaced, not added. On another disk: added. Once the disk is gone:
	// replaced, however the firmware writes the path.
	for _, c := range []struct {
		id        string
		gone      func(partition.GUID) bool
		name, all string
	}{
		{idA, never, "Boot0001", "0001,0000"},
		{idB, never, "Boot0002", "0002,0001,0000"},
		{idA, always, "Boot0001", "0001,0000"},
	} {
		e := debian(t, c.id)
		e.Loader = strings.ToUpper(e.Loader)
		if name, err := s.Install(e, c.gone); err != nil || name != c.name {
			t.Fatalf("%s, %v, want %s", name, err, c.name)
		}
		if out := efibootmgr(t, dir); !strings.Contains(out, "BootOrder: "+c.all+"\n") || strings.Count(out, "\nBoot0") != strings.Count(c.all, ",")+1 {
			t.Errorf("want order %s:\n%s", c.all, out)
		}
	}
	// What efibootmgr makes is known again.
	if !strings.Contains(efibootmgr(t, dir, "-b", "0001", "-B"), "0000") {
		t.Error("not removed")
	}
	if _, err := s.Install(debian(t, idB), never); err != nil {
		t.Fatal(err)
	}
	e, err := s.entry(1)
	if err != nil || e.Label != "debian" || e.ID != guid(t, idB) || e.Start != 4096 || e.Size != 1026048 || e.Number != 2 || e.Loader != `\EFI\debian\shimx64.efi` {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestNoFirmware(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "none")}
	if s.Available() {
		t.Error("available")
	}
	if _, err := s.Install(debian(t, idA), never); err == nil {
		t.Error("no error")
	}
	empty := Store{t.TempDir()}
	if name, err := empty.Install(debian(t, idA), never); err != nil || name != "Boot0000" || !empty.Available() {
		t.Errorf("%s, %v", name, err)
	}
}

func wideText(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func TestFindLoader(t *testing.T) {
	file := func(s string) *tree.Inode { return tree.NewFile(0o644, content.Bytes([]byte(s))) }
	esp := func(files map[string]*tree.Inode) *tree.Inode {
		root := tree.NewDir(0o755)
		for name, f := range files {
			dir := root
			parts := strings.Split(name, "/")
			for _, p := range parts[:len(parts)-1] {
				if dir.Child(p) == nil {
					dir.Set(p, tree.NewDir(0o755))
				}
				dir = dir.Child(p)
			}
			dir.Set(parts[len(parts)-1], f)
		}
		return root
	}
	fedora := tree.NewFile(0o644, content.Bytes(wideText("\ufeffshimx64.efi,Fedora,,This is the boot entry for Fedora\n")))
	plain := tree.NewFile(0o644, content.Bytes(wideText("shimx64.efi,debian,,This\r\n")))
	long := tree.NewFile(0o644, content.Bytes(wideText("shimx64.efi,"+strings.Repeat("n", 1000)+",,This\n")))
	broken := tree.NewFile(0o644, content.Bytes(wideText("none.efi,debian,,This\n")))
	for _, c := range []struct {
		name  string
		files map[string]*tree.Inode
		want  Entry
		ok    bool
	}{
		{"fedora", map[string]*tree.Inode{"EFI/fedora/BOOTX64.CSV": fedora, "EFI/fedora/shimx64.efi": file(""), "EFI/BOOT/BOOTX64.CSV": plain},
			Entry{Label: "Fedora", Loader: `\EFI\fedora\shimx64.efi`}, true},
		{"lower case", map[string]*tree.Inode{"efi/debian/bootx64.csv": plain, "efi/debian/SHIMX64.EFI": file("")},
			Entry{Label: "debian", Loader: `\EFI\debian\shimx64.efi`}, true},
		{"file of the CSV missing", map[string]*tree.Inode{"EFI/debian/BOOTX64.CSV": broken, "EFI/debian/grubx64.efi": file("")},
			Entry{Label: "Some OS", Loader: `\EFI\debian\grubx64.efi`}, true},
		{"systemd-boot", map[string]*tree.Inode{"EFI/systemd/systemd-bootx64.efi": file(""), "EFI/BOOT/BOOTX64.EFI": file("")},
			Entry{Label: "Some OS", Loader: `\EFI\systemd\systemd-bootx64.efi`}, true},
		{"a label without end", map[string]*tree.Inode{"EFI/debian/BOOTX64.CSV": long, "EFI/debian/shimx64.efi": file("")},
			Entry{Label: "Some OS", Loader: `\EFI\debian\shimx64.efi`}, true},
		{"removable only", map[string]*tree.Inode{"EFI/BOOT/BOOTX64.EFI": file("")}, Entry{}, false},
		{"nothing", nil, Entry{}, false},
	} {
		e, ok := FindLoader(esp(c.files), "amd64", "Some OS")
		if ok != c.ok || e.Label != c.want.Label || e.Loader != c.want.Loader {
			t.Errorf("%s: %+v, %v", c.name, e, ok)
		}
	}
	if _, ok := FindLoader(esp(map[string]*tree.Inode{"EFI/debian/BOOTX64.CSV": plain, "EFI/debian/shimx64.efi": file("")}), "arm64", ""); ok {
		t.Error("another architecture")
	}
}

func FuzzDecode(f *testing.F) {
	e := Entry{Label: "a", Loader: `\b`, Number: 1, ID: partition.GUID{1}, Start: 2, Size: 3}
	f.Add(e.encode())
	f.Add([]byte("\x01\x00\x00\x00\x04\x00P\x00\x00\x00\x7f\xff\x04\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err != nil || e.ID.IsZero() || e.Number < 0 || strings.ContainsRune(e.Label+e.Loader, 0xfffd) {
			return
		}
		again, err := decode(e.encode())
		if err != nil || again.Label != e.Label || again.ID != e.ID || again.Loader != e.Loader {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
