//go:build !windows

package fault

import (
	"io/fs"
	"syscall"
	"testing"
)

func TestOfWriteFull(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		err := OfWrite(&fs.PathError{Op: "write", Path: "disk.raw", Err: errno})
		if ClassOf(err) != NoSpace || HintOf(err) == "" {
			t.Errorf("%v: class %d, hint %q", err, ClassOf(err), HintOf(err))
		}
	}
}
