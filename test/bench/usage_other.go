//go:build !unix

package main

import (
	"io/fs"
	"os"
)

// peakRSS is not known.
func peakRSS(*os.ProcessState) int64 { return 0 }

func allocatedSize(info fs.FileInfo) int64 { return info.Size() }
