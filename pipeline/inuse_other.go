//go:build !unix

package pipeline

import "os"

// markInUse has nothing to do: where there are no such locks, open files cannot be
// removed.
func markInUse(*os.File) bool { return true }

// holdLock has nothing to hold.
func holdLock(*os.File) (release func()) { return func() {} }

// markDirInUse takes no lock: an open directory could not be renamed.
func markDirInUse(string) (*os.File, bool) { return nil, true }

// removeAbandoned removes a temporary file that nobody writes any more, and
// reports whether it did.
func removeAbandoned(path string) bool { return os.Remove(path) == nil }
