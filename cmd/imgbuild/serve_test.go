package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/fault"
)

// TestServe asks for files, parts of them and what is not to be had.
func TestServe(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o644),
		os.WriteFile(filepath.Join(dir, "boot.ipxe"), []byte("#!ipxe\n"), 0o644), os.WriteFile(filepath.Join(dir, "sub/x y"), []byte("0123456789"), 0o644),
		os.Symlink("../secret", filepath.Join(dir, "link")), os.Symlink("boot.ipxe", filepath.Join(dir, "inside")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var log bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- serve(ctx, "127.0.0.1:0", dir, in, &log) }()
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(string(line[:n]))
	for _, c := range []struct {
		method, path, part string
		status             int
		want               string
	}{
		{"GET", "boot.ipxe", "", 200, "#!ipxe\n"},
		{"GET", "inside", "", 200, "#!ipxe\n"},
		{"HEAD", "boot.ipxe", "", 200, ""},
		{"GET", "sub/x%20y", "bytes=2-4", 206, "234"},
		{"GET", "sub/x%20y", "bytes=7-", 206, "789"},
		{"GET", "sub/x%20y", "bytes=20-", 416, "invalid range: failed to overlap\n"},
		{"GET", "", "", 200, "boot.ipxe\ninside\nlink\nsub\n"},
		{"GET", "link", "", 404, "no such file\n"},
		{"GET", "../secret", "", 404, "no such file\n"},
		{"GET", "%2e%2e/secret", "", 404, "no such file\n"},
		{"GET", "a%00b", "", 404, "no such file\n"},
		{"POST", "boot.ipxe", "", 405, "only GET and HEAD\n"},
	} {
		r, err := http.NewRequestWithContext(ctx, c.method, url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.part != "" {
			r.Header.Set("Range", c.part)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != c.status || string(body) != c.want {
			t.Errorf("%s %s %s: %d %q, %v; want %d %q", c.method, c.path, c.part, answer.StatusCode, body, err, c.status, c.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "127.0.0.1 GET \"/sub/x y\" 206 3\n") {
		t.Errorf("log:\n%s", log.String())
	}
	for name, err := range map[string]error{
		"no directory": serve(t.Context(), "127.0.0.1:0", filepath.Join(top, "none"), io.Discard, io.Discard),
		"address":      serve(t.Context(), "256.0.0.1:0", dir, io.Discard, io.Discard),
	} {
		if fault.ClassOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
