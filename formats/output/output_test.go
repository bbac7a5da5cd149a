package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"imgbuild/fault"
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
	ctx, cancel := context.WithCancel(t.Context())
	start := time.Now()
	err := Run(ctx, slots(4), Stages[*slot]{
		Fill: func(*slot) bool { return true }, // without end
		Work: func(int, *slot) error { time.Sleep(time.Millisecond); return nil },
		Emit: func(s *slot) error { cancel(); return nil },
	})
	if err != context.Canceled || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines are left", n-before)
	}
	err = Run(ctx, slots(4), Stages[*slot]{
		Fill: func(*slot) bool { t.Error("filled though cancelled"); return false },
	})
	if err != context.Canceled {
		t.Errorf("cancelled before: %v", err)
	}
}

func TestIsZero(t *testing.T) {
	for _, n := range []int{0, 1, 511, 4096, len(zeros) - 1, len(zeros), len(zeros) + 1, 3*len(zeros) + 5} {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Errorf("%d zeros are not zero", n)
		}
		for _, i := range []int{0, n / 2, n - 2, n - 1} {
			if i < 0 || i >= n {
				continue
			}
			b[i] = 1
			if IsZero(b) {
				t.Errorf("byte %d of %d is missed", i, n)
			}
			b[i] = 0
		}
	}
}

func create(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestFile writes many windows, the first bytes last, as qcow2 does.
func TestFile(t *testing.T) {
	f := create(t)
	w := NewFile(f)
	const n = 20*window + 12345
	if err := w.Extend(n + 99); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, n+99)
	for i := 1; i < n; i += 7 {
		want[i] = byte(i)
	}
	for pos := 4096; pos < n; pos += 1 << 20 {
		if _, err := w.WriteAt(want[pos:min(pos+1<<20, n)], int64(pos)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.WriteAt(want[:4096], 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	w.Stop()
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("content differs")
	}
}

func TestFileErrors(t *testing.T) {
	f := create(t)
	w := NewFile(f)
	defer w.Stop()
	f.Close()
	for name, err := range map[string]error{
		"extend": w.Extend(10),
		"write":  second(w.WriteAt([]byte("x"), 0)),
		"sync":   w.Sync(),
	} {
		if !errors.Is(err, os.ErrClosed) || fault.ClassOf(err) != fault.Output {
			t.Errorf("%s: %v, class %d", name, err, fault.ClassOf(err))
		}
	}
}

func second(_ int, err error) error { return err }
