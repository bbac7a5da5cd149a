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
