package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// usedFile returns a file of size bytes that is full of 0xA5, as a disk that has
// seen use.
func usedFile(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bytes.Repeat([]byte{0xa5}, 1<<20)
	for size > 0 {
		n, err := f.Write(b[:min(size, int64(len(b)))])
		if err != nil {
			t.Fatal(err)
		}
		size -= int64(n)
	}
	return name
}

func emptyFile(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	yamlBIOS    = "    - {size: 1 MiB, type: 21686148-6449-6e6f-744e-656564454649}\n"
	yamlBootXFS = "    - {size: 310 MiB, type: bc13c2ff-59e6-4262-a352-b275fd6f7172, payload_type: filesystem, payload: {type: xfs, mountpoint: /boot}}\n"
	yamlBootExt = "    - {size: 200 MiB, type: bc13c2ff-59e6-4262-a352-b275fd6f7172, payload_type: filesystem, payload: {type: ext4, mountpoint: /boot}}\n"
	yamlSwap    = "    - {size: 10 MiB, payload_type: swap}\n"
)

// An installation has the bytes of a raw disk of that size. On a disk that is full
// of other data, all that the raw disk has is there, and every checker finds the
// same file systems in it; what is free keeps the old data.
func TestInstallOverOldData(t *testing.T) {
	file := func(fs string) string { return "{type: " + fs + ", mountpoint: /, label: root}" }
	for name, layout := range map[string]string{
		"ext4":  yamlBootExt + "    - {payload_type: filesystem, payload: " + file("ext4") + "}\n",
		"xfs":   yamlBootXFS + "    - {payload_type: filesystem, payload: " + file("xfs") + "}\n",
		"btrfs": yamlBootExt + "    - {payload_type: btrfs, payload: {subvolumes: [{name: root, mountpoint: /}, {name: var, mountpoint: /var}]}}\n",
		"many": yamlBootExt + yamlSwap + "    - {size: 320 MiB, payload_type: filesystem, payload: {type: xfs, mountpoint: /var, label: var}}\n" +
			"    - {payload_type: filesystem, payload: " + file("ext4") + "}\n",
	} {
		t.Run(name, func(t *testing.T) {
			size := map[string]int64{"ext4": 700 << 20, "btrfs": 800 << 20, "xfs": 900 << 20, "many": 1100 << 20}[name]
			yaml := writeFile(t, "disk.yaml", "mount_configuration: units\n"+yamlHead+yamlBIOS+yamlESP+layout)
			args := []string{"--no-cache", "--target-imgref", "registry.example.com/os:1", "--layout", yaml, "--karg", "installed=1"}
			dir, _ := build(t, append(args, "--type", "raw", "--size", fmt.Sprint(size), "oci:"+sample(t))...)
			raw := filepath.Join(dir, "image/disk.raw")
			install := func(disk string, more ...string) {
				t.Helper()
				more = append(more, "--via-loopback", "--to", disk, "oci:"+sample(t))
				r := run(t, command(t, append(append([]string{"install", "--yes"}, args...), more...)...))
				if r.code != 0 || r.stdout != disk+"\n" {
					t.Fatalf("exit %d: %s%s", r.code, r.stdout, r.stderr)
				}
			}
			clean := emptyFile(t, size)
			install(clean)
			if sum(t, clean) != sum(t, raw) {
				t.Error("an empty disk gets other bytes than a raw disk has")
			}
			if err := os.Remove(clean); err != nil {
				t.Fatal(err)
			}
			used := usedFile(t, size)
			install(used, "--wipe")
			old := compareUsed(t, raw, used)
			if old < size/10 {
				t.Errorf("only %d bytes of the old data are left: free space was written", old)
			}
			if err := os.Rename(used, raw); err != nil {
				t.Fatal(err)
			}
			for _, q := range checkDisk(t, dir).Disk.Partitions {
				if q.FileSystem == "btrfs" {
					check(t, "btrfs", "btrfs-progs", "check", "--readonly", "--check-data-csum", cut(t, raw, q))
				}
			}
		})
	}
}

// compareUsed checks that what is not zero in the raw disk is the same in the used
// one, and returns how many bytes of the used one are still the old ones, in whole
// blocks.
func compareUsed(t *testing.T, raw, used string) (old int64) {
	t.Helper()
	a, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.Open(used)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	const block = 4096
	zero, fill := make([]byte, block), bytes.Repeat([]byte{0xa5}, block)
	for off := int64(0); ; off += int64(len(x)) {
		n, err := a.ReadAt(x, off)
		if n == 0 && err == io.EOF {
			return old
		}
		if k, _ := b.ReadAt(y, off); k != n {
			t.Fatalf("the used disk has %d bytes at %d", k, off)
		}
		for p := 0; p < n; p += block {
			switch w, g := x[p:p+block], y[p:p+block]; {
			case bytes.Equal(w, g):
			case bytes.Equal(g, fill) && bytes.Equal(w, zero):
				old += block
			default:
				t.Fatalf("the block at %d is neither that of the raw disk nor old", off+int64(p))
			}
		}
	}
}

