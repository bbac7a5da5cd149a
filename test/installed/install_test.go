//go:build linux

package installed

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"imgbuild/test/fstest"
)

// usedDisk returns a loop device of a file that is full of old data, which the
// ordinary user may read and write.
func usedDisk(t *testing.T, size int64, options ...string) (device, file string) {
	t.Helper()
	file = filepath.Join(workDir(t), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bytes.Repeat([]byte{0xa5}, 1<<20)
	for done := int64(0); done < size; done += int64(len(b)) {
		if len(options) > 0 && done >= 64<<20 {
			break // only its beginning, where that will do
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	device = strings.TrimSpace(run(t, "losetup", append(append([]string{"--find", "--show", "--partscan"}, options...), file)...))
	info, err := os.Stat(device)
	if err != nil {
		t.Fatal(err)
	}
	was := info.Sys().(*syscall.Stat_t)
	if err := os.Chown(device, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chown(device, int(was.Uid), int(was.Gid))
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v %s", err, out)
		}
	})
	return device, file
}

// asRoot runs imgbuild as root, whatever the tests do otherwise: mounting takes
// that.
func asRoot(t *testing.T, args ...string) (int, string) { return rootIn(t, "/var/tmp", args...) }

// rootIn does the same with a directory for temporary files.
func rootIn(t *testing.T, tmp string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.Command(path(t, "IMGBUILD_BIN", "../../bin/imgbuild"), args...)
	cmd.Env = append(os.Environ(), "HOME=/nonexistent", "TMPDIR="+tmp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// listing returns everything about the files of a disk: root and /boot.
func listing(t *testing.T, disk string, root, boot int, options string) string {
	t.Helper()
	m := mount(t, disk, root, boot, options)
	defer m.unmount(t)
	return run(t, "sh", "-euc", `cd "$1"
find . -printf '%p %y %m %U %G %s %T@ %n %l\n' | LC_ALL=C sort
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -hd -m - 2>/dev/null`, "sh", m.root)
}

// sameFiles compares the files of two disks.
func sameFiles(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("line %d is %q, want %q", i+1, a[i], b[i])
		}
	}
	t.Fatalf("%d lines, want %d", len(a), len(b))
}

// fsck has the owners look at the file systems of a disk.
func fsck(t *testing.T, disk string, rootFS string) {
	t.Helper()
	if out := run(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	for number, check := range map[int][]string{2: {"fsck.vfat", "-n"}, 3: {"e2fsck", "-fn"}, 4: map[string][]string{
		"ext4": {"e2fsck", "-fn"}, "xfs": nil, "btrfs": {"btrfs", "check", "--readonly", "--check-data-csum"}}[rootFS]} {
		start, size := extent(t, disk, number)
		loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", "--read-only", "--offset", fmt.Sprint(start), "--sizelimit", fmt.Sprint(size), disk))
		t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })
		if check != nil {
			run(t, check[0], append(check[1:], loop)...)
		} else if out, err := fstest.XFSRepair(t, loop); err != nil {
			t.Errorf("xfs_repair: %v\n%s", err, out)
		}
	}
}

// An ordinary user who may write to a disk installs to it, whatever was on it: the
// kernel sees the files that a raw disk of the size has.
func TestInstall(t *testing.T) {
	needRoot(t)
	const size = 2500 << 20
	sample := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	target := "--target-imgref=registry.example.com/os:1"
	for _, c := range []struct{ rootFS, options string }{{"ext4", "ro,noload"}, {"xfs", "ro,norecovery"}} {
		t.Run(c.rootFS, func(t *testing.T) {
			raw := rawDisk(t, sample, "--size", fmt.Sprint(int64(size)), "--rootfs", c.rootFS, target)
			device, file := usedDisk(t, size)
			start := time.Now()
			code, stderr := imgbuild(t, workDir(t), "install", "--yes", "--wipe", "--no-cache", "--to", device, "--rootfs", c.rootFS, target, "oci:"+sample)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			t.Logf("installed in %.1f s", time.Since(start).Seconds())
			fsck(t, file, c.rootFS)
			options := c.options
			if c.rootFS != "ext4" {
				options = "ro" // /boot is ext4; both journals are empty
			}
			sameFiles(t, listing(t, file, 4, 3, options), listing(t, raw, 4, 3, options))
			if scripts := os.Getenv("IMGBUILD_FIXTURE_SCRIPTS"); scripts != "" && c.rootFS == "ext4" {
				list := func(disk string) string { return run(t, filepath.Join(scripts, "list-disk.sh"), disk, "--plain") }
				if got, want := list(file), list(raw); got != want {
					t.Errorf("list-disk.sh differs:\n%s", diffText(got, want))
				}
			}
			if c.rootFS == "ext4" {
				start := time.Now()
				run(t, "dd", "if="+raw, "of="+device, "bs=1M", "conv=fsync", "status=none")
				t.Logf("dd of the raw disk takes %.1f s", time.Since(start).Seconds())
			}
		})
	}
}

