package qemu

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Every format of one build boots, by the firmware and on the bus that its
// machines have.
func TestBootFormats(t *testing.T) {
	dir := built(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample"), "--size", "3 GiB",
		"--type", "vmdk", "--type", "vhd", "--type", "vhdx", "--type", "gce", "--type", "containerdisk")
	unpacked := t.TempDir()
	unpack := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("tar", append([]string{"-C", unpacked}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("tar %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	unpack("-xSzf", filepath.Join(dir, "gce/image.tar.gz"))
	unpack("-xf", filepath.Join(dir, "containerdisk/image.tar"))
	layers, err := filepath.Glob(filepath.Join(unpacked, "blobs/sha256/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		// The other two blobs are documents.
		if exec.Command("tar", "-tf", layer, "disk/disk.qcow2").Run() == nil {
			unpack("-xf", layer, "disk/disk.qcow2")
		}
	}
	for _, tc := range []struct {
		name, disk, format string
		firmware           Firmware
		bus                Bus
	}{
		{"vmdk", filepath.Join(dir, "vmdk/disk.vmdk"), "vmdk", BIOS, SCSI},
		{"vhd", filepath.Join(dir, "vpc/disk.vhd"), "vpc", BIOS, SATA},
		{"vhdx", filepath.Join(dir, "vhdx/disk.vhdx"), "vhdx", SecureBoot, SCSI},
		{"gce", filepath.Join(unpacked, "disk.raw"), "raw", UEFI, SCSI},
		{"containerdisk", filepath.Join(unpacked, "disk/disk.qcow2"), "qcow2", UEFI, Virtio},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			m, err := Boot(context.Background(), tc.disk, Options{Firmware: tc.firmware, Format: tc.format, Bus: tc.bus})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Check(tc.firmware); err != nil {
				t.Errorf("%v\n%s\n%s", err, m.Line, strings.Join(m.Notes, "\n"))
			}
			t.Logf("by %s on %s: %.1f s, %s", tc.firmware, tc.bus, time.Since(start).Seconds(), m.Line)
		})
	}
}
