package pipeline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"imgbuild/blockdev"
	"imgbuild/bootloader/efivars"
	"imgbuild/fault"
	"imgbuild/test/image"
)

// bare is a machine with the given disks, each of which is a file.
func bare(t *testing.T, disks map[string]string) blockdev.Host {
	t.Helper()
	dir := t.TempDir()
	h := blockdev.Host{Sys: filepath.Join(dir, "sys"), Dev: filepath.Join(dir, "dev"), Proc: filepath.Join(dir, "proc")}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(h.Proc, "self/mountinfo"), "")
	write(filepath.Join(h.Dev, "null"), "")
	if err := os.MkdirAll(filepath.Join(h.Sys, "block"), 0o755); err != nil {
		t.Fatal(err)
	}
	minor := 0
	for name, file := range disks {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Join(h.Sys, "block", name, "size"), fmt.Sprint(info.Size()/512))
		write(filepath.Join(h.Sys, "block", name, "dev"), fmt.Sprintf("8:%d", minor))
		minor += 16
		if err := os.Symlink(file, filepath.Join(h.Dev, name)); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// imageFor writes an image whose vendor's directory has a list of boot entries.
func imageFor(t *testing.T) string {
	t.Helper()
	s := image.New()
	var csv []byte
	for _, u := range utf16.Encode([]rune("\ufeffshimx64.efi,Test OS,,boot it\n")) {
		csv = binary.LittleEndian.AppendUint16(csv, u)
	}
	s.File(0, "usr/lib/bootupd/updates/EFI/test/BOOTX64.CSV", string(csv))
	dir := filepath.Join(t.TempDir(), "image")
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// installTo returns a file that stands for a disk of the machine, and options to
// install to it.
func installTo(t *testing.T, size int64, sector int) InstallOptions {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	d, err := blockdev.File(file)
	if err != nil {
		t.Fatal(err)
	}
	d.SectorSize = sector
	return InstallOptions{
		Options: Options{
			Image: reference(t, "oci:"+imageFor(t)), Target: "registry.example.com/os:1", Arch: "amd64", HostArch: "amd64",
			NoCache: true, TempDir: t.TempDir(), Getenv: func(string) string { return "" },
		},
		Disk: d,
	}
}

// A disk of the machine gets a boot entry, and one that has a twin is refused.
func TestInstallOnMachine(t *testing.T) {
	vars := t.TempDir()
	other := efivars.Store{Dir: vars}
	if _, err := other.Install(efivars.Entry{Label: "other", Loader: `\x.efi`, Number: 1}, nil); err != nil {
		t.Fatal(err)
	}
	o := installTo(t, 3<<30, 512)
	first := o.Disk.Path
	if _, err := Install(t.Context(), o, &recorder{}); err != nil {
		t.Fatal(err)
	}
	// As a disk of the machine: the firmware gets an entry.
	p := &recorder{}
	again := installTo(t, 3<<30, 512)
	again.Options.Image = o.Image
	again.Host, again.Firmware = bare(t, map[string]string{"sda": again.Disk.Path}), efivars.Store{Dir: vars}
	if err := again.prepare(); err != nil {
		t.Fatal(err)
	}
	b, l, err := arrange(t.Context(), &again.Options, p)
	if err != nil {
		t.Fatal(err)
	}
	defer b.source.close()
	again.Disk.File = false // from here on, a disk
	again.Disk.Number = "8:0"
	name, err := again.bootEntry(t.Context(), l, again.findLoader(l, "title"), p)
	if err != nil || name != "Boot0001" {
		t.Fatalf("%s, %v", name, err)
	}
	entry, err := os.ReadFile(filepath.Join(vars, "Boot0001-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
	if err != nil {
		t.Fatal(err)
	}
	var label []byte
	for _, u := range utf16.Encode([]rune("Test OS\x00")) {
		label = binary.LittleEndian.AppendUint16(label, u)
	}
	if !bytes.Contains(entry, label) {
		t.Errorf("the entry is %q", entry)
	}
	if err := again.checkTwins(t.Context(), l); err != nil {
		t.Error(err)
	}
	for _, quiet := range []func(*InstallOptions){
		func(o *InstallOptions) { o.Generic = true },
		func(o *InstallOptions) { o.Disk.File = true },
		func(o *InstallOptions) { o.Disk.Transport = blockdev.Loop },
		func(o *InstallOptions) { o.HostArch = "arm64" },
		func(o *InstallOptions) { o.Firmware.Dir = filepath.Join(vars, "none") },
	} {
		c := again
		quiet(&c)
		if name, err := c.bootEntry(t.Context(), l, c.findLoader(l, "title"), p); err != nil || name != "" {
			t.Errorf("%+v: %s, %v", c.Disk, name, err)
		}
	}
	// Another disk with the same system on it.
	again.Host = bare(t, map[string]string{"sda": again.Disk.Path, "sdb": first})
	again.Disk.Number = "none"
	if err := again.checkTwins(t.Context(), l); fault.ClassOf(err) != fault.Device || !strings.Contains(err.Error(), "sdb has partitions with the identifiers that ") || !strings.Contains(fault.HintOf(err), "--seed") {
		t.Errorf("a twin: %v", err)
	}
}

// The disk decides about sectors and sizes.
func TestInstallFitsDisk(t *testing.T) {
	o := installTo(t, 3<<30, 4096)
	if err := o.prepare(); err != nil {
		t.Fatal(err)
	}
	b, l, err := arrange(t.Context(), &o.Options, &recorder{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.source.close()
	last := l.places[len(l.places)-1]
	if b.plan.Disk.SectorSize != 4096 || b.plan.Disk.Size != 3<<30 || last.Start+last.Size < 3<<30-3<<20 {
		t.Errorf("%+v, root up to %d", b.plan.Disk, last.Start+last.Size)
	}
	small := installTo(t, 600<<20, 512)
	if _, err := Install(t.Context(), small, &recorder{}); fault.ClassOf(err) != fault.NoSpace || !strings.Contains(err.Error(), "has 600 MiB, and the system needs ") {
		t.Errorf("too small: %v", err)
	}
	odd := installTo(t, 600<<20+100, 512)
	if _, err := Install(t.Context(), odd, &recorder{}); fault.ClassOf(err) != fault.Device {
		t.Errorf("no whole sectors: %v", err)
	}
	sized := installTo(t, 600<<20, 512)
	sized.Sizes.Disk = 1 << 30
	if _, err := Install(t.Context(), sized, &recorder{}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("a size: %v", err)
	}
}
