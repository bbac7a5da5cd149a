package fstest

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Unmount unmounts what is mounted at dir, and fails the test when it stays in use for
// a minute. For a moment it may be: by what looks at new devices, such as udev, or by a
// loop device of a file in it whose own end is not waited for.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Unmount(dir, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			t.Errorf("unmount %s: %v", dir, err)
			return
		}
	}
}