// diffText shows the first lines that differ.
func diffText(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d: %q, want %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

// With the layers on the target itself nothing is written elsewhere, and the
// result is the same. XFS has files everywhere on the disk, also where the layers
// are.
func TestInstallUnpacksOnTarget(t *testing.T) {
	needRoot(t)
	const size = 3 << 30
	sample := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	target := "--target-imgref=registry.example.com/os:1"
	// The temporary directory has room for a mount point, and nothing else.
	tmp, err := os.MkdirTemp("/var/tmp", "imgbuild-installed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(tmp) })
	if err := syscall.Mount("tmpfs", tmp, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(tmp, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	for _, rootFS := range []string{"xfs"} {
		t.Run(rootFS, func(t *testing.T) {
			device, file := usedDisk(t, size)
			code, stderr := rootIn(t, tmp, "install", "--yes", "--wipe", "-v", "--unpack-on-target", "--to", device, "--rootfs", rootFS, target, "oci:"+sample)
			if code != 0 || !strings.Contains(stderr, "the layers are unpacked on "+device+" itself") {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left in the temporary directory: %v %v", left, err)
			}
			raw := rawDisk(t, sample, "--size", fmt.Sprint(int64(size)), "--rootfs", rootFS, target)
			fsck(t, file, rootFS)
			sameFiles(t, listing(t, file, 4, 3, "ro"), listing(t, raw, 4, 3, "ro"))
		})
	}
	t.Run("too small", func(t *testing.T) {
		device, file := usedDisk(t, 700<<20)
		before := run(t, "sha256sum", file)
		code, stderr := asRoot(t, "install", "--yes", "--wipe", "--unpack-on-target", "--to", device, target, "oci:"+sample)
		if code != 7 || !strings.Contains(stderr, device+" has 700 MiB, and ") || !strings.Contains(stderr, "to unpack it") {
			t.Errorf("exit %d: %s", code, stderr)
		}
		if run(t, "sha256sum", file) != before {
			t.Error("the disk was written")
		}
	})
}

// A damaged image stops an installation before the disk is touched, wherever the
// layers go.
func TestInstallDamagedImage(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "image")
	run(t, "cp", "-a", path(t, "IMGBUILD_SAMPLE", "../../.cache/sample"), dir)
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs/sha256/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	largest, most := "", int64(0)
	for _, b := range blobs {
		if info, err := os.Stat(b); err == nil && info.Size() > most {
			largest, most = b, info.Size()
		}
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, most/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, most/2); err != nil {
		t.Fatal(err)
	}
	f.Close()
	device, file := usedDisk(t, 512<<20)
	before := run(t, "sha256sum", file)
	for _, more := range [][]string{{"--no-cache"}, {"--unpack-on-target"}} {
		code, stderr := asRoot(t, append([]string{"install", "--yes", "--wipe", "--to", device, "oci:" + dir}, more...)...)
		if code != 5 || strings.Contains(stderr, "is erased") {
			t.Errorf("%v: exit %d: %s", more, code, stderr)
		}
	}
	if run(t, "sha256sum", file) != before {
		t.Error("the disk was written")
	}
}

// Disks in use are refused, and stay as they are.
func TestInstallRefusesDisksInUse(t *testing.T) {
	needRoot(t)
	sample := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	device, _ := usedDisk(t, 64<<20)
	refused := func(want string) {
		t.Helper()
		code, stderr := asRoot(t, "install", "--yes", "--wipe", "--to", device, "oci:"+sample)
		if code != 11 || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, want 11 and %q: %s", code, want, stderr)
		}
	}
	run(t, "mke2fs", "-q", "-t", "ext4", device)
	dir := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", device, dir)
	refused("in use: " + filepath.Base(device) + " is mounted at " + dir)
	fstest.Unmount(t, dir)
	// What no table names is known to the kernel all the same.
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	refused("in use: device or resource busy")
	f.Close()
	run(t, "blockdev", "--setro", device)
	refused("read-only")
	run(t, "blockdev", "--setrw", device)
	if code, stderr := asRoot(t, "install", "--list"); code != 0 {
		t.Errorf("list: exit %d: %s", code, stderr)
	}
}

// Disks with sectors of 4096 bytes get what is made for such.
func TestInstallLargeSectors(t *testing.T) {
	needRoot(t)
	sample := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	device, _ := usedDisk(t, 3<<30, "--sector-size", "4096")
	code, stderr := imgbuild(t, workDir(t), "install", "--yes", "--wipe", "--no-cache", "--to", device, "--target-imgref", "registry.example.com/os:1", "oci:"+sample)
	if code != 0 || !strings.Contains(stderr, "BIOS reads no disks with sectors of 4096 bytes") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	if out := run(t, "sgdisk", "-v", "-p", device); !strings.Contains(out, "No problems found") || !strings.Contains(out, "logical/physical): 4096/") || !strings.Contains(out, "root") {
		t.Error(out)
	}
	var first, last int64
	for line := range strings.Lines(run(t, "sgdisk", "-i", "4", device)) {
		fmt.Sscanf(line, "First sector: %d", &first)
		fmt.Sscanf(line, "Last sector: %d", &last)
	}
	loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", "--read-only", "--sector-size", "4096", "--offset", fmt.Sprint(first*4096), "--sizelimit", fmt.Sprint((last-first+1)*4096), device))
	defer run(t, "losetup", "--detach", loop)
	run(t, "e2fsck", "-fn", loop)
}

// A disk that fails in the middle gives one line that says so, and what became of
// the disk: here its file has no room for what is written to it.
func TestInstallDiskFails(t *testing.T) {
	needRoot(t)
	sample := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=100m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	file := filepath.Join(dir, "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 3<<30); err != nil {
		t.Fatal(err)
	}
	device := strings.TrimSpace(run(t, "losetup", "--find", "--show", "--partscan", file))
	defer run(t, "losetup", "--detach", device)
	code, stderr := asRoot(t, "install", "--yes", "--no-cache", "--to", device, "--target-imgref=registry.example.com/os:1", "oci:"+sample)
	last := lastLines(stderr, 2)
	if code != 11 || !strings.HasPrefix(last, "imgbuild: "+device+": ") || !strings.Contains(last, "; "+device+" is erased and does not boot\nhint: ") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	b := make([]byte, 1024)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(b, 0); err != nil || !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("there is a table, or %v", err)
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(len(lines)-n, 0):], "\n")
}

