package blockdev

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if p := filepath.Join(dir, name); exists(p) {
				path, err = p, nil
				break
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

func sparse(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

func probeFile(t *testing.T, name string) Content {
	t.Helper()
	d, err := File(name)
	if err != nil {
		t.Fatal(err)
	}
	return d.Content
}

// What the tools of the file systems make is what blkid says of it.
func TestProbeFileSystems(t *testing.T) {
	for _, c := range [][]string{
		{"mke2fs", "-q", "-t", "ext4", "-L", "my root"},
		{"mke2fs", "-q", "-t", "ext3", "-L", "three"},
		{"mke2fs", "-q", "-t", "ext2"},
		{"mkfs.xfs", "-q", "-L", "data"},
		{"mkfs.btrfs", "-q", "-L", "pool"},
		{"mkfs.vfat", "-F", "32", "-n", "STICK"},
		{"mkfs.vfat", "-F", "16"},
		{"mkfs.vfat", "-F", "12", "-n", "FLOPPY"},
		{"mkswap", "-L", "swap1"},
		{"mkfs.erofs", "-Lero"},
	} {
		name := sparse(t, 400<<20)
		args := append(c[1:len(c):len(c)], name)
		if strings.Contains(strings.Join(c, " "), "-F 12") {
			if err := os.Truncate(name, 8<<20); err != nil {
				t.Fatal(err)
			}
		}
		if c[0] == "mkfs.erofs" {
			args = append(args, t.TempDir())
		}
		tool(t, c[0], args...)
		got := probeFile(t, name)
		want := map[string]string{}
		for line := range strings.Lines(tool(t, "blkid", "-p", "-o", "export", name)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			want[key] = strings.ReplaceAll(value, `\ `, " ")
		}
		if got.Empty || got.Table != "" || got.Type != want["TYPE"] || got.Label != want["LABEL"] {
			t.Errorf("%v: %+v, blkid says %v", c, got, want)
		}
	}
}

func TestProbeTables(t *testing.T) {
	name := sparse(t, 2<<30)
	tool(t, "sgdisk", "-n1:2048:+1M", "-t1:ef02", "-n2:0:+100M", "-t2:ef00", "-c2:EFI System", "-n3:0:0", "-c3:root", name)
	system := sparse(t, 500<<20)
	tool(t, "mke2fs", "-q", "-t", "ext4", "-L", "r", system)
	tool(t, "dd", "if="+system, "of="+name, "bs=1M", "seek=102", "conv=notrunc,sparse", "status=none")
	const want = "3 partitions: BIOS boot unknown 1 MiB, EFI system 'EFI System' 100 MiB, ext4 'r' 1.9 GiB"
	got := probeFile(t, name).String()
	if got != strings.Replace(want, "BIOS boot unknown", "BIOS boot", 1) {
		t.Error(got)
	}
	// The entries of the first copy of the table gone, then all of it: somebody may
	// want the second.
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{2 * 512, 0} {
		if _, err := f.WriteAt(make([]byte, 1<<20-off), off); err != nil {
			t.Fatal(err)
		}
		if again := probeFile(t, name).String(); again != got {
			t.Errorf("zeros from %d on: %s", off, again)
		}
	}

	name = sparse(t, 2<<30)
	cmd := exec.Command("sh", "-c", `PATH=$PATH:/usr/sbin:/sbin sfdisk -q "$1"`, "sh", name)
	cmd.Stdin = strings.NewReader("label: dos\nsize=100M,type=c,bootable\nsize=200M,type=7\ntype=83\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := probeFile(t, name).String(); got != "3 partitions: type 0c 100 MiB, Windows data 200 MiB, unknown 1.7 GiB" {
		t.Error(got)
	}

	name = sparse(t, 100<<20)
	tool(t, "sgdisk", "-o", name)
	if c := probeFile(t, name); !c.Empty || c.String() != "empty (a table without partitions)" {
		t.Errorf("%+v", c)
	}
}

func TestProbeOther(t *testing.T) {
	if c := probeFile(t, sparse(t, 10<<20)); !c.Empty || c.String() != "empty" {
		t.Errorf("%+v", c)
	}
	if c := probeFile(t, sparse(t, 0)); !c.Empty {
		t.Errorf("%+v", c)
	}
	const size = 8 << 20
	for name, change := range map[string]func(b []byte){
		"unknown data":  func(b []byte) { copy(b, bytes.Repeat([]byte{0xa5}, size)) },
		"unknown data ": func(b []byte) { b[size-1] = 1 },
		"lvm2": func(b []byte) {
			copy(b[512:], "LABELONE\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00 \x00\x00\x00LVM2 001")
		},
		"LUKS":  func(b []byte) { copy(b, "LUKS\xba\xbe\x00\x01") },
		"raid":  func(b []byte) { copy(b[size-8192:], mdMagic) },
		"raid ": func(b []byte) { copy(b[size-65536:], mdMagic) },
		"zfs":   func(b []byte) { copy(b[131072+17*1024:], zfsUberMagic) },
		"ntfs":  func(b []byte) { copy(b, "\xebR\x90NTFS    "); b[510], b[511] = 0x55, 0xaa },
	} {
		b := make([]byte, size)
		change(b)
		c := Probe(bytes.NewReader(b), size, 512)
		if c.Empty || c.String() != strings.TrimSpace(name) {
			t.Errorf("%s: %s", name, c)
		}
	}
	if c := Probe(bytes.NewReader(nil), 100, 512); c.Err == nil || c.Empty {
		t.Errorf("unreadable: %+v", c)
	}
}

// A label is the work of others and must not control the terminal.
func TestLabelsAreQuoted(t *testing.T) {
	c := Content{Type: "xfs", Label: "\x1b[2J"}
	if s := c.String(); s != "xfs '?[2J'" {
		t.Errorf("%q", s)
	}
}

func FuzzProbe(f *testing.F) {
	f.Add([]byte("LUKS\xba\xbe"), uint32(0), int64(1<<20))
	gpt := make([]byte, 92+512)
	copy(gpt, "EFI PART")
	gpt[0x48], gpt[0x50], gpt[0x54] = 2, 128, 128
	copy(gpt[512:], bytes.Repeat([]byte{0xff}, 92))
	f.Add(gpt, uint32(512), int64(1<<20))
	f.Add([]byte{0x80, 0, 0, 0, 0x83, 0, 0, 0, 1, 0, 0, 0, 9, 9, 9, 9}, uint32(0x1be), int64(4096))
	f.Fuzz(func(t *testing.T, b []byte, off uint32, size int64) {
		if size < 0 || size > 4<<20 || int64(off) >= size {
			return
		}
		disk := make([]byte, size)
		copy(disk[off:], b)
		if size >= 512 && len(b)%2 == 1 {
			disk[510], disk[511] = 0x55, 0xaa
		}
		c := Probe(bytes.NewReader(disk), size, 512)
		if c.Empty && len(c.Partitions) > 0 || c.String() == "" {
			t.Fatalf("%+v", c)
		}
	})
}
