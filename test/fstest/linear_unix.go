//go:build unix

package fstest

import (
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"imgbuild/disk"
	"imgbuild/tree"
)

// Linear measures a writer with 10,000 and 100,000 files, of which one may not
// cost more among many, and with what the result keeps in memory. The machine may
// be busy, so the time of the processor counts, without that of the garbage
// collector, and the best of several runs.
func Linear(t *testing.T, write func(root *tree.Inode) ([]disk.Extent, error)) {
	small, large := Objects(10_000), Objects(100_000)
	run := func(root *tree.Inode) (time.Duration, []disk.Extent) {
		runtime.GC()
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		start := cpuTime(t)
		extents, err := write(root)
		if err != nil {
			t.Fatal(err)
		}
		return cpuTime(t) - start, extents
	}
	a, b := time.Hour, time.Hour
	ratio := 0.0
	for i := range 12 {
		d, _ := run(small)
		a = min(a, d)
		d, _ = run(large)
		b = min(b, d)
		if ratio = float64(b) / float64(a) / 10; i > 1 && ratio < 2 {
			break
		}
	}
	t.Logf("10,000 files: %v; 100,000 files: %v; ratio per file %.2f", a, b, ratio)
	if ratio > 2 {
		t.Errorf("a file costs %.1f times as much among ten times as many", ratio)
	}

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, extents := run(large)
	runtime.GC()
	runtime.ReadMemStats(&after)
	kept := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / MiB
	t.Logf("100,000 files: %d MiB allocated, %d MiB kept in %d extents", (after.TotalAlloc-before.TotalAlloc)/MiB, kept, len(extents))
	if kept > 80 {
		t.Errorf("%d MiB kept", kept)
	}
	runtime.KeepAlive(extents)
	runtime.KeepAlive(large)
}

// cpuTime returns the time that the process has used so far.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