// Ctrl-C while the layers are on the disk leaves nothing mounted, and a disk
// without a table.
func TestInstallInterruptedOnTarget(t *testing.T) {
	needRoot(t)
	sample := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	for _, stage := range []string{"unpack layers ...", "write "} {
		device, file := usedDisk(t, 3<<30, "--sector-size", "512")
		code, text := 0, ""
		// On a busy machine the signal may come after the end; five times it does not.
		for n := 0; code == 0 && n < 5; n++ {
			code, text = interruptedAt(t, stage, "install", "--yes", "--wipe", "-v", "--unpack-on-target", "--to", device, "oci:"+sample)
		}
		if code != 130 || !strings.Contains(text, "interrupted: "+device+" is erased and does not boot") {
			t.Errorf("%s: exit %d: %s", stage, code, text)
		}
		// Its partitions as well, and not another device whose name begins alike.
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || regexp.MustCompile(device+`(p\d+)? `).Match(mounts) {
			t.Errorf("%s: still mounted, or %v", stage, err)
		}
		if out, err := exec.Command("sgdisk", "-p", file).CombinedOutput(); err == nil && strings.Contains(string(out), "root") {
			t.Errorf("%s: there is a table:\n%s", stage, out)
		}
	}
}

// interruptedAt runs imgbuild as root, interrupts it when it says that a stage begins,
// and returns its exit code and stderr.
func interruptedAt(t *testing.T, stage string, args ...string) (code int, text string) {
	t.Helper()
	cmd := exec.Command(path(t, "IMGBUILD_BIN", "../../bin/imgbuild"), args...)
	cmd.Env = append(os.Environ(), "HOME=/nonexistent", "TMPDIR=/var/tmp")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sent := false
	buf := make([]byte, 4096)
	for {
		n, err := pipe.Read(buf)
		text += string(buf[:n])
		if !sent && strings.Contains(text, "\n"+stage) {
			sent = true
			_ = cmd.Process.Signal(os.Interrupt)
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), text
}
