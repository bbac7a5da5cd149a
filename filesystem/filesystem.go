// Package filesystem holds what the file system writers below it share.
//
// A writer is a function of a tree, a size in bytes and options that are all
// values: it returns the extents of a finished, clean file system, relative to
// its first byte, or an error that names the path it concerns. Equal arguments
// give equal bytes.
package filesystem

import "fmt"

// TooSmallError says that a tree does not fit a file system of Size bytes, and
// that Need bytes would do.
type TooSmallError struct{ Size, Need int64 }

func (e *TooSmallError) Error() string {
	return fmt.Sprintf("the content needs a file system of %d bytes, and %d are given", e.Need, e.Size)
}
