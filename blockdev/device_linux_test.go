package blockdev

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/fault"
)

// The errors of the kernel become one line about the disk.
func TestFail(t *testing.T) {
	v := &Device{path: "/dev/sdx"}
	for errno, want := range map[error][2]string{
		unix.EIO:    {"/dev/sdx: write at 4096: input/output error", "the kernel's log"},
		unix.ENXIO:  {"/dev/sdx: write at 4096: the disk is gone: no such device or address", ""},
		unix.ENODEV: {"/dev/sdx: write at 4096: the disk is gone: no such device", ""},
		unix.EACCES: {"/dev/sdx: write at 4096: permission denied", "rights of root"},
	} {
		err := v.fail("write at 4096", &os.PathError{Op: "write", Path: "/dev/sdx", Err: errno})
		if err.Error() != want[0] {
			t.Errorf("%v: %v", errno, err)
		}
		if fault.ClassOf(err) != fault.Device || !strings.Contains(fault.HintOf(err), want[1]) {
			t.Errorf("%v: class %d, hint %q", errno, fault.ClassOf(err), fault.HintOf(err))
		}
	}
}
