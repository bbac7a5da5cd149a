package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A build that is killed leaves no file under a final name, whatever it was
// doing, and a cache that the next build uses or repairs.
func TestKilled(t *testing.T) {
	const kills = 50
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("IMGBUILD_TEST_SEED"); text != "" {
		if _, err := fmt.Sscan(text, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("IMGBUILD_TEST_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	args := []string{"--type", "qcow2", "--type", "vmdk", "oci:" + sample(t)}
	names := []string{"qcow2/disk.qcow2", "vmdk/disk.vmdk", "manifest-qcow2-vmdk.json"}
	cache, dir := t.TempDir(), t.TempDir()
	reference, cold := build(t, append([]string{"--cache", cache}, args...)...)
	_, warm := build(t, append([]string{"--cache", cache}, args...)...)
	want := map[string]string{}
	for _, name := range names {
		want[name] = sum(t, filepath.Join(reference, name))
	}

	// A build that was faster than its killer says how long builds take now: the
	// machine has other work, too.
	took := map[bool]time.Duration{true: cold.wall, false: warm.wall}
	killed := 0
	for k := 0; killed < kills; k++ {
		if k == 5*kills {
			t.Fatalf("only %d of %d builds were killed", killed, k)
		}
		fresh := k%5 == 0
		if fresh {
			cache = t.TempDir()
		}
		cmd := command(t, append([]string{"--output", dir, "--cache", cache}, args...)...)
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(random.Int64N(int64(took[fresh]))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		timer.Stop()
		switch {
		case err == nil:
			took[fresh] = min(took[fresh], time.Since(start))
		case cmd.ProcessState.ExitCode() == -1:
			killed++
		default:
			t.Fatalf("kill %d: the build failed by itself: %v", k, err)
		}
		for _, path := range files(t, dir) {
			name, _ := filepath.Rel(dir, path)
			if strings.HasSuffix(name, ".part") {
				continue
			}
			// The names are given at the very end, to complete files.
			if got := sum(t, path); got != want[name] {
				t.Fatalf("kill %d: %s is there and is not whole", k, name)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if k%5 != 4 {
			continue
		}
		again, _ := build(t, append([]string{"--cache", cache}, args...)...)
		for _, name := range names {
			if got := sum(t, filepath.Join(again, name)); got != want[name] {
				t.Fatalf("after kill %d: %s differs from a build without interruptions", k, name)
			}
		}
	}
	// What the killed builds left beside the results goes with the next one.
	if r := run(t, command(t, append([]string{"--output", dir, "--cache", cache}, args...)...)); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	if left := files(t, dir); len(left) != len(names) {
		t.Errorf("left %v", left)
	}
}

// Any number of builds may share a cache, also while it is being filled.
func TestConcurrentBuilds(t *testing.T) {
	cache := t.TempDir()
	const n = 3
	sums := make([]string, n)
	var wg sync.WaitGroup
	for k := range n {
		dir := t.TempDir()
		cmd := command(t, "--output", dir, "--cache", cache, "oci:"+sample(t))
		wg.Go(func() {
			if r := run(t, cmd); r.code != 0 {
				t.Errorf("build %d: exit %d: %s", k, r.code, r.stderr)
				return
			}
			sums[k] = sum(t, filepath.Join(dir, "qcow2/disk.qcow2"))
		})
	}
	wg.Wait()
	for k := range n {
		if sums[k] != sums[0] {
			t.Errorf("build %d differs", k)
		}
	}
	// And one directory for the results: the last one to finish wins, whole.
	dir := t.TempDir()
	for range n {
		cmd := command(t, "--output", dir, "--cache", cache, "oci:"+sample(t))
		wg.Go(func() {
			if r := run(t, cmd); r.code != 0 {
				t.Errorf("exit %d: %s", r.code, r.stderr)
			}
		})
	}
	wg.Wait()
	if got := sum(t, filepath.Join(dir, "qcow2/disk.qcow2")); got != sums[0] {
		t.Error("the disk in the shared directory differs")
	}
	if left := files(t, dir); len(left) != 2 {
		t.Errorf("left %v", left)
	}
}

// What is in the cache is checked before it is used: a damaged file is made
// again, and the disk is the same.
func TestDamagedCache(t *testing.T) {
	cache := t.TempDir()
	args := []string{"--cache", cache, "oci:" + sample(t)}
	dir, _ := build(t, args...)
	want := sum(t, filepath.Join(dir, "qcow2/disk.qcow2"))
	for _, damage := range []struct {
		name  string
		apply func(path string, b []byte) error
	}{
		{"flipped byte in the middle", func(path string, b []byte) error {
			b[len(b)/2] ^= 0x40
			return os.WriteFile(path, b, 0o644)
		}},
		{"flipped last byte", func(path string, b []byte) error {
			b[len(b)-1] ^= 1
			return os.WriteFile(path, b, 0o644)
		}},
		{"truncated", func(path string, b []byte) error { return os.Truncate(path, int64(len(b)/3)) }},
		{"empty", func(path string, b []byte) error { return os.Truncate(path, 0) }},
		{"longer", func(path string, b []byte) error { return os.WriteFile(path, append(b, 0), 0o644) }},
		{"zeros", func(path string, b []byte) error { return os.WriteFile(path, make([]byte, len(b)), 0o644) }},
		{"removed", func(path string, _ []byte) error { return os.Remove(path) }},
		{"a dangling link", func(path string, _ []byte) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Symlink("nowhere", path)
		}},
	} {
		for _, ending := range []string{".tar", ".idx"} {
			damaged := 0
			for _, path := range files(t, filepath.Join(cache, "spools")) {
				if !strings.HasSuffix(path, ending) {
					continue
				}
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage.apply(path, bytes.Clone(b)); err != nil {
					t.Fatal(err)
				}
				damaged++
			}
			if damaged == 0 {
				t.Fatalf("%s: no %s files in the cache", damage.name, ending)
			}
			dir := t.TempDir()
			if r := run(t, command(t, append([]string{"--output", dir}, args...)...)); r.code != 0 {
				t.Errorf("%s %s: exit %d: %s", damage.name, ending, r.code, r.stderr)
				continue
			}
			if got := sum(t, filepath.Join(dir, "qcow2/disk.qcow2")); got != want {
				t.Fatalf("%s %s: the disk differs", damage.name, ending)
			}
			os.RemoveAll(dir)
		}
	}
}

// A cache that cannot be written is an error with a hint, and no reason to lose
// anything.
func TestReadOnlyCache(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Fatal("root may write everywhere: run this test as an ordinary user")
	}
	cache := t.TempDir()
	args := []string{"--cache", cache, "oci:" + sample(t)}
	build(t, args...)
	var dirs []string
	for _, d := range []string{"blobs/sha256", "spools", "tmp", "blobs", "."} {
		dirs = append(dirs, filepath.Join(cache, d))
	}
	for _, d := range dirs {
		if err := os.Chmod(d, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(d, 0o755) })
	}
	// Everything is there: nothing has to be written.
	build(t, args...)
	for _, path := range files(t, filepath.Join(cache, "spools")) {
		if strings.HasSuffix(path, ".idx") {
			_ = os.Chmod(filepath.Dir(path), 0o755)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			_ = os.Chmod(filepath.Dir(path), 0o555)
		}
	}
	dir := t.TempDir()
	r := run(t, command(t, append([]string{"--output", filepath.Join(dir, "out")}, args...)...))
	failed(t, "read-only cache", r, 8, dir)
	if !strings.Contains(r.stderr, "hint: ") {
		t.Errorf("no hint: %s", r.stderr)
	}
}
