//go:build unix

package oci

import "os"

// isRoot tells whether the user has the stores and files of the system.
func isRoot() bool { return os.Geteuid() == 0 }
