package ordered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"imgbuild/test/timing"
)

type slot struct{ item, result int }

func slots(n int) (s []*slot) {
	for range n {
		s = append(s, &slot{})
	}
	return s
}

// count fills slots with the numbers from 0 up to n.
func count(n int) func(*slot) bool {
	next := 0
	return func(s *slot) bool {
		if next == n {
			return false
		}
		s.item = next
		next++
		return true
	}
}

func TestRunKeepsOrder(t *testing.T) {
	for _, c := range []struct{ items, slots int }{{0, 1}, {1, 1}, {1, 8}, {100, 1}, {100, 3}, {1000, 16}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			var got []int
			var busy [64]atomic.Bool
			err := Run(t.Context(), slots(c.slots), Stages[*slot]{
				Fill: count(c.items),
				Work: func(worker int, s *slot) error {
					if worker >= Workers(c.slots) || busy[worker].Swap(true) {
						t.Errorf("worker %d is not alone", worker)
					}
					defer busy[worker].Store(false)
					time.Sleep(time.Duration(rand.IntN(50)) * time.Microsecond)
					s.result = 10 * s.item
					return nil
				},
				Emit: func(s *slot) error { got = append(got, s.result); return nil },
			})
			if err != nil || len(got) != c.items {
				t.Fatalf("%d results, %v", len(got), err)
			}
			for i, v := range got {
				if v != 10*i {
					t.Fatalf("result %d is %d", i, v)
				}
			}
		})
	}
}

func TestRunFirstErrorInOrder(t *testing.T) {
	for range 50 {
		emitted := 0
		err := Run(t.Context(), slots(8), Stages[*slot]{
			Fill: count(1000),
			Work: func(_ int, s *slot) error {
				if s.item == 20 {
					time.Sleep(200 * time.Microsecond) // later ones fail first
				}
				if s.item >= 20 {
					return fmt.Errorf("item %d", s.item)
				}
				return nil
			},
			Emit: func(s *slot) error { emitted++; return nil },
		})
		if err == nil || err.Error() != "item 20" || emitted != 20 {
			t.Fatalf("%v after %d items", err, emitted)
		}
	}
}

func TestRunEmitError(t *testing.T) {
	want := errors.New("full")
	err := Run(t.Context(), slots(4), Stages[*slot]{
		Fill: count(1000),
		Work: func(int, *slot) error { return nil },
		Emit: func(s *slot) error {
			if s.item == 7 {
				return want
			}
			return nil
		},
	})
	if err != want {
		t.Errorf("error %v", err)
	}
}

func TestRunCancelled(t *testing.T) {
	before := runtime.NumGoroutine()
	timing.Within(t, time.Second, func() time.Duration {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		err := Run(ctx, slots(4), Stages[*slot]{
			Fill: func(*slot) bool { return true }, // without end
			Work: func(int, *slot) error { time.Sleep(time.Millisecond); return nil },
			Emit: func(s *slot) error { cancel(); return nil },
		})
		if err != context.Canceled {
			t.Error(err)
		}
		return time.Since(start)
	})
	// What a finished goroutine still has to do after its last line.
	for start := time.Now(); runtime.NumGoroutine() > before && time.Since(start) < 20*time.Second; {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines are left", n-before)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, slots(4), Stages[*slot]{
		Fill: func(*slot) bool { t.Error("filled though cancelled"); return false },
	})
	if err != context.Canceled {
		t.Errorf("cancelled before: %v", err)
	}
}
