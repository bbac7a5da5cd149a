package initramfs

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"

	"imgbuild/tree"
)

// Write writes the tree as one compressed archive: directories before what is in
// them, names ascending. A hard link becomes a second file; sockets, extended
// attributes and times are left out.
func Write(ctx context.Context, w io.Writer, root *tree.Inode, c Compression) error {
	z, err := compressor(w, c)
	if err != nil {
		return err
	}
	a := &archive{w: z}
	err = tree.Walk(root, func(p string, i *tree.Inode) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p == "/" || i.Type() == tree.TypeSock {
			return nil
		}
		if err := a.add(p[1:], i); err != nil {
			return fmt.Errorf("initramfs: %s: %w", p, err)
		}
		return nil
	})
	if err == nil {
		err = a.entry(&header{nlink: 1}, trailer, nil)
	}
	if err != nil {
		return err
	}
	return z.Close()
}

// archive is an archive that is being written.
type archive struct {
	w      io.Writer
	pos    int64 // uncompressed
	inodes uint32
}

// add appends a file of any type.
func (a *archive) add(name string, i *tree.Inode) error {
	if len(name) >= maxName {
		return fmt.Errorf("the path has more than %d bytes", maxName-1)
	}
	a.inodes++
	h := &header{ino: a.inodes, mode: i.Mode, uid: i.UID, gid: i.GID, nlink: 1}
	var content io.Reader
	switch i.Type() {
	case tree.TypeFile:
		if i.Content.Size() > math.MaxUint32 {
			return fmt.Errorf("%d bytes, more than the format can express", i.Content.Size())
		}
		h.size, content = uint32(i.Content.Size()), i.Content.Reader()
	case tree.TypeLink:
		h.size, content = uint32(len(i.Target)), strings.NewReader(i.Target)
	case tree.TypeChar, tree.TypeBlock:
		h.major, h.minor = i.Major, i.Minor
	}
	return a.entry(h, name, content)
}

// entry appends a header, a name and content, both padded.
func (a *archive) entry(h *header, name string, content io.Reader) error {
	h.nameSize = uint32(len(name) + 1)
	b := append(append(h.encode(), name...), 0)
	if err := a.write(b); err != nil {
		return err
	}
	if content == nil {
		return nil
	}
	n, err := io.Copy(a.w, io.LimitReader(content, int64(h.size)))
	if err == nil && n != int64(h.size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	a.pos += n
	return a.write(nil)
}

// write writes b and pads what is there.
func (a *archive) write(b []byte) error {
	n := int64(len(b))
	b = append(b, make([]byte, padding(a.pos+n))...)
	if _, err := a.w.Write(b); err != nil {
		return err
	}
	a.pos += int64(len(b))
	return nil
}
