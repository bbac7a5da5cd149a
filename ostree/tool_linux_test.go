package ostree

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func setxattr(path, name, value string) error { return unix.Lsetxattr(path, name, []byte(value), 0) }

func linkCount(info fs.FileInfo) uint64 { return uint64(info.Sys().(*syscall.Stat_t).Nlink) }

// The real tool's directories are those of an installer run by root.
func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

func getxattr(t testing.TB, path, name string) []byte {
	t.Helper()
	b := make([]byte, 1<<16)
	n, err := unix.Lgetxattr(path, name, b)
	if err != nil {
		t.Fatalf("%s of %s: %v", name, path, err)
	}
	return b[:n]
}
