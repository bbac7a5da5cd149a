package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/test/image"
)

// diskPlan is what the manifest beside a disk says of it.
type diskPlan struct {
	Commit string
	Kargs  []string
	Disk   struct {
		Table, ID, Mounts string
		Size              int64
		SectorSize        int64 `json:"sector_size"`
		Partitions        []planPart
	}
}

type planPart struct {
	Number         int
	Name, Type, ID string
	Start, Size    int64
	FileSystem     string `json:"file_system"`
	Label, UUID    string
	Mount, Source  string
	Bootable       bool
	Attributes     []int
	Subvolumes     []struct{ Name, Mount string }
}

func readPlan(t *testing.T, dir string) *diskPlan {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "manifest-raw.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := &diskPlan{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// at returns the partition that is mounted at a path.
func (p *diskPlan) at(t *testing.T, mount string) planPart {
	t.Helper()
	for _, q := range p.Disk.Partitions {
		if q.Mount == mount {
			return q
		}
	}
	t.Fatalf("nothing is mounted at %s: %+v", mount, p.Disk.Partitions)
	return planPart{}
}

// data calls fn for the ranges of a file from start to end that are no holes,
// which most of a disk is.
func data(t *testing.T, f *os.File, start, end int64, fn func(off, n int64)) {
	t.Helper()
	const seekData, seekHole = 3, 4
	for start < end {
		off, err := f.Seek(start, seekData)
		if err != nil || off >= end {
			return
		}
		if start, err = f.Seek(off, seekHole); err != nil {
			t.Fatal(err)
		}
		fn(off, min(start, end)-off)
	}
}

// sumData returns a digest of what is in a sparse file, and where.
func sumData(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	fmt.Fprintln(h, info.Size())
	data(t, f, 0, info.Size(), func(off, n int64) {
		fmt.Fprintln(h, off, n)
		if _, err := io.Copy(h, io.NewSectionReader(f, off, n)); err != nil {
			t.Fatal(err)
		}
	})
	return hex.EncodeToString(h.Sum(nil))
}

// cut copies a partition out of a raw disk, without its zeros.
func cut(t *testing.T, disk string, q planPart) string {
	t.Helper()
	from, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	path := filepath.Join(t.TempDir(), fmt.Sprintf("p%d", q.Number))
	to, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	data(t, from, q.Start, q.Start+q.Size, func(start, n int64) {
		if _, err := to.Seek(start-q.Start, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(to, io.NewSectionReader(from, start, n)); err != nil {
			t.Fatal(err)
		}
	})
	if err := to.Truncate(q.Size); err != nil {
		t.Fatal(err)
	}
	return path
}

// bytesAt returns n bytes of a file.
func bytesAt(t *testing.T, path string, off int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	return b
}

// checkDisk has every tool look at its part of a disk.
func checkDisk(t *testing.T, dir string) *diskPlan {
	t.Helper()
	disk, p := filepath.Join(dir, "image/disk.raw"), readPlan(t, dir)
	switch {
	case p.Disk.Table == "dos":
		if out := check(t, "sfdisk", "fdisk", "--verify", disk); !strings.Contains(out, "No errors detected") {
			t.Errorf("sfdisk --verify: %s", out)
		}
	case p.Disk.SectorSize == 512:
		if out := check(t, "sgdisk", "gdisk", "-v", disk); !strings.Contains(out, "No problems found") {
			t.Errorf("sgdisk -v: %s", out)
		}
	}
	for _, q := range p.Disk.Partitions {
		if q.FileSystem == "" {
			continue
		}
		part := cut(t, disk, q)
		switch q.FileSystem {
		case "ext4":
			check(t, "e2fsck", "e2fsprogs", "-fn", part)
		case "xfs":
			if out, err := fstest.XFSRepair(t, "-f", part); err != nil {
				t.Errorf("xfs_repair: %v\n%s", err, out)
			}
		case "btrfs":
			check(t, "btrfs", "btrfs-progs", "check", "--readonly", part)
		case "vfat":
			if out := check(t, "fsck.vfat", "dosfstools", "-n", part); strings.Contains(out, "ifference") {
				t.Errorf("fsck.vfat: %s", out)
			}
		case "swap":
			if out := check(t, "swaplabel", "util-linux", part); !strings.Contains(out, q.UUID) {
				t.Errorf("swaplabel: %s", out)
			}
		}
		found := map[string]string{}
		for line := range strings.Lines(check(t, "blkid", "util-linux", "-p", "-o", "export", part)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			found[k] = strings.ReplaceAll(v, `\ `, " ")
		}
		if found["TYPE"] != q.FileSystem || found["UUID"] != q.UUID || found["LABEL"] != q.Label {
			t.Errorf("partition %d: blkid has %v, the plan %+v", q.Number, found, q)
		}
	}
	return p
}

// etc returns a file of the deployment's /etc on an ext4 root.
func (p *diskPlan) etc(t *testing.T, root, name string) string {
	t.Helper()
	return string(fileOf(t, root, "/ostree/deploy/default/deploy/"+p.Commit+".0/etc/"+name))
}

func listOf(t *testing.T, fs, dir string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(check(t, "debugfs", "e2fsprogs", "-R", "ls -p "+dir, fs)) {
		if f := strings.Split(line, "/"); len(f) > 5 && f[5] != "." && f[5] != ".." {
			names = append(names, f[5])
		}
	}
	slices.Sort(names)
	return names
}

const (
	yamlHead = "partition_table:\n  partitions:\n"
	yamlESP  = "    - {size: 100 MiB, type: c12a7328-f81f-11d2-ba4b-00a0c93ec93b, payload_type: filesystem, payload: {type: vfat, mountpoint: /boot/efi, label: ESP}}\n"
	yamlRoot = "    - {payload_type: filesystem, payload: {type: ext4, mountpoint: /, label: root, fstab_options: noatime}}\n"
)

// spec returns an image with a /var and directories to mount at.
func partitioned() *image.Spec {
	s := image.New()
	s.Link(0, "home", "var/home")
	s.Dir(0, "data")
	s.Dir(0, "full")
	s.File(0, "full/x", "content of the image")
	s.Dir(0, "var/lib")
	s.Dir(0, "var/lib/app")
	s.File(0, "var/lib/app/state", "initial state\n")
	s.Dir(0, "var/log")
	s.File(0, "var/log/first", "a log\n")
	s.File(0, "usr/lib/firmware/blob", strings.Repeat("firmware", 1000))
	return s
}

func writeImage(t *testing.T, s *image.Spec) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}
