// Package mount has the kernel mount file systems that imgbuild wrote, and
// compares every attribute of what it finds with the tree they were made of.
//
// Its tests need root, a loop device and Linux; they fail without.
package mount
