// Package timing has limits of time for tests that hold on a busy machine, too.
package timing

import (
	"testing"
	"time"
)

// tries is how often a test may be kept waiting by what else the machine does.
const tries = 5

// Within calls try until it returns no more than limit, and fails the test when it does
// not do so in five tries. What is slow is slow each time; a machine that has other work
// for seconds is not.
func Within(t testing.TB, limit time.Duration, try func() time.Duration) {
	t.Helper()
	var took []time.Duration
	for range tries {
		d := try()
		if d <= limit {
			return
		}
		took = append(took, d)
	}
	t.Errorf("took %v, and never %v or less", took, limit)
}
