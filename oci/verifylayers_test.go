package oci

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"imgbuild/fault"
)

// Verify finds what Unpack would find, and counts what it would write.
func TestVerifyLayers(t *testing.T) {
	dir := os.Getenv("IMGBUILD_SAMPLE")
	if dir == "" {
		dir = "../.cache/sample"
	}
	open := func(dir string) *Image {
		t.Helper()
		ref, err := ParseReference("oci:" + dir)
		if err != nil {
			t.Fatal(err)
		}
		i, err := Open(t.Context(), ref, Options{Arch: "amd64"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { i.Close() })
		return i
	}
	i := open(dir)
	last := map[int]int64{}
	plain, err := i.Verify(t.Context(), UnpackOptions{Progress: func(e Event) { last[e.Layer] = e.Done }})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := i.Unpack(t.Context(), UnpackOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for k, l := range layers {
		want += l.Size
		if last[k] != i.Layers[k].Size {
			t.Errorf("layer %d: progress ends at %d of %d", k, last[k], i.Layers[k].Size)
		}
	}
	if plain != want {
		t.Errorf("%d bytes, want %d", plain, want)
	}
	if _, err := i.Verify(t.Context(), UnpackOptions{Limits: Limits{Bytes: 1 << 20}}); fault.ClassOf(err) != fault.BadImage || fault.HintOf(err) == "" {
		t.Errorf("limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Verify(ctx, UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	broken := t.TempDir()
	if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(broken, "blobs/sha256", i.Layers[0].Digest[len("sha256:"):])
	b, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-20] ^= 1
	if err := os.Chmod(blob, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := open(broken).Verify(t.Context(), UnpackOptions{}); fault.ClassOf(err) != fault.BadImage {
		t.Errorf("damaged: %v", err)
	}
}
