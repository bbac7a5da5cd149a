package qemu

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const kickstartFile = `
network --hostname=ks.example.com
ignoredisk --only-use=vda
clearpart --all
part /boot --fstype=ext4 --size=1024
part / --fstype=ext4 --size=1024 --grow
bootloader --append="ksarg=1"
%pre --erroronfail
echo %pre ran
%end
%post --erroronfail --log=/var/log/ks.log
echo hostname: $(cat /etc/hostname)
echo made >/etc/from-post
echo made >/boot/from-post
%end
%post --nochroot
test -e /mnt/sysroot/etc/from-post && echo seen from outside
%end
poweroff --eject
`

// fileOn returns a file of an ext4 in a partition of a disk.
func fileOn(t *testing.T, disk string, partition int, name string) string {
	t.Helper()
	info, err := exec.Command("sgdisk", "-i", strconv.Itoa(partition), disk).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk: %v\n%s", err, info)
	}
	_, rest, _ := strings.Cut(string(info), "First sector: ")
	sector, err := strconv.ParseInt(strings.Fields(rest + " x")[0], 10, 64)
	if err != nil {
		t.Fatalf("%v in\n%s", err, info)
	}
	cmd := exec.Command("debugfs", "-R", "cat "+name, fmt.Sprintf("%s?offset=%d", disk, sector*512))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs: %v", err)
	}
	return string(out)
}

// A kickstart installs without a question onto the disk that it names and may erase,
// with its layout and its scripts, and ends as it says.
func TestInstallKickstart(t *testing.T) {
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	file := filepath.Join(t.TempDir(), "ks.cfg")
	if err := os.WriteFile(file, []byte(kickstartFile), 0o644); err != nil {
		t.Fatal(err)
	}
	iso, disk := installMedium(t, layout, "--kickstart", file), ""
	attempts(t, func(a *attempt) {
		disk = blank(t)
		if out, err := exec.Command("mkfs.vfat", "-n", "PHOTOS", disk).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.vfat: %v\n%s", err, out)
		}
		d := a.installer(iso, Options{Bus: CDROM, Firmware: BIOS, Targets: []Attached{{disk, Virtio, ""}}})
		d.expect(`%pre ran`)
		d.expect(`write /dev/vda`)
		d.expect(`hostname: ks.example.com`)
		d.expect(`seen from outside`)
		d.off()
	})
	// BIOS boot, EFI system partition, /boot, root: what boots is added.
	if got := fileOn(t, disk, 3, "/from-post"); got != "made\n" {
		t.Errorf("/boot/from-post: %q", got)
	}
	if got := fileOn(t, disk, 3, "/loader/entries/ostree-1.conf"); !strings.Contains(got, " ksarg=1") {
		t.Errorf("boot entry: %s", got)
	}
	if got := fileOn(t, disk, 4, "/ostree/deploy/default/var/log/ks.log"); got != "hostname: ks.example.com\n" {
		t.Errorf("log of %%post: %q", got)
	}
	boots(t, disk, BIOS)
}
