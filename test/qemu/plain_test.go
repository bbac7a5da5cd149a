package qemu

import (
	"path/filepath"
	"testing"
)

// An image without bootupd boots: GRUB's configuration is ours then, and in the
// signed binaries it has no command for boot loader entries.
func TestBootPlain(t *testing.T) {
	dir := built(t, path(t, "IMGBUILD_SAMPLE_PLAIN", "../../.cache/sample-plain", "make sample-plain"), "--type", "raw", "--size", "min")
	for _, f := range []Firmware{BIOS, UEFI, SecureBoot} {
		t.Run(string(f), func(t *testing.T) {
			boots(t, filepath.Join(dir, "image/disk.raw"), f)
		})
	}
}
