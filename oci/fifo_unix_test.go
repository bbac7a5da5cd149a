//go:build unix

package oci

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFIFO opens a layout that would block whoever reads it.
func TestFIFO(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "index.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"oci:" + dir, "oci-archive:" + filepath.Join(dir, "index.json")} {
		if err := openErr(t, ref, Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
