package output

import (
	"os"
	"testing"

	"imgbuild/fault"
)

// /dev/full answers every write with ENOSPC.
func TestFileFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewFile(f)
	defer w.Stop()
	if _, err := w.WriteAt([]byte("x"), 0); fault.ClassOf(err) != fault.NoSpace {
		t.Errorf("%v, class %d", err, fault.ClassOf(err))
	}
}
