//go:build !linux

package diskfile

import "os"

// NextData returns all of the file from off on: encoders find the zeros in it.
func NextData(_ *os.File, off, size int64) (start, end int64) { return off, size }
