package qemu

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An image of another architecture than the host's boots: nothing of it was run
// to build the disk.
func TestBootArm64(t *testing.T) {
	dir := built(t, path(t, "IMGBUILD_SAMPLE_ARM64", "../../.cache/sample-arm64", "make sample-arm64"),
		"--type", "raw", "--target-arch", "arm64", "--size", "min")
	for _, f := range []Firmware{UEFI, SecureBoot} {
		t.Run(string(f), func(t *testing.T) {
			start := time.Now()
			m, err := Boot(context.Background(), filepath.Join(dir, "image/disk.raw"), Options{Arch: "arm64", Firmware: f})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Check(f); err != nil {
				t.Errorf("%v\n%s\n%s", err, m.Line, strings.Join(m.Notes, "\n"))
			}
			if !strings.HasSuffix(m.Kernel, "arm64") {
				t.Errorf("kernel %s", m.Kernel)
			}
			t.Logf("by %s: %.1f s, %s", f, time.Since(start).Seconds(), m.Line)
		})
	}
}
