package survey

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
)

// Limits of a file system that is read. go-diskfs believes what it reads, and reserves
// memory for it: what says how much is checked before, and what it reads is counted.
const (
	maxGroups   = 1 << 16 // of an ext4: 8 TiB
	maxBlock    = 4096    // bytes of a block of ext4, which bounds what an extent reserves
	maxRead     = 128 << 20
	maxNames    = 10000 // in a directory
	sizeSuper   = 1024
	offsetSuper = 1024
)

// volume is a file system that is read by go-diskfs.
type volume struct {
	fs interface {
		ReadDir(name string) ([]fs.DirEntry, error)
		ReadFile(name string) ([]byte, error)
	}
	links interface {
		ReadLink(name string) (string, error)
	} // nil where there are none
	exact bool // names that differ in case differ
}

// named is an entry of a directory.
type named struct {
	name      string
	dir, link bool
	size      int64
}

// openExt4 opens an ext4 (Linux, Documentation/filesystems/ext4/super.rst).
func openExt4(r sized) (*volume, error) {
	b := make([]byte, sizeSuper)
	if _, err := r.ReadAt(b, offsetSuper); err != nil {
		return nil, fmt.Errorf("ext4: superblock: %w", err)
	}
	le := binary.LittleEndian
	inodes, blocks, first := int64(le.Uint32(b[0x00:])), int64(le.Uint32(b[0x04:])), int64(le.Uint32(b[0x14:]))
	perGroup, inodesPerGroup := int64(le.Uint32(b[0x20:])), int64(le.Uint32(b[0x28:]))
	const has64bit = 0x80
	if le.Uint32(b[0x60:])&has64bit != 0 {
		high := int64(le.Uint32(b[0x150:]))
		if high > maxGroups {
			return nil, errors.New("ext4: it is too large")
		}
		blocks |= high << 32
	}
	shift := le.Uint32(b[0x18:])
	if shift > 2 { // 1024 << shift
		return nil, fmt.Errorf("ext4: blocks of more than %d bytes are not read", maxBlock)
	}
	block := int64(1024) << shift
	const crc32c = 1
	switch {
	case b[0x175] != crc32c:
		return nil, errors.New("ext4: without checksums it is not read")
	case blocks > r.Size()/block:
		return nil, fmt.Errorf("ext4: %d blocks of %d bytes, in a volume of %d", blocks, block, r.Size())
	case perGroup < 8 || perGroup > 8*block || inodesPerGroup == 0 || inodesPerGroup > 8*block || first > 1:
		return nil, errors.New("ext4: groups of a size that cannot be")
	case (blocks+perGroup-1)/perGroup > maxGroups || inodes/inodesPerGroup > maxGroups:
		return nil, errors.New("ext4: it is too large")
	}
	return open(func(s *storage) (*volume, error) {
		v, err := ext4.Read(s, r.Size(), 0, 0)
		return &volume{fs: v, links: v, exact: true}, err
	}, r)
}

// open calls read with the volume, and turns a panic of it into an error.
func open(read func(s *storage) (*volume, error), r sized) (v *volume, err error) {
	err = guarded(func() (err error) {
		v, err = read(&storage{r: r})
		return err
	})
	return v, err
}

// guarded calls fn, which reads what may be damaged.
func guarded(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("damaged: %v", r)
		}
	}()
	return fn()
}

// list returns what is in a directory, which may not be there.
func (v *volume) list(dir string) (names []named, err error) {
	// What is missing is an error of a kind of its own in each reader: each
	// directory on the way is looked for.
	at := "."
	for part := range strings.SplitSeq(dir, "/") {
		if part == "" {
			continue
		}
		in, err := v.readDir(at)
		if err != nil {
			return nil, err
		}
		found := false
		for _, e := range in {
			if e.dir && (e.name == part || !v.exact && strings.EqualFold(e.name, part)) {
				at, found = path.Join(at, e.name), true
				break
			}
		}
		if !found {
			return nil, nil
		}
	}
	return v.readDir(at)
}

// readDir returns what is in a directory.
func (v *volume) readDir(dir string) (names []named, err error) {
	err = guarded(func() error {
		entries, err := v.fs.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(entries) > maxNames {
			return fmt.Errorf("%s: %d names", dir, len(entries))
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return err
			}
			if n := e.Name(); n != "." && n != ".." && fs.ValidPath(n) {
				names = append(names, named{n, e.IsDir(), e.Type()&fs.ModeSymlink != 0, info.Size()})
			}
		}
		return nil
	})
	return names, err
}

// read returns a file, whose size was looked at.
func (v *volume) read(name string) (b []byte, err error) {
	err = guarded(func() (err error) {
		b, err = v.fs.ReadFile(name)
		return err
	})
	return b, err
}

// link returns where a symbolic link leads.
func (v *volume) link(name string) (to string, err error) {
	if v.links == nil {
		return "", fmt.Errorf("%s: a symbolic link", name)
	}
	err = guarded(func() (err error) {
		to, err = v.links.ReadLink(name)
		return err
	})
	return to, err
}

// sized is a volume.
type sized interface {
	io.ReaderAt
	Size() int64
}

// storage is a volume as go-diskfs wants it, read-only. It ends what reads too much,
// before the memory for it is touched.
type storage struct {
	r    sized
	pos  int64
	read int64
}

var _ backend.Storage = (*storage)(nil)

// ReadAt implements io.ReaderAt.
func (s *storage) ReadAt(p []byte, off int64) (int, error) {
	if s.read += int64(len(p)); s.read > maxRead {
		return 0, fmt.Errorf("damaged: more than %d MiB are to be read", maxRead>>20)
	}
	return s.r.ReadAt(p, off)
}

// Read implements io.Reader.
func (s *storage) Read(p []byte) (int, error) {
	n, err := s.ReadAt(p, s.pos)
	s.pos += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (s *storage) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.r.Size()
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	s.pos = offset
	return offset, nil
}

// The rest of backend.Storage, which reading does not need.

func (s *storage) Close() error                            { return nil }
func (s *storage) Stat() (fs.FileInfo, error)              { return nil, errors.ErrUnsupported }
func (s *storage) Sys() (*os.File, error)                  { return nil, errors.ErrUnsupported }
func (s *storage) Path() string                            { return "" }
func (s *storage) Writable() (backend.WritableFile, error) { return nil, errors.ErrUnsupported }
