package qemu

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A root on btrfs, in a subvolume and compressed, of an image that demands
// fs-verity: the kernel measures what fsverity-utils computes.
func TestBootBtrfs(t *testing.T) {
	dir := built(t, verityImage(t), "--type", "raw", "--rootfs", "btrfs")
	m := boots(t, filepath.Join(dir, "image/disk.raw"), UEFI, 15*time.Minute)
	objects := 0
	for _, note := range m.Notes {
		fmt.Sscanf(note, "verity: equal %d", &objects)
	}
	if objects < 500 {
		t.Errorf("%d files with fs-verity were measured:\n%s", objects, strings.Join(m.Notes, "\n"))
	}
}
