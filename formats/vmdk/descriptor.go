package vmdk

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"imgbuild/formats/input"
)

// isDescriptor tells whether a file that begins with b is a descriptor.
func isDescriptor(b []byte) bool {
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		return bytes.EqualFold(line, []byte("# Disk DescriptorFile"))
	}
	return false
}

// described is what a descriptor says.
type described struct {
	kind    string // createType
	extents []extent
}

// extent is a part of a disk, in a file.
type extent struct {
	access  string // RW, RDONLY or NOACCESS
	sectors int64
	kind    string // FLAT, SPARSE, ZERO …
	name    string // of the file
	offset  int64  // in it, in sectors
}

// maxExtents bounds the files of a disk: 8 TiB in files of 2 GiB. All of them are
// open at once.
const maxExtents = 4096

// noParent is the parent CID of a disk without one.
const noParent = "ffffffff"

var (
	reSetting = regexp.MustCompile(`^(\w+)\s*=\s*"?([^"]*)"?$`)
	reExtent  = regexp.MustCompile(`^(RW|RDONLY|NOACCESS)\s+(\d+)\s+([A-Z0-9]+)(?:\s+"([^"]*)"(?:\s+(\d+))?(?:\s.*)?)?$`)
)

// parseDescriptor reads a descriptor, which NULs may follow.
func parseDescriptor(b []byte) (*described, error) {
	b, _, _ = bytes.Cut(b, []byte{0})
	d := &described{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if m := reExtent.FindStringSubmatch(line); m != nil {
			e := extent{access: m[1], kind: m[3], name: m[4]}
			var err error
			if e.sectors, err = strconv.ParseInt(m[2], 10, 54); err != nil || e.sectors < 0 {
				return nil, input.Bad("descriptor: extent %.200q", line)
			}
			if m[5] != "" {
				if e.offset, err = strconv.ParseInt(m[5], 10, 54); err != nil {
					return nil, input.Bad("descriptor: extent %.200q", line)
				}
			}
			if d.extents = append(d.extents, e); len(d.extents) > maxExtents {
				return nil, input.Unsupported("", "a disk of more than %d files", maxExtents)
			}
			continue
		}
		m := reSetting.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		switch strings.ToLower(m[1]) {
		case "createtype":
			d.kind = m[2]
		case "parentcid":
			if !strings.EqualFold(strings.TrimSpace(m[2]), noParent) {
				return nil, input.Unsupported("put both into one file with vmware-vdiskmanager or qemu-img convert", "a disk with a parent, which is not opened")
			}
		}
	}
	return d, nil
}

// openDescriptor opens the files of a disk.
func openDescriptor(b []byte, openFile OpenFile) (*input.Disk, error) {
	d, err := parseDescriptor(b)
	if err != nil {
		return nil, err
	}
	if openFile == nil {
		return nil, input.Unsupported("", "a descriptor of other files")
	}
	if len(d.extents) == 0 {
		return nil, input.Bad("a descriptor without extents")
	}
	j := &joined{}
	for _, e := range d.extents {
		if err := j.add(e, openFile); err != nil {
			return nil, fmt.Errorf("extent %.100q: %w", e.name, err)
		}
	}
	disk := &input.Disk{Details: d.kind}
	disk.Image, err = input.NewJoined(j.pieces)
	return disk, err
}

// joined are the extents of a disk behind each other.
type joined struct{ pieces []input.Piece }

func (j *joined) add(e extent, openFile OpenFile) error {
	size := e.sectors * sectorSize
	if e.access == "NOACCESS" || e.kind == "ZERO" {
		j.pieces = append(j.pieces, input.Piece{Size: size})
		return nil
	}
	switch e.kind {
	case "FLAT", "VMFS", "SPARSE":
	default:
		return input.Unsupported("clone it with vmkfstools -i, or use qemu-img convert", "an extent of type %s", e.kind)
	}
	if e.name == "" || strings.ContainsAny(e.name, `/\`) || e.name == ".." {
		return input.Unsupported("put all files into one directory", "a file in another directory")
	}
	f, err := openFile(e.name)
	if err != nil {
		return err
	}
	if e.kind == "SPARSE" {
		s, err := openSparse(f)
		if err != nil {
			return err
		}
		if s.size < size {
			return input.Bad("a file with a disk of %d bytes, the descriptor says %d", s.size, size)
		}
		j.pieces = append(j.pieces, input.Piece{Size: size, File: f, Mapper: s})
		return nil
	}
	offset := e.offset * sectorSize
	if offset > f.Size() || size > f.Size()-offset {
		return input.Bad("%d bytes at %d of a file of %d", size, offset, f.Size())
	}
	j.pieces = append(j.pieces, input.Piece{Size: size, File: f, Mapper: flat{offset, size}})
	return nil
}

// flat is an extent that is the bytes of its file.
type flat struct{ off, size int64 }

// Map implements input.Mapper.
func (f flat) Map(off int64) (input.Run, error) {
	return input.Run{Kind: input.Plain, Size: f.size - off, Off: f.off + off}, nil
}

// Unpack implements input.Mapper.
func (flat) Unpack([]byte, int64) error { panic("vmdk: internal error: nothing is packed") }
