//go:build unix

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A pipe that nobody writes to is no file, and nothing to wait for.
func TestServePipe(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	done := make(chan int, 1)
	go func() {
		r := httptest.NewRecorder()
		(&fileServer{root: root, log: new(bytes.Buffer)}).ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/pipe", nil))
		done <- r.Code
	}()
	select {
	case code := <-done:
		if code != http.StatusNotFound {
			t.Errorf("status %d", code)
		}
	case <-time.After(time.Minute):
		t.Fatal("waits for the pipe")
	}
}
