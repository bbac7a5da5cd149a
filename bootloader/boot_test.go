package bootloader

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/tree"
)

// tool returns the path of a program, which ordinary users do not always have
// in their PATH.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Fatalf("no %s: install the package %s", name, debianPackage)
	return ""
}

func run(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// write writes a tree to a directory of the machine.
func write(t *testing.T, root *tree.Inode, dir string) {
	t.Helper()
	err := tree.Walk(root, func(p string, i *tree.Inode) error {
		p = filepath.Join(dir, p)
		if i.IsDir() {
			return os.MkdirAll(p, 0o755)
		}
		f, err := os.Create(p)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(f, i.Content.Reader())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// biosDisk makes a disk with a BIOS boot partition and the file system of
// /boot, with what Install returns.
func biosDisk(t *testing.T, install func(*Request) *Result) string {
	t.Helper()
	const (
		lba, bootLBA = 2048, 4096
		bootSectors  = 32 << 20 / 512
	)
	r := install(&Request{
		Arch: "amd64", BootUUID: uuid, BootFS: "ext4", BootPartition: 2, SeparateBoot: true,
		BIOSBoot: true, BIOSBootLBA: lba, BIOSBootSize: 1 << 20,
	})
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	f, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate((bootLBA + bootSectors + 2048) * 512); err != nil {
		t.Fatal(err)
	}
	run(t, fmt.Sprintf("label: gpt\nstart=%d, size=2048, type=21686148-6449-6E6F-744E-656564454649\nstart=%d, size=%d\n", lba, bootLBA, bootSectors),
		tool(t, "sfdisk", "fdisk"), "-q", disk)
	write(t, r.Boot, filepath.Join(dir, "boot"))
	run(t, "", tool(t, "mke2fs", "e2fsprogs"), "-q", "-t", "ext4", "-U", uuid, "-d", filepath.Join(dir, "boot"),
		"-E", fmt.Sprintf("offset=%d", bootLBA*512), disk, fmt.Sprintf("%dk", bootSectors/2))
	for _, w := range []struct {
		b   []byte
		off int64
	}{{r.BootCode, 0}, {r.Core, lba * 512}} {
		if _, err := f.WriteAt(w.b, w.off); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// boot starts a disk under SeaBIOS and returns what it prints up to the line
// that contains want, which it must do within five minutes: beside other emulated
// machines it is slow.
func boot(t *testing.T, disk, want string) string {
	t.Helper()
	c := exec.Command(tool(t, "qemu-system-x86_64", "qemu-system-x86"),
		"-machine", "pc,graphics=off,accel=tcg", "-m", "128", "-nodefaults", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-drive", "format=raw,if=ide,snapshot=on,file="+disk)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(5*time.Minute, func() { c.Process.Kill() })
	defer c.Wait()
	defer c.Process.Kill()
	defer timer.Stop()
	var seen strings.Builder
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		seen.WriteString(line)
		if strings.Contains(line, want) {
			return seen.String()
		}
		if errors.Is(err, io.EOF) {
			t.Fatalf("no %q in\n%q", want, seen.String())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// bootImage is an image whose configuration reports what GRUB found.
func bootImage(t *testing.T) fileSet {
	return hostGRUB(t).with(fileSet{
		"usr/lib/bootupd/updates/BIOS.json":   biosJSON,
		staticDir + "grub-static-pre.cfg":     "source ${config_directory}/bootuuid.cfg\nsearch --no-floppy --fs-uuid \"${BOOT_UUID}\" --set root\nload_env\n",
		staticDir + "configs.d/10_report.cfg": "serial --unit=0\nterminal_output serial\necho \"prefix=$prefix\"\necho \"root=$root\"\necho \"uuid=$BOOT_UUID.\"\n",
	})
}

// TestBootBIOS boots a disk from our core image: boot.img finds it, it unpacks
// itself, reads /boot, loads modules from there and runs grub.cfg.
func TestBootBIOS(t *testing.T) {
	disk := biosDisk(t, func(r *Request) *Result {
		r.OS = bootImage(t).tree(t)
		result, err := Install(r)
		if err != nil {
			t.Fatal(err)
		}
		return result
	})
	start := time.Now()
	out := boot(t, disk, "uuid=")
	t.Logf("booted in %v", time.Since(start))
	for _, want := range []string{"prefix=(hd0,gpt2)/grub2", "root=hd0,gpt2", "uuid=" + uuid + "."} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%q", want, out)
		}
	}
}

// TestAddresses looks at what leads from one part of the boot path to the next.
func TestAddresses(t *testing.T) {
	image := bootImage(t).tree(t)
	r, err := Install(&Request{
		OS: image, Arch: "amd64", BootUUID: uuid, BootFS: "ext4", BootPartition: 2, SeparateBoot: true, BIOSBoot: true, BIOSBootLBA: 2048,
	})
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if got, want := int(le.Uint16(r.Core[508:])), len(r.Core)/512-1; got != want {
		t.Errorf("block list of %d sectors, the core image has %d behind the first", got, want)
	}
	if got := le.Uint64(r.BootCode[0x5c:]); got != 2048 {
		t.Errorf("boot code loads sector %d", got)
	}
}
