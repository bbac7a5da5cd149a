package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
	"imgbuild/partition"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	testUUID = partition.DeriveGUID([]byte("test"), "ova")
	testTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
)

func encode(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{UUID: testUUID, Time: testTime, Progress: progress})
}

// unpack lets GNU tar list and unpack an appliance, and returns the directory.
func unpack(t *testing.T, file, name string) string {
	t.Helper()
	dir := t.TempDir()
	list := strings.Split(disktest.Tool(t, "tar", "-xvvf", file, "-C", dir), "\n")
	for i, ext := range []string{".ovf", ".mf", ".vmdk", ""} {
		if ext == "" {
			if len(list) != 4 || list[3] != "" {
				t.Fatalf("%q", list)
			}
			break
		}
		f := strings.Fields(list[i])
		if len(f) != 6 || f[0] != "-rw-r--r--" || f[1] != "root/root" || f[3] != "2024-05-06" || f[4] != "07:08" || f[5] != name+ext {
			t.Fatalf("member %d: %q", i, f)
		}
	}
	return dir
}

// checkAppliance checks all members of an appliance made of img.
func checkAppliance(t *testing.T, file, name string, img *disk.Image) string {
	t.Helper()
	dir := unpack(t, file, name)
	vmdk := filepath.Join(dir, name+".vmdk")
	disktest.Tool(t, "qemu-img", "check", "-f", "vmdk", vmdk)
	disktest.Compare(t, disktest.Raw(t, img, 64<<10), "vmdk", vmdk)

	// The manifest, in the form of ovftool: sha256sum wants another one.
	var want string
	for _, ext := range []string{".ovf", ".vmdk"} {
		b, err := os.ReadFile(filepath.Join(dir, name+ext))
		if err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintf("SHA256(%s)= %x\n", name+ext, sha256.Sum256(b))
	}
	mf, err := os.ReadFile(filepath.Join(dir, name+".mf"))
	if err != nil {
		t.Fatal(err)
	}
	if string(mf) != want {
		t.Errorf("manifest\n%s, want\n%s", mf, want)
	}

	ovf := filepath.Join(dir, name+".ovf")
	checkSchema(t, ovf)
	checkSizes(t, ovf, vmdk, img)
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size()%output.TarRecord != 0 {
		t.Errorf("archive of %d bytes", info.Size())
	}
	return dir
}

// schema is DMTF's of descriptors, see the README beside it.
const schema = "testdata/schema/vbox.xsd"

// checkSchema lets xmllint check a descriptor against the schema.
func checkSchema(t *testing.T, ovf string) {
	t.Helper()
	disktest.Tool(t, "xmllint", "--nonet", "--noout", "--schema", schema, ovf)
}

// TestSchema checks that the schema finds what is wrong.
func TestSchema(t *testing.T) {
	good, err := os.ReadFile("testdata/default.ovf")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"order":     {"rasd:AllocationUnits", "rasd:Zone"},
		"attribute": {`ovf:href="image.vmdk"`, ""},
		"value":     {"<rasd:ResourceType>17<", "<rasd:ResourceType>disk<"},
		"section":   {"NetworkSection", "NetworkPart"},
	} {
		bad := filepath.Join(t.TempDir(), "bad.ovf")
		if err := os.WriteFile(bad, bytes.ReplaceAll(good, []byte(change[0]), []byte(change[1])), 0o666); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("xmllint", "--nonet", "--noout", "--schema", schema, bad).CombinedOutput(); err == nil {
			t.Errorf("%s: no error: %s", name, out)
		}
	}
}

// envelope is what of a descriptor depends on the disk.
type envelope struct {
	File struct {
		Href string `xml:"href,attr"`
		ID   string `xml:"id,attr"`
		Size int64  `xml:"size,attr"`
	} `xml:"References>File"`
	Disk struct {
		Capacity  int64  `xml:"capacity,attr"`
		Units     string `xml:"capacityAllocationUnits,attr"`
		DiskID    string `xml:"diskId,attr"`
		FileRef   string `xml:"fileRef,attr"`
		Populated int64  `xml:"populatedSize,attr"`
		UUID      string `xml:"uuid,attr"`
	} `xml:"DiskSection>Disk"`
	Image struct {
		UUID string `xml:"uuid,attr"`
	} `xml:"VirtualSystem>Machine>StorageControllers>StorageController>AttachedDevice>Image"`
}

