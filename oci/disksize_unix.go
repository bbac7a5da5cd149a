//go:build unix

package oci

import (
	"io/fs"
	"syscall"
)

// diskSize returns the bytes that a file takes on disk.
func diskSize(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return fi.Size()
}
