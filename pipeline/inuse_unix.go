//go:build unix

package pipeline

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// markInUse locks a new file for as long as it is open, which tells other builds
// that it is not abandoned. It returns false when one of them has already removed
// the file. Where the file system has no locks nothing is ever removed.
func markInUse(f *os.File) bool {
	if errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return false
	}
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(opened, named)
}

// holdLock keeps the lock of a file that is about to be closed until release is
// called.
func holdLock(f *os.File) (release func()) {
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		return func() {}
	}
	unix.CloseOnExec(fd)
	return func() { _ = unix.Close(fd) }
}

// markDirInUse does for a new directory what markInUse does for a file. Closing
// what it returns gives up the lock.
func markDirInUse(path string) (*os.File, bool) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	if !markInUse(f) {
		f.Close()
		return nil, false
	}
	return f, true
}

// removeAbandoned removes a temporary file or directory that nobody writes any
// more, and reports whether it did.
func removeAbandoned(path string) bool {
	// Anything else may block when it is opened, and is none of ours.
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return false
	}
	mode := os.O_RDWR // without which NFS locks no file
	if info.IsDir() {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	// The name may have gone to another build since.
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(path)
	return err == nil && os.SameFile(opened, named) && os.RemoveAll(path) == nil
}
