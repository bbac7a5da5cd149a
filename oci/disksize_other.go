//go:build !unix

package oci

import "io/fs"

// diskSize returns the bytes that a file takes on disk, or its length where
// the system does not tell.
func diskSize(fi fs.FileInfo) int64 { return fi.Size() }
