//go:build linux

package installed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/fstest"
)

// A host disk that fills up, in the output or in the cache, stops the build
// with the class "no space" and leaves nothing of it.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	layout := path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")
	for _, tc := range []struct {
		name, size string
		args       func(small, large string) []string
	}{
		{"output raw", "64m", func(small, large string) []string {
			return []string{"--type", "raw", "--output", small + "/out", "--cache", large}
		}},
		{"output qcow2", "24m", func(small, large string) []string {
			return []string{"--type", "qcow2", "--output", small + "/out", "--cache", large}
		}},
		{"output of several", "64m", func(small, large string) []string {
			return []string{"--type", "qcow2", "--type", "raw", "--output", small + "/out", "--cache", large}
		}},
		{"cache", "64m", func(small, large string) []string {
			return []string{"--output", large + "/out", "--cache", small + "/cache"}
		}},
		{"temporary directory", "64m", func(small, large string) []string {
			return []string{"--output", large + "/out", "--no-cache"}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			large, small := workDir(t), t.TempDir()
			run(t, "mount", "-t", "tmpfs", "-o", "mode=777,size="+tc.size, "tmpfs", small)
			defer fstest.Unmount(t, small)
			if err := os.Chmod(filepath.Dir(small), 0o755); err != nil {
				t.Fatal(err)
			}
			dir := large
			if tc.name == "temporary directory" {
				dir = small // imgbuild gets it as TMPDIR
			}
			code, stderr := imgbuild(t, dir, append(tc.args(small, large), "oci:"+layout)...)
			if code != 7 || !strings.Contains(stderr, "no space left") || !strings.Contains(stderr, "hint: ") {
				t.Errorf("exit %d, want 7: %s", code, stderr)
			}
			for _, place := range []string{small, filepath.Join(large, "out")} {
				_ = filepath.WalkDir(place, func(path string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() && !(tc.name == "cache" && strings.Contains(path, "/cache/") && !strings.Contains(path, "part")) {
						t.Errorf("left behind: %s", path)
					}
					return nil
				})
			}
		})
	}
}
