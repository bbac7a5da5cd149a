//go:build unix

package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// What a killed build left is removed by the next one; what a running build is
// writing is not.
func TestAbandonedParts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	abandoned := filepath.Join(dir, ".disk.raw.0.part")
	if err := os.WriteFile(abandoned, []byte("half a disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	first, err := createArtefact(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(abandoned); err != nil || info.Size() != 0 || first.temp != abandoned {
		t.Errorf("the abandoned file is still there: %v, %v; %s", info, err, first.temp)
	}
	second, err := createArtefact(path)
	if err != nil {
		t.Fatal(err)
	}
	if second.temp == first.temp {
		t.Fatal("two builds write one file")
	}
	first.discard()
	second.discard()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// The same holds for directories.
func TestAbandonedDirectories(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	abandoned := filepath.Join(dir, ".image.0.part")
	if err := os.MkdirAll(filepath.Join(abandoned, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	first, err := createLayout(path)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(abandoned); err != nil || len(list) != 0 || first.temp != abandoned {
		t.Errorf("the abandoned directory still has %v, %v; %s", list, err, first.temp)
	}
	second, err := createLayout(path)
	if err != nil {
		t.Fatal(err)
	}
	if second.temp == first.temp {
		t.Fatal("two builds write one directory")
	}
	if err := commit([]*artefact{second}, nil); err != nil {
		t.Fatal(err)
	}
	first.discard()
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "image" {
		t.Errorf("left %v", left)
	}
}

// Builds that start at the same moment get files of their own.
func TestSimultaneousParts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(filepath.Join(dir, ".disk.raw.0.part"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const n = 32
	all := make([]*artefact, n)
	var wg sync.WaitGroup
	for k := range n {
		wg.Go(func() {
			a, err := createArtefact(path)
			if err != nil {
				t.Error(err)
				return
			}
			all[k] = a
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, a := range all {
		if a == nil {
			continue
		}
		if _, err := os.Stat(a.temp); err != nil || seen[a.temp] || !strings.HasSuffix(a.temp, ".part") {
			t.Errorf("%s: %v, seen before %v", a.temp, err, seen[a.temp])
		}
		seen[a.temp] = true
	}
	for _, a := range all {
		if a != nil {
			a.discard()
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// When the last of several files cannot have its name, the others give theirs
// back to what had them before.
func TestCommitTogether(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"old": "mine", "blocked": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var all []*artefact
	for _, name := range []string{"new", "old", "blocked"} {
		a, err := createArtefact(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.file.WriteString("of the build"); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	// A directory in the way is what no rename gets over.
	if err := os.Remove(filepath.Join(dir, "blocked")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "blocked", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := commit(all, nil); err == nil {
		t.Fatal("no error")
	}
	for _, a := range all {
		a.discard()
	}
	if b, err := os.ReadFile(filepath.Join(dir, "old")); err != nil || string(b) != "mine" {
		t.Errorf("the older file has %q, %v", b, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left %v", left)
	}
	if err := os.RemoveAll(filepath.Join(dir, "blocked")); err != nil {
		t.Fatal(err)
	}
	a, err := createArtefact(filepath.Join(dir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	if err := commit([]*artefact{a}, nil); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}
