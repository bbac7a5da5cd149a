package output

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"imgbuild/fault"
)

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
