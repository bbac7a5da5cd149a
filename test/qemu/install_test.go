package qemu

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// target is the reference that installed systems follow, so that a medium and a
// build have the same.
const installTarget = "registry.example.com/sample:1"

// diskSize is that of the disks that are installed to.
const diskSize = 4 << 30

// installMedium makes an installation medium of an image whose menu does not wait.
func installMedium(t *testing.T, layout string, args ...string) string {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte("[customizations.installer.bootloader.grub2]\nmenu-timeout = 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := built(t, layout, append([]string{"--type", "iso", "--config", config, "--target-imgref", installTarget}, args...)...)
	return filepath.Join(dir, "bootiso/install.iso")
}

// blank makes an empty disk.
func blank(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err == nil {
		err = f.Truncate(diskSize)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// Somebody at the serial console installs from a CD by UEFI, with 1 GiB of memory. The
// disk has then, byte for byte, what a raw disk of its size has, and boots.
func TestInstallAttended(t *testing.T) {
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	iso := installMedium(t, layout)
	raw := filepath.Join(built(t, layout, "--type", "raw", "--target-imgref", installTarget, "--size", fmt.Sprintf("%d", diskSize)), "image/disk.raw")
	attempts(t, func(a *attempt) {
		disk, begun := blank(t), time.Now()
		d := a.installer(iso, Options{Bus: CDROM, Firmware: UEFI, Targets: []Attached{{disk, Virtio, "TARGET1"}}})
		d.answer(`1\) /dev/vda, .*4 GiB, serial TARGET1, virtio\n +empty\n(.|\n)*for a shell, p to power off: `, "s")
		// The screen is one of several: what is typed here is heard whatever the others
		// do, and what the shell says last is not lost with it.
		d.answer(`/ # `, "a=$(cat /proc/uptime); dd if=/dev/zero of=/dev/vda bs=1M count=256 conv=fsync; a=\"dd from ${a% *} to $(cat /proc/uptime)\"; cat /proc/iomem /proc/iomem /proc/iomem; echo $a; exit")
		dd := d.expect(`dd from \d+\.\d+ to \d+\.\d+`)
		d.answer(`p to power off: `, "1")
		d.answer(`User to create`, "")
		d.answer(`ALL DATA ON /dev/vda WILL BE ERASED. Type yes`, "no")
		d.answer(`p to power off: `, "1")
		d.answer(`User to create`, "")
		d.answer(`Type yes`, "yes")
		d.expect(`write /dev/vda`)
		writing := time.Now()
		d.expect(`Installed to /dev/vda`)
		wrote := time.Since(writing)
		d.answer(`p\) power off`, "p")
		d.off()
		t.Logf("installed %v after switching on", time.Since(begun).Round(time.Second))
		hasBootEntry(t, d.Machine, "debian", `\EFI\debian\shimx64.efi`)
		if out, err := exec.Command("du", "-m", raw).Output(); err == nil {
			t.Logf("wrote %s MiB in %v; 256 MiB by %s s", bytes.Fields(out)[0], wrote.Round(100*time.Millisecond), dd)
		}
		equalFiles(t, disk, raw)
		boots(t, disk, UEFI)
	})
}

// An unattended medium, started as a disk by a BIOS, refuses a disk that holds data,
// says so and waits; with consent it installs. NVMe, and a medium that was changed in
// place.
func TestInstallUnattended(t *testing.T) {
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	iso := installMedium(t, layout, "--iso-unattended", "--iso-target", "largest")
	disk := blank(t)
	if out, err := exec.Command("mkfs.vfat", "-n", "PHOTOS", disk).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.vfat: %v\n%s", err, out)
	}
	o := Options{Bus: Virtio, Firmware: BIOS, Targets: []Attached{{disk, NVMe, ""}}}
	attempts(t, func(a *attempt) {
		d := a.installer(iso, o)
		d.expect(`Unattended installation to largest`)
		d.expect(`The installation failed: /dev/nvme0n1: holds data: .*PHOTOS`)
		d.answer(`t\) try again  r\) reboot  p\) power off  s\) shell: `, "p")
		d.off()
	})
	bin := path(t, "IMGBUILD_BIN", "../../bin/imgbuild", "make build")
	if out, err := exec.Command(bin, "iso", "customize", iso, "--wipe", "--karg", "imgbuild.reboot=poweroff").CombinedOutput(); err != nil {
		t.Fatalf("imgbuild iso customize: %v\n%s", err, out)
	}
	attempts(t, func(a *attempt) {
		d := a.installer(iso, o)
		d.expect(`Installing to /dev/nvme0n1, .*PHOTOS`)
		d.expect(`Installed to /dev/nvme0n1`)
		d.off()
	})
	boots(t, disk, BIOS)
}

// The power fails while a disk is written: it does not boot at all, or it is complete.
func TestInstallPowerCut(t *testing.T) {
	cuts := 2 // of 20 that make soak has; each takes a start of the installer
	if text := os.Getenv("IMGBUILD_POWER_CUTS"); text != "" {
		var err error
		if cuts, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	iso := installMedium(t, layout, "--iso-unattended", "--iso-target", "smallest")
	raw := filepath.Join(built(t, layout, "--type", "raw", "--target-imgref", installTarget, "--size", fmt.Sprintf("%d", diskSize)), "image/disk.raw")
	span := 4 * time.Second
	for n := range cuts {
		disk := blank(t)
		var log []byte
		attempts(t, func(a *attempt) {
			d := a.installer(iso, Options{Bus: CDROM, Firmware: BIOS, Targets: []Attached{{disk, SATA, ""}}})
			d.expect(`write /dev/sda`)
			time.Sleep(span * time.Duration(2*n+1) / time.Duration(2*cuts))
			d.Stop()
			log = d.Log()
		})
		head := make([]byte, 1024)
		f, err := os.Open(disk)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadFull(f, head)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		table := bytes.Equal(head[510:512], []byte{0x55, 0xaa}) || bytes.HasPrefix(head[512:], []byte("EFI PART"))
		t.Logf("cut %d: table %v, log ends %q", n, table, tail(log))
		if table {
			equalFiles(t, disk, raw)
		}
		os.Remove(disk)
	}
}

// equalFiles compares two disks.
func equalFiles(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.Open(got)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const unit = 4 << 20
	x, y := make([]byte, unit), make([]byte, unit)
	for off := int64(0); ; off += unit {
		n, aerr := io.ReadFull(a, x)
		m, berr := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			at := 0
			for at < min(n, m) && x[at] == y[at] {
				at++
			}
			t.Errorf("the disks differ at %d", off+int64(at))
			return
		}
		if aerr != nil || berr != nil {
			if aerr != io.EOF && aerr != io.ErrUnexpectedEOF {
				t.Error(aerr)
			}
			return
		}
	}
}

// An image with a distribution's whole kernel, from a USB stick under Secure Boot onto a
// SATA disk beside one that holds data, and onto a USB disk. Its layers do not fit into
// the memory. IMGBUILD_FIXTURES is set where the fixtures are.
func TestInstallFull(t *testing.T) {
	fixtures := os.Getenv("IMGBUILD_FIXTURES")
	if fixtures == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	layout := filepath.Join(fixtures, "full")
	kickstart := filepath.Join(t.TempDir(), "site.ks")
	if err := os.WriteFile(kickstart, []byte("autopart\nuser --name=kicker --password=secret123 --plaintext\nreboot\n%post\necho kicked $(id -u) >/etc/from-kickstart\n%end\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	iso := installMedium(t, layout, "--kickstart", kickstart, "--karg", "console=ttyS0")
	for _, bus := range []Bus{SATA, USB} {
		t.Run(string(bus), func(t *testing.T) {
			other := blank(t)
			if err := os.Truncate(other, 12<<30); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("mkfs.vfat", "-n", "PHOTOS", other).CombinedOutput(); err != nil {
				t.Fatalf("mkfs.vfat: %v\n%s", err, out)
			}
			attempts(t, func(a *attempt) {
				disk, begun := blank(t), time.Now()
				if err := os.Truncate(disk, 12<<30); err != nil {
					t.Fatal(err)
				}
				d := a.installer(iso, Options{Bus: USB, Firmware: SecureBoot, Targets: []Attached{{other, SATA, "OTHER"}, {disk, bus, "TARGET"}}})
				d.expect(`Installing to /dev/sd[a-z], .*serial TARGET`)
				d.expect(`Installed to /dev/sd`)
				t.Logf("%s: installed %v after switching on", bus, time.Since(begun).Round(time.Second))
				d.off()
				// Also where the layers were on the target, as there is no memory for them.
				hasBootEntry(t, d.Machine, "debian", `\EFI\debian\shimx64.efi`)
				if out, err := exec.Command("blkid", "-p", "-s", "LABEL", "-o", "value", other).CombinedOutput(); err != nil || string(bytes.TrimSpace(out)) != "PHOTOS" {
					t.Errorf("the other disk: %q, %v", out, err)
				}
				d = a.start(disk, Options{Firmware: SecureBoot})
				d.expect(`FIXTURE-BOOT-OK .*\n`)
				if marker, ok, err := FindMarker(d.Log()); err != nil || !ok {
					t.Errorf("marker: %v, %v", ok, err)
				} else if err := marker.Check(SecureBoot); err != nil {
					t.Error(err)
				}
				if err := d.Send("\n"); err != nil {
					t.Fatal(err)
				}
				d.answer(`login: `, "kicker")
				d.answer(`Password: `, "secret123")
				d.answer(`\$ `, "cat /etc/from-kickstart")
				d.expect(`\nkicked 0\n`)
			})
		})
	}
}
