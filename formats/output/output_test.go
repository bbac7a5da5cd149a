package output

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
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

func TestSHA256(t *testing.T) {
	f := create(t)
	b := bytes.Repeat([]byte("all work and no play"), 100_000)
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int{{0, len(b)}, {7, len(b) - 7}, {1000, 0}, {13, writeUnit}, {len(b) - 1, 1}} {
		want := sha256.Sum256(b[r[0] : r[0]+r[1]])
		if got, err := SHA256(t.Context(), f, int64(r[0]), int64(r[1])); err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("%d bytes from %d on: %x, %v", r[1], r[0], got, err)
		}
	}
	if _, err := SHA256(t.Context(), f, 1, int64(len(b))); !errors.Is(err, io.ErrUnexpectedEOF) || fault.ClassOf(err) != fault.Output {
		t.Errorf("behind the end: %v, class %d", err, fault.ClassOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := SHA256(ctx, f, 0, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
