package qemu

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A root on btrfs, in a subvolume and compressed, of an image that demands
// fs-verity: the kernel measures what fsverity-utils computes.
func TestBootBtrfs(t *testing.T) {
	dir := built(t, verityImage(t), "--type", "raw", "--rootfs", "btrfs")
	m := boots(t, filepath.Join(dir, "image/disk.raw"), UEFI)
	objects := 0
	for _, note := range m.Notes {
		fmt.Sscanf(note, "verity: equal %d", &objects)
	}
	if objects < 500 {
		t.Errorf("%d files with fs-verity were measured:\n%s", objects, strings.Join(m.Notes, "\n"))
	}
}

// Subvolumes of one btrfs for root, /var and /home, compressed, start from a BIOS.
func TestBootBtrfsSubvolumes(t *testing.T) {
	_, log := bootsLayout(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"),
		"partition_table:\n  partitions:\n    - {size: 1 MiB, type: 21686148-6449-6e6f-744e-656564454649}\n"+layoutESP+`
    - {size: 512 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /boot, label: boot}}
    - {size: 64 MiB, payload_type: swap, payload: {label: swap}}
    - payload_type: btrfs
      payload:
        subvolumes:
          - {name: root, mountpoint: /, compress: "zstd:3"}
          - {name: var, mountpoint: /var, compress: "zstd:1"}
          - {name: home, mountpoint: /home}
`, Options{Firmware: BIOS})
	expect(t, log, "Adding 65532k swap", "Mounted \x1b[0;1;39mvar.mount", "Mounted \x1b[0;1;39mvar-home.mount")
}
