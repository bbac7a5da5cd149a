//go:build linux

package installed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/fstest"
	"imgbuild/test/image"
)

// TestLiveLabels mounts the file system of a live medium and looks at the labels that
// its files have, each by the path that it has there.
func TestLiveLabels(t *testing.T) {
	needRoot(t)
	files, err := image.Live(path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")) // which has the same kernel
	if err != nil {
		t.Fatal(err)
	}
	dir := workDir(t)
	layout := filepath.Join(dir, "layout")
	if err := image.Derive(path(t, "IMGBUILD_SAMPLE_FEDORALIKE", "../../.cache/sample-fedoralike"), layout, files); err != nil {
		t.Fatal(err)
	}
	if code, out := imgbuild(t, dir, "--type", "live-iso", "--no-cache", "--output", dir, "oci:"+layout); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	squash, at := filepath.Join(dir, "squashfs.img"), filepath.Join(dir, "root")
	run(t, "xorriso", "-osirrox", "on", "-indev", filepath.Join(dir, "bootiso/install.iso"), "-extract", "/LiveOS/squashfs.img", squash)
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-t", "squashfs", "-o", "loop,ro", squash, at)
	defer fstest.Unmount(t, at)
	for name, want := range map[string]string{
		"":                "system_u:object_r:root_t:s0",
		"etc":             "system_u:object_r:etc_t:s0",
		"etc/passwd":      "system_u:object_r:etc_t:s0",
		"etc/shadow":      "system_u:object_r:shadow_t:s0",
		"usr/bin/busybox": "system_u:object_r:bin_t:s0",
		"var":             "system_u:object_r:var_t:s0",
		"boot":            "system_u:object_r:boot_t:s0",
	} {
		got := run(t, "getfattr", "-h", "--only-values", "--absolute-names", "-n", "security.selinux", filepath.Join(at, name))
		if strings.TrimRight(got, "\x00\n") != want {
			t.Errorf("/%s: %q, want %q", name, got, want)
		}
	}
}
