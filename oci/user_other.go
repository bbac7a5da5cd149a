//go:build !unix

package oci

// isRoot is false where there is no root.
func isRoot() bool { return false }
