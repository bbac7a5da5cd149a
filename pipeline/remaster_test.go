package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/formats/iso"
	"imgbuild/installer/remaster"
	"imgbuild/tree"
)

// stopper cancels when something is under way.
type stopper struct {
	silent
	cancel func()
}

func (s stopper) Advance(int64) { s.cancel() }

// silent says nothing.
type silent struct{}

func (silent) Stage(string, int64) {}
func (silent) Advance(int64)       {}
func (silent) Note(string)         {}
func (silent) Warn(string)         {}

// A change that is cancelled leaves the medium as it was, and no other file.
func TestCustomizeISOCancelled(t *testing.T) {
	root := tree.NewDir(0o755)
	kargs, err := grub.Kargs([]string{"quiet"})
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{grub.KargsPath: kargs, "data": make([]byte, 64<<20)} {
		if err := tree.Put(root, path, tree.NewFile(0o644, content.Bytes(b))); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "x.iso")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := iso.Write(context.Background(), root, f, iso.Options{VolumeID: "X"}); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{"", filepath.Join(dir, "new", "y.iso")} {
		ctx, cancel := context.WithCancel(context.Background())
		err := CustomizeISO(ctx, name, out, &remaster.Changes{AddKargs: []string{"x"}}, stopper{cancel: cancel})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("to %q: %v", out, err)
		}
		report, err := InspectISO(context.Background(), name, true, silent{})
		if err != nil || len(report.Kargs) != 1 {
			t.Errorf("to %q: %v, %q", out, err, report.Kargs)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}