// What may not be written is refused before anything of the image is read, and
// the disk is as it was.
func TestInstallRefuses(t *testing.T) {
	const size = 64 << 20
	used := usedFile(t, size)
	before := sum(t, used)
	small := emptyFile(t, 700<<20)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(used, link); err != nil {
		t.Fatal(err)
	}
	ref := "oci:" + sample(t)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no disk":      {[]string{ref}, 2, "no disk given"},
		"no image":     {[]string{"--to", used}, 2, "no image given"},
		"data":         {[]string{"--yes", "--via-loopback", "--to", used, ref}, 11, "holds data: unknown data\nhint: --wipe"},
		"no terminal":  {[]string{"--wipe", "--via-loopback", "--to", used, ref}, 2, "would be erased, and there is no terminal"},
		"file":         {[]string{"--yes", "--wipe", "--to", used, ref}, 11, "a file, not a disk\nhint: --via-loopback"},
		"link":         {[]string{"--yes", "--wipe", "--to", link, ref}, 11, "a file, not a disk"},
		"gone":         {[]string{"--yes", "--to", "/dev/disk/by-id/none", ref}, 11, "no such file"},
		"character":    {[]string{"--yes", "--to", "/dev/null", ref}, 11, "not a block device"},
		"serial":       {[]string{"--yes", "--to", "serial=none", ref}, 11, "target serial=none: no such disk"},
		"word":         {[]string{"--yes", "--to", "sda", ref}, 2, `target "sda": not a disk`},
		"too small":    {[]string{"--yes", "--via-loopback", "--no-cache", "--to", small, ref}, 7, small + " has 700 MiB, and the system needs "},
		"size":         {[]string{"--yes", "--size", "10 GiB", "--to", used, ref}, 2, "unknown flag: --size"},
		"wrong layout": {[]string{"--yes", "--wipe", "--via-loopback", "--no-cache", "--layout", writeFile(t, "disk.yaml", "partition_table:\n  sector_size: 4096\n  partitions:\n"+yamlESP+yamlBootExt+yamlRoot), "--to", used, ref}, 9, "sectors of 4096 bytes, and "},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, command(t, append([]string{"install"}, c.args...)...))
			if r.code != c.code || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit %d, want %d: %s", r.code, c.code, r.stderr)
			}
		})
	}
	if sum(t, used) != before || sum(t, small) != sum(t, emptyFile(t, 700<<20)) {
		t.Error("a refused disk was written")
	}
}

// Ctrl-C in the middle leaves a disk without a table, and says so.
func TestInstallInterrupted(t *testing.T) {
	const size = 4 << 30
	disk := emptyFile(t, size)
	// On a busy machine the disk may be complete before this test hears that it is
	// written.
	for range 5 {
		if code, stderr := interruptInstall(t, disk); code == 0 {
			continue
		} else if code != 130 || !strings.Contains(stderr, "imgbuild: interrupted: "+disk+" is erased and does not boot") {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if out, err := exec.Command(tool(t, "sgdisk", "gdisk"), "-p", disk).CombinedOutput(); err == nil && strings.Contains(string(out), "root") {
			t.Errorf("there is a table:\n%s", out)
		}
		if b := bytesAt(t, disk, 510, 2); b[0] == 0x55 {
			t.Error("there is a boot signature")
		}
		return
	}
	t.Error("no installation was interrupted")
}

// interruptInstall installs to a disk, and sends a signal as soon as that is
// written. It returns the exit code and the messages.
func interruptInstall(t *testing.T, disk string) (int, string) {
	t.Helper()
	cmd := command(t, "install", "--yes", "-v", "--via-loopback", "--to", disk, "--no-cache", "oci:"+sample(t))
	var stderr bytes.Buffer
	pr, pw := io.Pipe()
	cmd.Stderr = io.MultiWriter(&stderr, pw)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once // a second signal would not wait
	go func() {
		b := make([]byte, 4096)
		seen := ""
		for {
			n, err := pr.Read(b)
			seen += string(b[:n])
			if strings.Contains(seen, "write "+disk) {
				once.Do(func() { _ = cmd.Process.Signal(syscall.SIGINT) })
			}
			if err != nil {
				return
			}
		}
	}()
	_ = cmd.Wait()
	pw.Close()
	return cmd.ProcessState.ExitCode(), stderr.String()
}
