package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/partition"
)

// shelf is an Uploader that keeps what it gets.
type shelf struct {
	asked string // architecture
	got   *Machine
	table *partition.Table
	err   error // of Check
}

func (s *shelf) Check(_ context.Context, arch string) error {
	s.asked = arch
	return s.err
}

func (s *shelf) Upload(_ context.Context, m Machine, _ Progress) error {
	s.got = &m
	s.table, _ = partition.Read(m.Image, m.Image.Size(), 0)
	return nil
}

// rawDisk writes a disk to a file.
func rawDisk(t *testing.T, size int64, parts []disk.Part) string {
	t.Helper()
	img, err := disk.Compose(size, parts)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, e := range img.Extents() {
		b, err := e.Data.ReadAll(1 << 20)
		if err == nil {
			_, err = f.WriteAt(b, e.Off)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// gptDisk writes a disk that has partitions of the types, a MiB each.
func gptDisk(t *testing.T, size int64, sector int, types ...partition.GUID) string {
	t.Helper()
	table := partition.Table{DiskID: partition.GUID{1}, Size: size, SectorSize: sector}
	for i, typ := range types {
		table.Partitions = append(table.Partitions, partition.Partition{Type: typ, ID: partition.GUID{2, byte(i)}, Start: int64(i+1) * mib, Size: mib})
	}
	parts, err := table.Parts(nil)
	if err != nil {
		t.Fatal(err)
	}
	return rawDisk(t, size, parts)
}

// mbrDisk writes a disk whose boot record has partitions of the types.
func mbrDisk(t *testing.T, types ...byte) string {
	t.Helper()
	b := make([]byte, 512)
	for i, typ := range types {
		r := b[446+16*i:]
		r[4] = typ
		binary.LittleEndian.PutUint32(r[8:], uint32(2048*(i+1)))
		binary.LittleEndian.PutUint32(r[12:], 2048)
	}
	b[510], b[511] = 0x55, 0xAA
	return rawDisk(t, 16*mib, []disk.Part{{Size: 512, Extents: []disk.Extent{{Data: content.Bytes(b)}}}})
}

// What a disk is for is read from its table, and no table is lost on the way to
// whole GiB.
func TestUploadFile(t *testing.T) {
	root := func(arch string) partition.GUID {
		g, ok := partition.RootType(arch)
		if !ok {
			t.Fatal(arch)
		}
		return g
	}
	for _, c := range []struct {
		name, path, arch string
		want             Machine // but for the image
		err              string
	}{
		{"both", gptDisk(t, 30*mib, 512, partition.BIOSBoot, partition.ESP, root("amd64")), "", Machine{Arch: "amd64", UEFI: true, BIOS: true}, ""},
		{"whole GiB", gptDisk(t, gib, 512, partition.ESP, root("arm64")), "", Machine{Arch: "arm64", UEFI: true}, ""},
		{"BIOS only", gptDisk(t, 30*mib, 512, partition.BIOSBoot, root("amd64")), "amd64", Machine{Arch: "amd64", BIOS: true}, ""},
		{"generic root", gptDisk(t, 30*mib, 512, partition.ESP, partition.LinuxData), "", Machine{}, "does not tell the architecture"},
		{"generic root with a flag", gptDisk(t, 30*mib, 512, partition.ESP, partition.LinuxData), "arm64", Machine{Arch: "arm64", UEFI: true}, ""},
		{"other architecture", gptDisk(t, 30*mib, 512, partition.ESP, root("arm64")), "amd64", Machine{}, "is one of arm64, not of amd64"},
		{"large sectors", gptDisk(t, 30*mib, 4096, partition.ESP, root("amd64")), "", Machine{}, "sectors of 4096 bytes"},
		{"boot record", mbrDisk(t, 0x83), "amd64", Machine{Arch: "amd64", BIOS: true}, ""},
		{"boot record with an ESP", mbrDisk(t, 0xEF, 0x83), "amd64", Machine{Arch: "amd64", BIOS: true, UEFI: true}, ""},
		{"boot record alone", mbrDisk(t), "amd64", Machine{}, "no disk that boots"},
		{"zeros", rawDisk(t, 16*mib, nil), "amd64", Machine{}, "no disk that boots"},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := &shelf{}
			err := UploadFile(t.Context(), DiskFile{Path: c.path}, c.arch, t.TempDir(), to, Silent{})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.HasPrefix(err.Error(), c.path+": ") && !strings.Contains(err.Error(), "sectors") || to.asked != "" {
					t.Errorf("%v, asked about %q", err, to.asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := *to.got
			got.Image = nil
			if got != c.want || to.asked != c.want.Arch {
				t.Errorf("%+v, asked about %q", got, to.asked)
			}
			if to.got.Image.Size() != gib {
				t.Errorf("%d bytes", to.got.Image.Size())
			}
			if gpt := !strings.HasPrefix(c.name, "boot"); gpt && (to.table == nil || to.table.Size != gib) {
				t.Errorf("table %v", to.table)
			}
		})
	}
	// A check that fails is the end.
	to := &shelf{err: fault.New(fault.Upload, errors.New("no"), "")}
	if err := UploadFile(t.Context(), DiskFile{Path: gptDisk(t, gib, 512, partition.ESP, root("arm64"))}, "", t.TempDir(), to, Silent{}); err != to.err || to.got != nil {
		t.Errorf("%v, %v", err, to.got)
	}
}

// Options of uploads that contradict others.
func TestValidateUpload(t *testing.T) {
	to := &shelf{}
	for _, c := range []struct {
		o   Options
		err string
	}{
		{Options{Types: []Type{AMI}, Upload: to}, ""},
		{Options{Types: []Type{AMI, QCOW2}, Upload: to}, ""},
		{Options{Types: []Type{Raw, AMI}, Upload: to}, ""},
		{Options{Types: []Type{AMI}, Upload: to, NoOutput: true}, ""},
		{Options{Types: []Type{QCOW2}, Upload: to}, "only type ami is uploaded"},
		{Options{Upload: to}, "only type ami is uploaded"},
		{Options{Types: []Type{AMI}, NoOutput: true}, "nothing would be left"},
		{Options{Types: []Type{AMI, QCOW2}, Upload: to, NoOutput: true}, "type qcow2 is a file"},
		{Options{Types: []Type{AMI}, Upload: to, NoOutput: true, Formats: Formats{Compress: &Compress{}}}, "no file to compress"},
	} {
		err := c.o.validate()
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