func checkSizes(t *testing.T, ovf, vmdk string, img *disk.Image) {
	t.Helper()
	b, err := os.ReadFile(ovf)
	if err != nil {
		t.Fatal(err)
	}
	var e envelope
	if err := xml.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	capacity := (img.Size() + 65535) / 65536 * 65536
	if e.File.Href != filepath.Base(vmdk) || e.File.Size != info.Size() || e.Disk.Capacity != capacity || e.Disk.Units != "byte" || e.Disk.FileRef != e.File.ID || e.Disk.UUID != e.Image.UUID {
		t.Errorf("%+v", e)
	}
	full := int64(0)
	unit := make([]byte, 65536)
	for off, n := range img.Data(65536) {
		for pos := off; pos < off+n; pos += 65536 {
			k, err := img.ReadAt(unit, pos)
			if err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !output.IsZero(unit[:k]) {
				full += 65536
			}
		}
	}
	if e.Disk.Populated != full {
		t.Errorf("populated size %d, want %d", e.Disk.Populated, full)
	}
}

func TestWrite(t *testing.T) {
	images := disktest.Images(t, 64<<10)
	for _, name := range []string{"one sector", "hole", "noise, odd", "unit and a sector", "1 GiB", "mixed"} {
		t.Run(name, func(t *testing.T) {
			checkAppliance(t, disktest.File(t, encode, images[name], "image.ova"), "image", images[name])
		})
	}
}

