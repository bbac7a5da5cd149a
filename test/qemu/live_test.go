package qemu

import (
	"context"
	"testing"
	"time"

	"imgbuild/test/image"
)

// TestLive starts the sample image from a live medium.
func TestLive(t *testing.T) {
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample", "make sample")
	files, err := image.Live(layout)
	if err != nil {
		t.Fatal(err)
	}
	live := t.TempDir()
	if err := image.Derive(layout, live, files); err != nil {
		t.Fatal(err)
	}
	iso := built(t, live, "--type", "live-iso", "--karg", "console=ttyS0", "--karg", image.LiveArg, "--karg-delete", "quiet") + "/bootiso/install.iso"
	start := time.Now()
	m, err := Boot(context.Background(), iso, Options{Firmware: UEFI})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s, %s", time.Since(start).Seconds(), m.Line)
	if m.Deployment != "none" || !m.Features || m.FailedUnits != 0 || m.Firmware != "uefi" {
		t.Errorf("%s\n%q", m.Line, m.Notes)
	}
}
