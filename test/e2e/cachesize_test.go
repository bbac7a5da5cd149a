package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
)

// A cache that may hold less than two images forgets the one that was built first,
// and neither build suffers.
func TestCacheSize(t *testing.T) {
	cache := t.TempDir()
	first, second := sample(t), need(t, "IMGBUILD_SAMPLE_PLAIN", "../../.cache/sample-plain", "make samples")
	size := func() int64 {
		r := run(t, command(t, "cache", "list", "--cache", cache, "--json"))
		var list struct {
			Bytes int64 `json:"bytes"`
		}
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
			t.Fatalf("exit %d: %v\n%s%s", r.code, err, r.stdout, r.stderr)
		}
		return list.Bytes
	}
	args := func(image string, more ...string) []string {
		return append([]string{"--type", "raw", "--cache", cache, "--target-imgref", "registry.example.com/os:1", "oci:" + image}, more...)
	}
	_, _ = build(t, args(first)...)
	one := size()
	dir, _ := build(t, args(second)...)
	both := size()
	if both <= one {
		t.Fatalf("%d bytes after one image, %d after two", one, both)
	}
	want := sum(t, filepath.Join(dir, "image/disk.raw"))

	const mib = 1 << 20
	limit := both - mib
	dir, r := build(t, args(second, "--cache-size", fmt.Sprint(limit))...)
	if got := size(); got > limit || got == 0 {
		t.Errorf("%d bytes in a cache of %d", got, limit)
	}
	if got := sum(t, filepath.Join(dir, "image/disk.raw")); got != want {
		t.Errorf("another disk with a limited cache\n%s", r.stderr)
	}
	// What was used last is still there: it needs no image any more.
	if r := run(t, command(t, "cache", "verify", "--cache", cache)); r.code != 0 {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	// The first comes back as it was.
	_, _ = build(t, args(first, "--cache-size", "0")...)
	if got := size(); got < both-mib {
		t.Errorf("%d bytes without a limit, %d before", got, both)
	}
}