// TestDescriptor compares descriptors with golden files.
func TestDescriptor(t *testing.T) {
	img := disktest.Image(t, 10<<30, disktest.At(5000, disktest.Text(100000)))
	for name, opt := range map[string]Options{
		"default": {UUID: testUUID, Time: testTime},
		"all":     {Name: "My_server-1.2", CPUs: 8, MemoryMiB: 16384, SecureBoot: true, HardwareVersion: 21, UUID: testUUID, Time: testTime},
		"bios":    {Name: "old", CPUs: 1, MemoryMiB: 512, Firmware: BIOS, HardwareVersion: 10, Time: testTime},
	} {
		t.Run(name, func(t *testing.T) {
			f := disktest.Create(t, "image.ova")
			if err := Write(t.Context(), img, f, opt); err != nil {
				t.Fatal(err)
			}
			stem := opt.Name
			if stem == "" {
				stem = "image"
			}
			ovf := filepath.Join(unpack(t, f.Name(), stem), stem+".ovf")
			checkSchema(t, ovf)
			got, err := os.ReadFile(ovf)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".ovf")
			if *update {
				if err := os.WriteFile(golden, got, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			// The size of the compressed disk may change with the compressor.
			if diff := cmp.Diff(blankSize(want), blankSize(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// blankSize replaces the size of the file, and the line ends that make up for its
// length.
func blankSize(b []byte) string {
	head, rest, _ := strings.Cut(string(b), `ovf:size="`)
	_, rest, _ = strings.Cut(rest, `"`)
	return head + `ovf:size="SIZE"` + strings.TrimRight(rest, "\n")
}

// TestHeadLength checks that the room for what comes first is right for every
// size.
func TestHeadLength(t *testing.T) {
	for _, name := range []string{"a", "image", strings.Repeat("n", 80)} {
		m := machine{Name: name, Disk: name + ".vmdk", Capacity: 1 << 62}
		want, err := m.head(nil, testTime)
		if err != nil {
			t.Fatal(err)
		}
		zero, err := m.descriptor()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int64{0, 9, 10, 99999, 8 << 30, 1 << 40, 1<<63 - 1} {
			m.FileSize, m.Populated = n, n
			got, err := m.head(make([]byte, sha256.Size), testTime)
			if err != nil || len(got) != len(want) {
				t.Errorf("%d: %d bytes, want %d, %v", n, len(got), len(want), err)
			}
			text, err := m.descriptor()
			if err != nil || len(text) != len(zero) {
				t.Errorf("%d: descriptor of %d bytes, want %d, %v", n, len(text), len(zero), err)
			}
		}
	}
}

// TestLarge checks the header of a disk file that does not fit octal digits.
func TestLarge(t *testing.T) {
	m := machine{Name: "image", Disk: "image.vmdk", FileSize: 20<<30 + 512}
	head, err := m.head(nil, testTime)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(bytes.NewReader(head))
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	h, err := r.Next()
	if err != nil || h.Size != m.FileSize || h.Name != m.Disk {
		t.Errorf("%+v, %v", h, err)
	}
	// GNU tar lists it, too.
	name := filepath.Join(t.TempDir(), "head.ova")
	if err := os.WriteFile(name, head, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, int64(len(head))+m.FileSize+10240); err != nil {
		t.Fatal(err)
	}
	if out := disktest.Tool(t, "tar", "-tvf", name); !strings.Contains(out, " "+strconv.FormatInt(m.FileSize, 10)+" ") {
		t.Error(out)
	}
}

func TestIdentifiers(t *testing.T) {
	a := newMachine(Options{UUID: testUUID}, 0)
	b := newMachine(Options{UUID: partition.DeriveGUID([]byte("other"), "ova")}, 0)
	if a.MAC == b.MAC || a.MachineID == b.MachineID || a.DiskID == b.DiskID || a.DiskID == a.MachineID {
		t.Errorf("%+v\n%+v", a, b)
	}
	if mac := a.VirtualBoxMAC(); len(mac) != 12 || !strings.HasPrefix(mac, "080027") || mac != strings.ToUpper(mac) {
		t.Errorf("MAC %s", mac)
	}
	if again := newMachine(Options{UUID: testUUID}, 0); again != a {
		t.Error("other identifiers")
	}
}

func TestOptions(t *testing.T) {
	img := disktest.Image(t, 512)
	for name, opt := range map[string]Options{
		"name":                 {Name: "a b"},
		"name that is a path":  {Name: "../a"},
		"name with an element": {Name: "a<b"},
		"name too long":        {Name: strings.Repeat("n", 81)},
		"no processor":         {CPUs: -1},
		"too many":             {CPUs: maxCPUs + 1},
		"no memory":            {MemoryMiB: -4},
		"odd memory":           {MemoryMiB: 1023},
		"too much memory":      {MemoryMiB: maxMemory + 4},
		"firmware":             {Firmware: 2},
		"secure BIOS":          {Firmware: BIOS, SecureBoot: true},
		"old hardware":         {HardwareVersion: 6},
		"new hardware":         {HardwareVersion: 100},
	} {
		f := disktest.Create(t, "image.ova")
		if err := Write(t.Context(), img, f, opt); fault.ClassOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%s: %v, class %d", name, err, fault.ClassOf(err))
		}
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("%s: something was written", name)
		}
	}
	for _, f := range []Firmware{EFI, BIOS} {
		if got, err := ParseFirmware(f.String()); got != f || err != nil {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
	if _, err := ParseFirmware("uefi"); fault.ClassOf(err) != fault.Usage {
		t.Errorf("uefi: %v", err)
	}
}

func TestContract(t *testing.T) {
	disktest.CheckDeterminism(t, encode)
	disktest.CheckProgress(t, encode, 64<<10)
	disktest.CheckErrors(t, encode)
	disktest.CheckCancel(t, encode, func(f *os.File) bool {
		return !output.IsZero(disktest.Head(t, f.Name(), output.TarBlock))
	})
	disktest.CheckRefused(t, encode, 0)
	disktest.CheckRefused(t, encode, 63<<40)
}

// TestDigestLast checks that the bytes are the same when the disk is hashed at the
// end, and that this stops when it is told to.
func TestDigestLast(t *testing.T) {
	last := func(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
		return Write(ctx, img, f, Options{UUID: testUUID, Time: testTime, DigestLast: true, Progress: progress})
	}
	for name, img := range disktest.Images(t, 64<<10) {
		want, err := os.ReadFile(disktest.File(t, encode, img, "first"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(disktest.File(t, last, img, "last"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
	}
	disktest.CheckErrors(t, last)
	disktest.CheckCancel(t, last, func(f *os.File) bool {
		return !output.IsZero(disktest.Head(t, f.Name(), output.TarBlock))
	})
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		img := disktest.FromInput(t, in, cut, 8<<16)
		checkAppliance(t, disktest.File(t, encode, img, "image.ova"), "image", img)
	})
}
