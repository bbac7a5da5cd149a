package installer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"imgbuild/content"
	"imgbuild/formats/iso"
	"imgbuild/kmod"
	"imgbuild/tree"
)

// Modules are loaded once, after what they need, also for devices that come later.
func TestColdplug(t *testing.T) {
	x, err := kmod.ParseIndex([]byte(`{"always": ["isofs"], "modules": [
		{"name": "ahci", "path": "ahci.ko", "depends": ["libahci"], "aliases": ["pci:v*bc01sc06*"]},
		{"name": "isofs", "path": "isofs.ko"},
		{"name": "libahci", "path": "libahci.ko", "depends": ["libata"]},
		{"name": "libata", "path": "libata.ko", "depends": ["scsi_mod"]},
		{"name": "scsi_mod", "path": "scsi_mod.ko"},
		{"name": "sd_mod", "path": "sd_mod.ko", "depends": ["scsi_mod"], "aliases": ["scsi:t-0x00*"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	sys := t.TempDir()
	device := func(p, alias string) {
		dir := filepath.Join(sys, "devices", p)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var loaded, warned []string
	l := newLoader(x, sys, func(e *kmod.Entry) error {
		mu.Lock()
		defer mu.Unlock()
		loaded = append(loaded, e.Path)
		if e.Name == "sd_mod" {
			return fmt.Errorf("broken")
		}
		return nil
	}, func(text string) { warned = append(warned, text) })
	l.always(context.Background())
	device("pci0", "pci:v00008086d00002922bc01sc06i01")
	device("pci1", "pci:v00008086d00002922bc01sc06i01")
	device("pci2", "pci:v0bc02sc00")
	if n := l.coldplug(context.Background()); n != 2 {
		t.Errorf("%d devices", n)
	}
	device("pci0/ata1/0:0:0:0", "scsi:t-0x00")
	if n := l.coldplug(context.Background()); n != 1 {
		t.Errorf("then %d devices", n)
	}
	if n := l.coldplug(context.Background()); n != 0 {
		t.Errorf("and %d devices", n)
	}
	want := []string{"isofs.ko", "scsi_mod.ko", "libata.ko", "libahci.ko", "ahci.ko", "sd_mod.ko"}
	if !slices.Equal(loaded, want) {
		t.Errorf("%q, want %q", loaded, want)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], "sd_mod: broken") {
		t.Errorf("%q", warned)
	}
}

// A medium is checked by the checksum that is on it.
func TestCheckMedium(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := tree.NewDir(0o755)
	if err := tree.Put(root, "a/b", tree.NewFile(0o644, content.Bytes(bytes.Repeat([]byte("text\n"), 1<<20)))); err != nil {
		t.Fatal(err)
	}
	if err := iso.Write(context.Background(), root, f, iso.Options{VolumeID: "X"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	done, total := int64(0), int64(0)
	check := func(b []byte) error {
		return checkMedium(context.Background(), bytes.NewReader(b), func(d, n int64) { done, total = d, n })
	}
	if err := check(data); err != nil || done != total || total == 0 {
		t.Errorf("%d of %d bytes, %v", done, total, err)
	}
	// As on a stick that is larger.
	if err := check(append(slices.Clone(data), make([]byte, 1<<20)...)); err != nil {
		t.Error(err)
	}
	for _, off := range []int{16*2048 + 40, len(data) / 2} {
		bad := slices.Clone(data)
		bad[off] ^= 1
		if err := check(bad); err == nil {
			t.Errorf("a flipped bit at %d: no error", off)
		}
	}
	if err := check(data[:len(data)/2]); err == nil {
		t.Error("half of it: no error")
	}
	if err := check(make([]byte, 1<<20)); err == nil {
		t.Error("zeros: no error")
	}
}
