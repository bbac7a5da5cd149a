//go:build !linux

package e2e

import "os"

// maxRSS is measured on Linux only.
func maxRSS(*os.ProcessState) int64 { return 0 }

// allocated is measured on Linux only.
func allocated(os.FileInfo) int64 { return 0 }
