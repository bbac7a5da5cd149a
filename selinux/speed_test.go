package selinux

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"imgbuild/test/timing"
	"imgbuild/tree"
)

// systemPaths returns n paths as they are in an image: most of them below /usr,
// in directories with many files.
func systemPaths(n int) []string {
	dirs := []string{"/usr/lib/python3.13/site-packages/pkg%d", "/usr/share/locale/x%d/LC_MESSAGES", "/usr/share/doc/package%d",
		"/usr/lib/modules/6.19.0-200.fc44.x86_64/kernel/drivers/net/d%d", "/usr/lib64/gconv%d", "/usr/bin/%d", "/usr/lib/systemd/system/%d",
		"/usr/share/zoneinfo/Area%d", "/usr/lib/firmware/vendor%d/chip", "/usr/etc/app%d.d", "/var/lib/rpm%d", "/usr/share/man/man%d",
		"/usr/lib/.build-id/%02x", "/usr/lib64/libexample%d.so", "/usr/share/selinux/targeted/m%d", "/etc/ssl/certs%d", "/usr/libexec/app%d"}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = fmt.Sprintf(dirs[i%len(dirs)]+"/file%d.suffix", i%300, i)
	}
	return paths
}

// A large image has 150,000 paths, and labelling them has to be fast beside
// reading them: some 10 s.
func TestSpeed(t *testing.T) {
	const n = 150_000
	file := policyFile(t, "default")
	paths := systemPaths(n)
	timing.Within(t, 2*time.Second, func() time.Duration {
		load, took := speed(t, file, paths)
		return max(2*load, took) // loading has half of the limit
	})
}

// speed measures loading a policy and looking the paths up in it.
func speed(t *testing.T, file string, paths []string) (load, took time.Duration) {
	t.Helper()
	var before, after runtime.MemStats
	root := policyTree(t, file, "default")
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	p, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	load = time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	start = time.Now()
	for _, path := range paths {
		if _, ok := p.Lookup(path, tree.TypeFile); !ok {
			t.Fatalf("%s has no label", path)
		}
	}
	took = time.Since(start)
	n := len(paths)
	t.Logf("load %v, %d KiB; %d look-ups %v, %v each", load, (int64(after.HeapAlloc)-int64(before.HeapAlloc))/1024, n, took, took/time.Duration(n))
	runtime.KeepAlive(p)
	return load, took
}

func BenchmarkLoad(b *testing.B) {
	root := policyTree(b, policyFile(b, "default"), "default")
	for b.Loop() {
		if _, err := Load(root); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	p := loadFile(b, policyFile(b, "default"), "default")
	paths := systemPaths(20_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.Lookup(paths[i%len(paths)], tree.TypeFile)
	}
}
