package output

import (
	"os"

	"golang.org/x/sys/windows"
)

// makeSparse sets the sparse attribute: NTFS keeps holes only in files that
// have it.
func makeSparse(f *os.File) {
	var n uint32
	_ = windows.DeviceIoControl(windows.Handle(f.Fd()), windows.FSCTL_SET_SPARSE, nil, 0, nil, 0, &n, nil)
}
