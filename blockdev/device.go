package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"

	"imgbuild/fault"
)

// Device is a disk that is open for reading and writing, and that nobody else
// has in exclusive use. Offsets and sizes are in bytes. All errors are of class
// [fault.Device] and name the disk.
type Device struct {
	f          *os.File
	path       string
	size       int64
	sectorSize int
	file       bool // a regular file in place of a disk
	back       *writeback
}

// Open opens a disk for writing. It fails when a part of the disk is in use, by
// the judgement of the kernel.
func Open(d Disk) (*Device, error) {
	v := &Device{path: d.Path, size: d.Size, sectorSize: d.SectorSize, file: d.File}
	var err error
	if d.File {
		v.f, err = os.OpenFile(d.Path, os.O_RDWR, 0)
	} else {
		v.f, err = openExclusive(d.Path)
	}
	if err != nil {
		return nil, v.fail("", err)
	}
	if err := v.measure(); err != nil {
		v.f.Close()
		return nil, err
	}
	v.back = newWriteback(v.f)
	return v, nil
}

// measure takes the size from the open device: the disk may have been exchanged
// since it was listed.
func (v *Device) measure() error {
	size, err := v.f.Seek(0, io.SeekEnd)
	if err != nil {
		return v.fail("size", err)
	}
	if size != v.size {
		return v.fail("", fmt.Errorf("has %d bytes, and had %d a moment ago", size, v.size))
	}
	if v.file {
		return nil
	}
	if v.sectorSize, err = sectorSize(v.f); err != nil {
		return v.fail("sector size", err)
	}
	return nil
}

// fail returns the error of an operation on the disk.
func (v *Device) fail(what string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the path is said once
	}
	err = explain(err)
	if what != "" {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if fault.ClassOf(err) == fault.Unsupported {
		return err
	}
	return fault.New(fault.Device, fmt.Errorf("%s: %w", v.path, err), hint(err))
}

// Path returns the path that the disk was opened by.
func (v *Device) Path() string { return v.path }

// Size returns the size of the disk.
func (v *Device) Size() int64 { return v.size }

// SectorSize returns the size of a logical sector.
func (v *Device) SectorSize() int { return v.sectorSize }

// ReadAt implements io.ReaderAt.
func (v *Device) ReadAt(p []byte, off int64) (int, error) {
	n, err := v.f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = v.fail(fmt.Sprintf("read at %d", off), err)
	}
	return n, err
}

// WriteAt implements io.WriterAt. What is written is on its way to the disk soon
// and there for certain after [Device.Sync].
func (v *Device) WriteAt(p []byte, off int64) (int, error) {
	n, err := v.f.WriteAt(p, off)
	if err != nil {
		return n, v.fail(fmt.Sprintf("write at %d", off), err)
	}
	if err := v.back.wrote(off, int64(n)); err != nil {
		return n, v.fail(fmt.Sprintf("write near %d", off), err)
	}
	return n, nil
}

// Zero makes n bytes from off read as zeros, by the disk's own means where it has
// some. Both are multiples of the sector size.
func (v *Device) Zero(off, n int64) error {
	// Pages that wait to be written would come after the zeros.
	if err := v.back.flush(); err != nil {
		return v.fail(fmt.Sprintf("write near %d", off), err)
	}
	if zeroOut(v.f, off, n, v.file) {
		return nil
	}
	b := make([]byte, min(n, 1<<20))
	for n > 0 {
		k, err := v.WriteAt(b[:min(n, int64(len(b)))], off)
		if err != nil {
			return err
		}
		off += int64(k)
		n -= int64(k)
	}
	return nil
}

// Sync makes everything that was written durable.
func (v *Device) Sync() error {
	if err := v.back.flush(); err != nil {
		return v.fail("flush", err)
	}
	if err := v.f.Sync(); err != nil {
		return v.fail("flush", err)
	}
	return nil
}

// Close gives the disk back.
func (v *Device) Close() error {
	return v.f.Close()
}
