//go:build !linux

package blockdev

import "io/fs"

func deviceNumber(fs.FileInfo) (string, bool) { return "", false }
