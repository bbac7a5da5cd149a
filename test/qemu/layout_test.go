package qemu

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bootsLayout builds an image with a layout, boots it, and returns what it says
// of itself and the log of its console.
func bootsLayout(t *testing.T, layout, yaml string, o Options, args ...string) (Marker, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.yaml")
	if err := os.WriteFile(name, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := built(t, layout, append([]string{"--type", "qcow2", "--qcow2-compression", "none", "--layout", name}, args...)...)
	o.LogPath = filepath.Join(t.TempDir(), "serial.log")
	m, err := Boot(context.Background(), filepath.Join(dir, "qcow2/disk.qcow2"), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(o.Firmware); err != nil {
		t.Errorf("%v\n%s\n%s", err, m.Line, strings.Join(m.Notes, "\n"))
	}
	t.Log(m.Line)
	log, err := os.ReadFile(o.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	return m, string(log)
}

// expect looks for what the kernel or a program says.
func expect(t *testing.T, log string, want ...string) {
	t.Helper()
	said := string(lines([]byte(log)))
	for _, w := range want {
		if !strings.Contains(log, w) && !strings.Contains(said, w) {
			t.Errorf("%q is not in the log of the console", w)
		}
	}
}

const (
	layoutESP = "    - {size: 300 MiB, type: c12a7328-f81f-11d2-ba4b-00a0c93ec93b, payload_type: filesystem, payload: {type: vfat, mountpoint: /boot/efi, label: ESP, fstab_options: 'umask=0077,shortname=winnt'}}\n"
	layoutVar = "    - {size: 500 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /var, label: var, fstab_options: noatime}}\n"
)

// /var, /home, swap and data on partitions of their own: no unit fails.
func TestBootOwnVar(t *testing.T) {
	_, log := bootsLayout(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"),
		"partition_table:\n  partitions:\n"+layoutESP+layoutVar+`
    - {size: 512 MiB, payload_type: filesystem, payload: {type: xfs, mountpoint: /boot, label: boot, fstab_options: ro}}
    - {size: 64 MiB, payload_type: swap, payload: {label: swap}}
    - {size: 310 MiB, payload_type: filesystem, payload: {type: xfs, mountpoint: /home, label: home, mkfs_options: {agcount: 3}}}
    - {size: 40 MiB, payload_type: filesystem, payload: {type: vfat, mountpoint: /var/lib/exchange, label: DATA}}
    - {size: 8 MiB, attrs: [60, 63], payload_type: raw, payload: {source_path: /usr/lib/os-release}}
    - {payload_type: filesystem, payload: {type: ext4, mountpoint: /, label: root, fstab_options: noatime}}
`, Options{Firmware: UEFI})
	expect(t, log, "Adding 65532k swap", "Mounted \x1b[0;1;39mvar.mount", "Mounted \x1b[0;1;39mvar-home.mount",
		"Mounted \x1b[0;1;39mvar-lib-exchange.mount", "Mounted \x1b[0;1;39mboot-efi.mount")
}

// A disk with an MBR alone, mounted by fstab, starts from a BIOS. /boot is on root.
func TestBootDOS(t *testing.T) {
	_, log := bootsLayout(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"),
		"mount_configuration: fstab\npartition_table:\n  type: dos\n  partitions:\n"+layoutVar+`
    - {size: 64 MiB, payload_type: swap, payload: {fstab_options: "defaults,pri=5"}}
    - {bootable: true, payload_type: filesystem, payload: {type: ext4, mountpoint: /, label: root, fstab_options: noatime}}
`, Options{Firmware: BIOS})
	expect(t, log, "Adding 65532k swap", "Priority:5", "Mounted \x1b[0;1;39mvar.mount")
}

// A disk with sectors of 4096 bytes starts from UEFI.
func TestBootLargeSectors(t *testing.T) {
	bootsLayout(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"),
		"partition_table:\n  sector_size: 4096\n  partitions:\n"+layoutESP+`
    - {size: 310 MiB, payload_type: filesystem, payload: {type: xfs, mountpoint: /boot, label: boot}}
    - {payload_type: filesystem, payload: {type: xfs, mountpoint: /, label: root}}
`, Options{Firmware: UEFI, Sector: 4096})
}
