package blockdev

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/fault"
)

func TestFileAsDisk(t *testing.T) {
	name := sparse(t, 64<<20)
	if err := os.WriteFile(name, bytes.Repeat([]byte{0xa5}, 64<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := File(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	want := bytes.Repeat([]byte{0xa5}, 64<<20)
	for i, off := range []int64{0, 512, 9 << 20, 64<<20 - 4096} {
		b := bytes.Repeat([]byte{byte(i)}, 4096)
		copy(want[off:], b)
		if _, err := v.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range [][2]int64{{20 << 20, 30 << 20}, {5<<20 + 512, 1024}} {
		clear(want[r[0] : r[0]+r[1]])
		if err := v.Zero(r[0], r[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file differs, %v", err)
	}
	if v.SectorSize() != 512 || v.Size() != 64<<20 || v.Path() != name {
		t.Errorf("%+v", v)
	}
}

func TestOpenErrors(t *testing.T) {
	name := sparse(t, 1<<20)
	d, err := File(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 2<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(d); err == nil || !strings.Contains(err.Error(), "has 2097152 bytes, and had 1048576") {
		t.Errorf("exchanged: %v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	_, err = Open(d)
	if fault.ClassOf(err) != fault.Device || strings.Count(err.Error(), name) != 1 {
		t.Errorf("gone: %v", err)
	}
	if _, err := File(filepath.Dir(name)); fault.ClassOf(err) != fault.Device {
		t.Errorf("directory: %v", err)
	}
	if _, err := (Host{Sys: t.TempDir(), Dev: filepath.Dir(name), Proc: t.TempDir()}).Find(name); fault.ClassOf(err) != fault.Device {
		t.Errorf("no disk: %v", err)
	}
}
