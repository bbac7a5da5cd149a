package iso

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// tool runs a program, which must be there, and returns its output.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const mib = 1 << 20

// bootImage looks like GRUB's to the tools: cdboot.img and diskboot.img.
func bootImage(n int) []byte {
	b := bytes.Repeat([]byte{0xEA}, n)
	clear(b[infoTable:infoSummed])
	return b
}

// hybridMBR looks like GRUB's boot_hybrid.img.
func hybridMBR() []byte {
	b := bytes.Repeat([]byte{0x90}, virtualSector)
	b[510], b[511] = 0x55, 0xAA
	return b
}

func put(t testing.TB, root *tree.Inode, path string, i *tree.Inode) *tree.Inode {
	t.Helper()
	if i.Mtime == 0 {
		i.Mtime = 1700000000
	}
	if err := tree.Put(root, path, i); err != nil {
		t.Fatal(err)
	}
	return i
}

func text(s string) *tree.Inode { return tree.NewFile(0o644, content.String(s)) }

// sample is a tree with one of everything.
func sample(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	root.Mtime = 1700000000
	put(t, root, "images/eltorito.img", tree.NewFile(0o644, content.Bytes(bootImage(40001))))
	kernel := put(t, root, "images/pxeboot/vmlinuz", tree.NewFile(0o755, content.Bytes(bytes.Repeat([]byte("kernel"), 100000))))
	put(t, root, "images/pxeboot/again", kernel)
	put(t, root, "EFI/BOOT/grub.cfg", text("menu\n"))
	put(t, root, ".discinfo", text("1\n"))
	put(t, root, "empty", text(""))
	owned := put(t, root, "boot/grub2/owned", text("x"))
	owned.UID, owned.GID, owned.Mode = 1000, 70000, tree.TypeFile|0o4751
	long := strings.Repeat("long name ", 25)
	put(t, root, "names/"+long+"1", text("one"))
	put(t, root, "names/"+long+"2", text("two"))
	put(t, root, "names/ä ö.txt", text("umlaut"))
	put(t, root, "names/UPPER", text("u"))
	put(t, root, "names/upper", text("l"))
	put(t, root, "names/with.two.dots", text("d"))
	put(t, root, "names/part.1", text("1"))
	put(t, root, "names/part.10", text("10"))
	put(t, root, "names/"+strings.Repeat("n", 255), text("255"))
	put(t, root, "links/relative", tree.NewLink("../names/./upper"))
	put(t, root, "links/up", tree.NewLink("../names/upper"))
	put(t, root, "links/absolute", tree.NewLink("/images/pxeboot/vmlinuz"))
	put(t, root, "links/longest", tree.NewLink(strings.Repeat(strings.Repeat("c", 250)+"/", 3)+strings.Repeat("d", 250)))
	put(t, root, "dev/null", &tree.Inode{Mode: tree.TypeChar | 0o666, Major: 1, Minor: 3})
	put(t, root, "dev/disk", &tree.Inode{Mode: tree.TypeBlock | 0o660, Major: 259, Minor: 70000})
	put(t, root, "dev/fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o600})
	put(t, root, "a/b/c/d/e/f/g/h/i/j/deep", text("deep"))
	for i := range 300 {
		put(t, root, fmt.Sprintf("blobs/sha256/%064x", i), text(fmt.Sprint(i)))
	}
	return root
}

func esp(t testing.TB, size int64) *disk.Image {
	t.Helper()
	d, err := disk.New(size, []disk.Extent{{Off: 0, Data: content.String("an EFI system partition")}, {Off: size - 4, Data: content.String("end.")}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func options(t testing.TB) Options {
	return Options{
		VolumeID: "Container-Installer-x86_64", Time: 1700000000, Seed: []byte("seed"),
		BIOS: &BIOSBoot{Path: "images/eltorito.img", MBR: hybridMBR()}, ESP: esp(t, 4*mib),
	}
}

// write writes an ISO to a file and returns its name.
func write(t testing.TB, root *tree.Inode, opt Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "test.iso")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Write(context.Background(), root, f, opt); err != nil {
		t.Fatal(err)
	}
	want, err := Size(root, opt)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != want {
		t.Errorf("%d bytes, Size says %d", info.Size(), want)
	}
	return name
}

// xorriso finds the boot entries and the partitions where they belong.
func TestBootReports(t *testing.T) {
	name := write(t, sample(t), options(t))
	out := tool(t, "xorriso", "-indev", name, "-report_el_torito", "plain", "-report_system_area", "plain")
	for _, want := range []string{
		"Volume id    : 'Container-Installer-x86_64'",
		"El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4",
		"El Torito img path :   1  /images/eltorito.img",
		"El Torito img opts :   1  boot-info-table grub2-boot-info",
		"El Torito boot img :   2  UEFI  y   none  0x0000  0x00   8192",
		"System area summary: MBR protective-msdos-label grub2-mbr cyl-align-off GPT",
		"GPT type GUID      :   1  a2a0d0ebe5b9334487c068b6b72699c7",
		"GPT type GUID      :   2  28732ac11ff8d211ba4b00a0c93ec93b",
		"GPT partition flags:   1  0x1000000000000001",
		"GPT start and size :   1  64 ",
		"GPT start and size :   2  ",
		"Partition offset   : 16",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("xorriso does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	if out := tool(t, "sgdisk", "-v", name); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
}

// checkisomd5 finds the media checksum right, and implantisomd5 makes the same.
func TestMediaChecksum(t *testing.T) {
	for _, extra := range []int{0, 1, 2*mib + 5000, 21 * mib, 33*mib + 1} {
		root := sample(t)
		if extra > 0 {
			put(t, root, "extra", tree.NewFile(0o644, content.Bytes(bytes.Repeat([]byte{7, 1, 255}, extra/3+1))))
		}
		opt := options(t)
		name := write(t, root, opt)
		if out := tool(t, "checkisomd5", name); !strings.Contains(out, "PASS") {
			t.Errorf("checkisomd5: %s", out)
		}
		opt.OmitChecksum = true
		other := write(t, root, opt)
		tool(t, "implantisomd5", other)
		tool(t, "cmp", name, other)
	}
}

// The same tree gives the same bytes.
func TestDeterminism(t *testing.T) {
	tool(t, "cmp", write(t, sample(t), options(t)), write(t, sample(t), options(t)))
}

// xorriso reads everything back as it was, Rock Ridge and Joliet.
func TestExtract(t *testing.T) {
	root := sample(t)
	name := write(t, root, options(t))
	var want []string
	tree.Walk(root, func(path string, i *tree.Inode) error {
		want = append(want, path)
		return nil
	})
	out := tool(t, "xorriso", "-indev", name, "-find", "/")
	var got []string
	for line := range strings.Lines(out) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "'"); ok {
			got = append(got, strings.TrimSuffix(path, "'"))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("xorriso lists %d names, want %d\n%s", len(got), len(want), out)
	}
	dir := t.TempDir()
	tool(t, "xorriso", "-osirrox", "on", "-indev", name, "-extract", "/images", dir+"/images", "-extract", "/names", dir+"/names", "-extract", "/blobs", dir+"/blobs")
	tool(t, "chmod", "-R", "u+rwX", dir)
	tree.Walk(root, func(path string, i *tree.Inode) error {
		if !i.IsFile() || path == "/images/eltorito.img" || !strings.HasPrefix(path, "/images") && !strings.HasPrefix(path, "/names") && !strings.HasPrefix(path, "/blobs") {
			return nil
		}
		b, err := os.ReadFile(dir + path)
		if err != nil {
			t.Error(err)
			return nil
		}
		if wantBytes, _ := i.Content.ReadAll(mib); !bytes.Equal(b, wantBytes) {
			t.Errorf("%s: content differs", path)
		}
		return nil
	})
}

// isoinfo of cdrtools reads all three kinds of names.
func TestIsoinfo(t *testing.T) {
	name := write(t, sample(t), options(t))
	info := tool(t, "isoinfo", "-d", "-i", name)
	for _, want := range []string{"System id: LINUX", "Volume id: Container-Installer-x86_64", "Application id: IMGBUILD", "Joliet with UCS level 3 found", "Rock Ridge signatures version 1 found", "Eltorito validation header"} {
		if !strings.Contains(info, want) {
			t.Errorf("isoinfo -d does not say %q\n%s", want, info)
		}
	}
	for flag, want := range map[string][]string{
		"-R": {"/names/with.two.dots\n", "/images/pxeboot/vmlinuz\n", "/a/b/c/d/e/f/g/h/i/j/deep\n", "/names/" + strings.Repeat("n", 255) + "\n"},
		"-J": {"/names/with.two.dots\n", "/images/pxeboot/vmlinuz\n", "/names/\xe4 \xf6.txt\n"},
		"-f": {"/NAMES/WITH_TWO.DOTS;1\n", "/IMAGES/PXEBOOT/VMLINUZ.;1\n", "/NAMES/UPPER.;1\n", "/NAMES/UPPER000.;1\n"},
	} {
		args := []string{"-f", "-i", name}
		if flag != "-f" {
			args = append(args, flag)
		}
		if flag == "-J" {
			args = append(args, "-j", "iso8859-1")
		}
		out := tool(t, "isoinfo", args...)
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("isoinfo %s does not list %q", flag, w)
			}
		}
	}
	// In the order of ECMA-119 9.3.
	if out := tool(t, "isoinfo", "-f", "-i", name); strings.Index(out, "/NAMES/PART.1;1\n") > strings.Index(out, "/NAMES/PART.10;1\n") || !strings.Contains(out, "/NAMES/PART.1;1\n") {
		t.Error("PART.10;1 is before PART.1;1")
	}
	listing := tool(t, "isoinfo", "-R", "-l", "-i", name)
	for _, want := range []string{
		"-rwxr-x--x   1 1750 210560             1 Nov 14 2023", "-rwxr-xr-x   2    0    0", "relative -> ../names/./upper",
	} {
		if !strings.Contains(listing, want) {
			t.Errorf("isoinfo -l does not say %q\n%s", want, listing[:min(len(listing), 3000)])
		}
	}
}

// GRUB, which starts from it, reads content and follows links.
func TestGRUB(t *testing.T) {
	root := sample(t)
	name := write(t, root, options(t))
	for path, want := range map[string]string{
		"/EFI/BOOT/grub.cfg": "menu\n", "/a/b/c/d/e/f/g/h/i/j/deep": "deep", "/links/up": "l", "/blobs/sha256/" + fmt.Sprintf("%064x", 299): "299",
	} {
		if got := fstest.GRUB(t, name, "cat", "(loop0)"+path); string(got) != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// A file beyond 4 GiB has several extents.
func TestLargeFile(t *testing.T) {
	root := sample(t)
	const size = 2*maxExtent + 5
	put(t, root, "large", tree.NewFile(0o644, fstest.Sparse(t, size,
		content.Piece{Off: 0, Ref: content.String("start")}, content.Piece{Off: maxExtent - 2, Ref: content.String("seam")}, content.Piece{Off: size - 3, Ref: content.String("end")})))
	put(t, root, "larger", text("behind it"))
	opt := options(t)
	opt.OmitChecksum = true // it takes the time of hashing 8 GiB
	name := write(t, root, opt)
	if out := tool(t, "xorriso", "-indev", name, "-lsl", "/large", "/larger"); !strings.Contains(out, fmt.Sprint(size)) {
		t.Errorf("xorriso: %s", out)
	}
	out := tool(t, "xorriso", "-indev", name, "-find", "/large", "-exec", "report_sections", "--")
	for section, want := range []string{" 4294965248 ,", " 4294965248 ,", "        5 ,"} {
		if !strings.Contains(out, fmt.Sprintf("File data lba: %2d ,", section)) || !strings.Contains(out, want) {
			t.Errorf("section %d: %s", section, out)
		}
	}
	if got := fstest.GRUB(t, name, "cat", "(loop0)/larger"); string(got) != "behind it" {
		t.Errorf("behind it: %q", got)
	}
	if out := tool(t, "sgdisk", "-v", name); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
}

// What is streamed is checked for its length, and read once.
func TestStreams(t *testing.T) {
	root := tree.NewDir(0o755)
	blob := put(t, root, "blob", text(""))
	want := bytes.Repeat([]byte("0123456789"), 300000)
	for name, c := range map[string]struct {
		size  int64
		fault string
	}{
		"right": {int64(len(want)), ""},
		"short": {int64(len(want)) + 1, "content of 3000001 bytes ends after 3000000"},
		"long":  {int64(len(want)) - 1, "content of 2999999 bytes goes on behind them"},
	} {
		t.Run(name, func(t *testing.T) {
			opened, closed := 0, 0
			opt := Options{VolumeID: "X", Streams: map[*tree.Inode]Stream{blob: {Size: c.size, Open: func(context.Context) (io.ReadCloser, error) {
				opened++
				return closer{iotest.OneByteReader(bytes.NewReader(want)), &closed}, nil
			}}}}
			f, err := os.Create(filepath.Join(t.TempDir(), "x.iso"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			err = Write(context.Background(), root, f, opt)
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Error(err)
				}
			} else if err != nil {
				t.Error(err)
			} else if got := fstest.GRUB(t, f.Name(), "cat", "(loop0)/blob"); !bytes.Equal(got, want) {
				t.Error("content differs")
			}
			if opened != 1 || closed != 1 {
				t.Errorf("opened %d times, closed %d times", opened, closed)
			}
		})
	}
}

type closer struct {
	io.Reader
	n *int
}

func (c closer) Close() error { *c.n++; return nil }

// A cancelled write ends, and says so.
func TestCancel(t *testing.T) {
	root := tree.NewDir(0o755)
	put(t, root, "endless", tree.NewFile(0o644, fstest.Zeros(1<<40)))
	f, err := os.Create(filepath.Join(t.TempDir(), "x.iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(context.Background())
	opt := Options{VolumeID: "X", Progress: func(done, total int64) {
		if done > 10*mib {
			cancel()
		}
	}}
	if err := Write(ctx, root, f, opt); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What cannot be written is refused before anything is.
func TestRefused(t *testing.T) {
	for want, change := range map[string]func(root *tree.Inode, o *Options){
		"volume id \"a b\"":             func(_ *tree.Inode, o *Options) { o.VolumeID = "a b" },
		"volume id \"\": it is empty":   func(_ *tree.Inode, o *Options) { o.VolumeID = "" },
		"it has 33 characters":          func(_ *tree.Inode, o *Options) { o.VolumeID = strings.Repeat("x", 33) },
		"application identifier":        func(_ *tree.Inode, o *Options) { o.Application = strings.Repeat("x", 129) },
		"publisher identifier":          func(_ *tree.Inode, o *Options) { o.Publisher = "ä" },
		"boot sector of 511 bytes":      func(_ *tree.Inode, o *Options) { o.BIOS.MBR = o.BIOS.MBR[:511] },
		"images/none.img: no such file": func(_ *tree.Inode, o *Options) { o.BIOS.Path = "images/none.img" },
		"are no boot image":             func(_ *tree.Inode, o *Options) { o.BIOS.Path = "empty" },
		"there is no EFI system":        func(_ *tree.Inode, o *Options) { o.ESP, o.ESPPath = nil, "x" },
		"more than 8 TiB":               func(r *tree.Inode, _ *Options) { put(t, r, "x", tree.NewFile(0, fstest.Zeros(8<<40))) },
		"a symbolic link without":       func(r *tree.Inode, _ *Options) { put(t, r, "x", tree.NewLink("")) },
	} {
		root, opt := sample(t), options(t)
		change(root, &opt)
		if _, err := Size(root, opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Without boot parts there is no partition table, and with the parts of UEFI only
// there is one.
func TestParts(t *testing.T) {
	plain := write(t, sample(t), Options{VolumeID: "DATA"})
	if out := tool(t, "xorriso", "-indev", plain, "-report_el_torito", "plain", "-report_system_area", "plain"); strings.Contains(out, "GPT") || strings.Contains(out, "El Torito images") {
		t.Errorf("plain: %s", out)
	}
	opt := options(t)
	opt.BIOS, opt.ESPPath = nil, "boot/grub2/owned"
	opt.ESP = esp(t, 34*mib) // beyond what 16 bits count
	efi := write(t, sample(t), opt)
	out := tool(t, "xorriso", "-indev", efi, "-report_el_torito", "plain", "-report_system_area", "plain")
	for _, want := range []string{"El Torito boot img :   1  UEFI  y   none  0x0000  0x00      1", "El Torito img path :   1  /boot/grub2/owned", "GPT partname local :   2  Appended2"} {
		if !strings.Contains(out, want) {
			t.Errorf("xorriso does not say %q\n%s", want, out)
		}
	}
}

func TestVolumeID(t *testing.T) {
	for _, c := range []struct{ id, version, arch, want string }{
		{"fedora", "43", "x86_64", "Fedora-S-dvd-x86_64-43"},
		{"centos", "10", "aarch64", "CentOS-Stream-10-BaseOS-aarch64"},
		{"rhel", "9.6", "x86_64", "RHEL-9-6-BaseOS-x86_64"},
		{"rhel", "10", "x86_64", "RHEL-10-0-BaseOS-x86_64"},
		{"debian", "13", "x86_64", "Container-Installer-x86_64"},
		{"fedora", "", "x86_64", "Container-Installer-x86_64"},
		{"fedora", "44 beta", "x86_64", "Container-Installer-x86_64"},
	} {
		if got := VolumeID(map[string]string{"ID": c.id, "VERSION_ID": c.version}, c.arch); got != c.want {
			t.Errorf("%s %s: %s", c.id, c.version, got)
		}
	}
}
