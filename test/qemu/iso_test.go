package qemu

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"imgbuild/bootloader"
	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/formats/iso"
	"imgbuild/initramfs"
	"imgbuild/test/fstest"
	"imgbuild/test/image"
	"imgbuild/tree"
)

// mediumInit runs in the initramfs of the sample image, in place of its own. It
// mounts the medium in all ways that Linux has, compares the files with what they
// should be, and says so.
const mediumInit = `#!/usr/bin/busybox sh
export PATH=/usr/bin
b=/usr/bin/busybox
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
# What the kernel says has been said; what follows has lines of its own.
echo 1 >/proc/sys/kernel/printk
cat /sys/bus/*/devices/*/modalias 2>/dev/null | sort -u | xargs modprobe -qa
modprobe -qa sd_mod sr_mod isofs nls_utf8
tries=0
while dev=; for d in /dev/sr0 /dev/vda; do [ ! -b $d ] || dev=$d; done; [ -z "$dev" ]; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { echo "MEDIUM-BOOT-BAD no medium" >/dev/console; exec sh; }
    usleep 500000
done
$b mkdir -p /m
problems=
check() {
    mount -t iso9660 -o "ro$2" "$1" /m || { problems="$problems cannot mount $1$2"; return; }
    (cd /m && $b sha256sum -c "$3" >/dev/console 2>&1) || problems="$problems content by $1$2"
    [ "$($b dd if=/m/large bs=2048 skip=2097150 count=2 2>/dev/null | $b sha256sum)" = "$(cat /seam)" ] || problems="$problems seam by $1$2"
    [ -n "$2" ] || [ "$($b readlink /m/links/up)" = ../names/upper ] || problems="$problems link by $1"
    [ -n "$2" ] || [ "$($b stat -c %a:%u:%g /m/names/owned)" = 4751:1000:70000 ] || problems="$problems mode by $1"
    $b umount /m
}
check $dev "" /sums
check $dev ,norock /sums.joliet
case $dev in /dev/vda)
    [ -b ${dev}1 ] || usleep 2000000
    check ${dev}1 "" /sums ;;
esac
firmware=bios secure=n
if [ -d /sys/firmware/efi ]; then
    firmware=uefi
    ! $b dmesg | $b grep -q 'secureboot: Secure boot enabled' || secure=y
fi
read -r cmdline </proc/cmdline
echo "MEDIUM-BOOT-${problems:+BAD$problems }OK $dev $firmware secureboot=$secure $cmdline" >/dev/console
$b poweroff -f
`

// largeSize is that of a file with two extents.
const largeSize = 4<<30 + 12345

