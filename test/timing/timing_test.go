package timing

import (
	"testing"
	"time"
)

// failing notes whether a test would have failed.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.failed = true }

func TestWithin(t *testing.T) {
	for quick, want := range map[int]bool{1: false, 2: false, 5: false, 6: true} {
		f, calls := &failing{TB: t}, 0
		Within(f, time.Second, func() time.Duration {
			if calls++; calls == quick {
				return time.Second
			}
			return time.Second + 1
		})
		if f.failed != want || calls != min(quick, tries) {
			t.Errorf("quick at try %d: failed %v after %d", quick, f.failed, calls)
		}
	}
}
