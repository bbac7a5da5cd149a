package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math"
)

// File types of st_mode.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
	modeLink = 0o120000
)

const cpioAlign = 4

// encodeCPIO returns the tree in the format "newc", magic 070701, of the
// kernel's Documentation/driver-api/early-userspace/buffer-format.rst. All
// files belong to root and have no time; there are no hard links.
func encodeCPIO(root rootfs) ([]byte, error) {
	var b bytes.Buffer
	for i, name := range root.paths() {
		n := root[name]
		mode, data := n.mode, n.data
		switch n.typ {
		case tar.TypeDir:
			mode, data = modeDir|mode, nil
		case tar.TypeReg:
			mode |= modeFile
		case tar.TypeSymlink:
			mode, data = modeLink|mode, []byte(n.link)
		default:
			return nil, fmt.Errorf("initramfs: %s: type %q", name, n.typ)
		}
		if len(data) > math.MaxUint32 {
			return nil, fmt.Errorf("initramfs: %s: %d bytes", name, len(data))
		}
		writeCPIO(&b, i+1, mode, name, data)
	}
	writeCPIO(&b, 0, 0, "TRAILER!!!", nil)
	return b.Bytes(), nil
}

// writeCPIO appends a header of 13 numbers in hexadecimal, the name and the
// data, both padded.
func writeCPIO(b *bytes.Buffer, inode int, mode uint32, name string, data []byte) {
	const uid, gid, links, mtime, major, minor, rmajor, rminor, check = 0, 0, 1, 0, 0, 0, 0, 0, 0
	fmt.Fprintf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		inode, mode, uid, gid, links, mtime, len(data), major, minor, rmajor, rminor, len(name)+1, check, name)
	pad(b)
	b.Write(data)
	pad(b)
}

func pad(b *bytes.Buffer) {
	for b.Len()%cpioAlign != 0 {
		b.WriteByte(0)
	}
}