// medium writes an ISO with the boot loaders and the kernel of the sample image.
func medium(t *testing.T, layout string) string {
	t.Helper()
	system := tree.NewDir(0o755)
	for _, dir := range []string{"usr/lib", "usr/share/grub"} {
		files, err := image.ReadDir(layout, dir)
		if err == nil {
			err = tree.Put(system, dir, files)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root := tree.NewDir(0o755)
	put := func(path string, i *tree.Inode) {
		i.Mtime = 1700000000
		if err := tree.Put(root, path, i); err != nil {
			t.Fatal(err)
		}
	}
	modules := tree.Lookup(system, "usr/lib/modules").Entries()[0].Inode
	put("images/pxeboot/vmlinuz", tree.NewFile(0o644, modules.Child("vmlinuz").Content))
	put("images/pxeboot/initrd.img", tree.NewFile(0o644, modules.Child("initramfs.img").Content))
	put("names/with a blank and more than eight and three", tree.NewFile(0o644, content.String("blank")))
	put("names/"+strings.Repeat("long", 15)+".txt", tree.NewFile(0o644, content.String("long")))
	put("names/upper", tree.NewFile(0o644, content.String("upper")))
	owned := tree.NewFile(0o4751, content.String("owned"))
	owned.UID, owned.GID = 1000, 70000
	put("names/owned", owned)
	put("links/up", tree.NewLink("../names/upper"))
	for i := range 200 {
		put(fmt.Sprintf("blobs/%060d", i), tree.NewFile(0o644, content.String(fmt.Sprint(i))))
	}
	large := fstest.Sparse(t, largeSize, content.Piece{Off: 1<<32 - 2048 - 5, Ref: content.String("the seam")}, content.Piece{Off: largeSize - 3, Ref: content.String("end")})
	put("large", tree.NewFile(0o644, large))

	r := &bootloader.MediumRequest{
		OS: system, Arch: "amd64", FATID: 0x12345678, Time: 1700000000, Kargs: []string{"from.area=1"},
		Menu: grub.MediumMenu{VolumeID: "Container-Installer-x86_64", Timeout: 1, Default: 1, Entries: []grub.MediumEntry{
			{Title: "Not this one", Kernel: "/none"},
			{Title: "Test", Submenu: "More", Kernel: "/images/pxeboot/vmlinuz", Initrd: []string{"/images/pxeboot/initrd.img", "/images/pxeboot/init.img"}, Args: []string{"console=tty0", "console=ttyS0", "from.menu=1"}},
		}},
	}
	m, err := bootloader.InstallMedium(context.Background(), root, r)
	if err != nil {
		t.Fatal(err)
	}
	put("images/pxeboot/init.img", tree.NewFile(0o644, content.Bytes(mediumInitramfs(t, root))))
	opt := iso.Options{VolumeID: r.Menu.VolumeID, Time: r.Time, Seed: []byte("seed"), ESP: m.ESP, OmitChecksum: true} // of more than 4 GiB
	if m.BIOSImage != "" {
		opt.BIOS = &iso.BIOSBoot{Path: m.BIOSImage, MBR: m.MBR}
	}
	name := filepath.Join(t.TempDir(), "medium.iso")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := iso.Write(context.Background(), root, f, opt); err != nil {
		t.Fatal(err)
	}
	return name
}

// mediumInitramfs returns an archive with the init and the checksums of what is on
// the medium but for the largest file and the boot image, which is changed there.
func mediumInitramfs(t *testing.T, root *tree.Inode) []byte {
	t.Helper()
	var sums, joliet strings.Builder
	var seam [sha256.Size]byte
	err := tree.Walk(root, func(path string, i *tree.Inode) error {
		switch {
		case !i.IsFile() || path == "/images/eltorito.img":
			return nil
		case path == "/large":
			b, err := i.Content.Slice(2097150*2048, 4096).ReadAll(4096)
			seam = sha256.Sum256(b)
			return err
		}
		h := sha256.New()
		if _, err := io.Copy(h, i.Content.Reader()); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", h.Sum(nil), path[1:])
		// Names of more than 64 characters are cut.
		if base := filepath.Base(path); len(base) <= 64 {
			fmt.Fprintf(&joliet, "%x  %s\n", h.Sum(nil), path[1:])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	archive := tree.NewDir(0o755)
	for name, text := range map[string]string{"init": mediumInit, "sums": sums.String(), "sums.joliet": joliet.String(), "seam": fmt.Sprintf("%x  -\n", seam)} {
		archive.Set(name, tree.NewFile(0o755, content.String(text)))
	}
	var b bytes.Buffer
	if err := initramfs.Write(context.Background(), &b, archive, initramfs.None); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An ISO starts from a CD and from a USB stick, by every firmware, and Linux reads
// it by Rock Ridge, by Joliet, and as a disk from its partition. The kernel of the
// sample image knows no USB: it is given the medium again, in a way that it knows.
func TestBootMedium(t *testing.T) {
	name := medium(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"))
	for _, c := range []struct {
		bus      Bus
		firmware Firmware
		want     string
	}{
		{CDROM, BIOS, "OK /dev/sr0 bios secureboot=n"},
		{USB, BIOS, "OK /dev/vda bios secureboot=n"},
		{CDROM, UEFI, "OK /dev/sr0 uefi secureboot=n"},
		{USB, UEFI, "OK /dev/vda uefi secureboot=n"},
		{USB, SecureBoot, "OK /dev/vda uefi secureboot=y"},
	} {
		t.Run(string(c.bus)+"/"+string(c.firmware), func(t *testing.T) {
			start := time.Now()
			log := filepath.Join(t.TempDir(), "log")
			o := Options{Firmware: c.firmware, Bus: c.bus, LogPath: log, Expect: regexp.MustCompile(`MEDIUM-BOOT-`)}
			if c.bus == USB {
				overlay := filepath.Join(t.TempDir(), "overlay.qcow2")
				if err := command(context.Background(), "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", name, overlay); err != nil {
					t.Fatal(err)
				}
				o.Disks = []string{overlay}
			}
			m, err := Boot(context.Background(), name, o)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(m.Line, "MEDIUM-BOOT-"+c.want) || !strings.Contains(m.Line, " from.menu=1 from.area=1") {
				b, _ := os.ReadFile(log)
				t.Errorf("%s, want %s\n%s", m.Line, c.want, tail(b))
			}
			t.Logf("%.1f s, %s", time.Since(start).Seconds(), m.Line)
		})
	}
}
