package diskfile

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// NextData returns the first range of the file from off on that is no hole. The
// position of the file moves, but nobody uses it.
func NextData(f *os.File, off, size int64) (start, end int64) {
	start, end = off, size
	conn, err := f.SyscallConn()
	if err != nil {
		return start, end
	}
	_ = conn.Control(func(fd uintptr) {
		data, err := unix.Seek(int(fd), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			start = size // nothing but a hole
			return
		}
		if err != nil {
			return // a device, or a file system that does not know
		}
		start = data
		if hole, err := unix.Seek(int(fd), data, unix.SEEK_HOLE); err == nil {
			end = hole
		}
	})
	return start, end
}
