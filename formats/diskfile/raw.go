package diskfile

import (
	"io"
	"os"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/input"
)

// openRaw opens a disk that is the bytes of the file.
func (o *opener) openRaw(p *part) error {
	d := &input.Disk{}
	if o.opt.Format == "" && !looksLikeDisk(p.head) {
		d.Notes = append(d.Notes, "it has no partition table and no format that is known, and is taken as a raw disk")
	}
	var src content.Source = p.File
	if p.host != nil {
		src = &holey{p.host, p.Size()}
	}
	var err error
	d.Image, err = disk.New(p.Size(), []disk.Extent{{Data: content.NewRef(src, 0, p.Size())}})
	o.disk.Disk = d
	return err
}

// looksLikeDisk tells whether a disk that begins with b has a boot sector or a
// partition table.
func looksLikeDisk(b []byte) bool {
	if len(b) >= 512 && b[510] == 0x55 && b[511] == 0xaa {
		return true
	}
	for _, sector := range []int{512, 4096} {
		if len(b) >= sector+8 && string(b[sector:sector+8]) == "EFI PART" {
			return true
		}
	}
	return false
}

// holey is a file whose holes the host knows.
type holey struct {
	f    *os.File
	size int64
}

var _ content.SparseSource = (*holey)(nil)

// ReadAt implements io.ReaderAt.
func (h *holey) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.f.ReadAt(p, off)
	if err == io.EOF && off+int64(n) < h.size {
		err = io.ErrUnexpectedEOF // somebody made it shorter
	}
	if err != nil && err != io.EOF {
		err = fault.New(fault.NotFound, err, "")
	}
	return n, err
}

// NextData implements content.SparseSource.
func (h *holey) NextData(off int64) (start, end int64) {
	start, end = NextData(h.f, off, h.size)
	return start, min(end, h.size)
}
