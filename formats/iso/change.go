package iso

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"

	"imgbuild/content"
	"imgbuild/formats/output"
)

// Change is bytes of an ISO that get other values; nothing moves.
type Change struct {
	Off  int64
	Data []byte
}

// volumeSize returns the size of the volume in bytes: what is behind it, as on a
// USB stick, is not part of the ISO.
func (im *Image) volumeSize() (int64, error) {
	n := im.Blocks * BlockSize
	if n > im.size || n <= systemArea*BlockSize {
		return 0, fmt.Errorf("ISO 9660: a volume of %d bytes in a file of %d: it is cut off", n, im.size)
	}
	return n, nil
}

// changed returns the ISO with changes as something to be emitted. The room for
// the media checksum is blank.
func (im *Image) changed(changes []Change) (*emission, error) {
	size, err := im.volumeSize()
	if err != nil {
		return nil, err
	}
	blank := make([]byte, sizeUse)
	putText(blank, "")
	all := append(slices.Clone(changes), Change{systemArea*BlockSize + volUse, blank})
	slices.SortFunc(all, func(a, b Change) int { return cmp.Compare(a.Off, b.Off) })
	o := &emission{size: size, sum: true}
	source := func(from, to int64) {
		if from < to {
			o.segments = append(o.segments, segment{off: from, size: to - from, data: content.NewRef(im.r, from, to-from)})
		}
	}
	pos := int64(0)
	for _, c := range all {
		n := int64(len(c.Data))
		if c.Off < pos || n > size || c.Off > size-n {
			return nil, fmt.Errorf("ISO 9660: a change of %d bytes at %d overlaps another, or is beyond the end", n, c.Off)
		}
		source(pos, c.Off)
		o.segments = append(o.segments, segment{off: c.Off, size: n, data: content.Bytes(c.Data)})
		pos = c.Off + n
	}
	source(pos, size)
	return o, nil
}

// sum returns the text of the media checksum of the ISO with changes.
func (im *Image) sum(ctx context.Context, changes []Change, progress func(done, total int64)) ([]byte, error) {
	o, err := im.changed(changes)
	if err != nil {
		return nil, err
	}
	o.progress = progress
	return o.stream(ctx, func(*chunk) error { return nil })
}

// Copy writes the ISO with changes and a new media checksum to f, a new empty
// file, and makes it durable. Progress may be nil.
func (im *Image) Copy(ctx context.Context, f *os.File, changes []Change, progress func(done, total int64)) error {
	o, err := im.changed(changes)
	if err != nil {
		return err
	}
	o.progress = progress
	return o.write(ctx, f)
}

// ChangeInPlace makes changes to the file or device that the ISO is read from,
// with a new media checksum. Everything is read first, and written at once at the
// end.
func (im *Image) ChangeInPlace(ctx context.Context, f *os.File, changes []Change, progress func(done, total int64)) error {
	sum, err := im.sum(ctx, changes, progress)
	if err != nil {
		return err
	}
	out := output.NewFile(f)
	defer out.Stop()
	for _, c := range append(slices.Clone(changes), Change{systemArea*BlockSize + volUse, sum}) {
		if _, err := out.WriteAt(c.Data, c.Off); err != nil {
			return err
		}
	}
	return out.Sync()
}

// Replace returns the changes that give the file at a path other content of the
// same length.
func (im *Image) Replace(path string, b []byte) ([]Change, error) {
	f, err := im.Lookup(path)
	if err != nil {
		return nil, err
	}
	if f.dir || f.Size != int64(len(b)) {
		return nil, fmt.Errorf("%s: %d bytes in place of %d", path, len(b), f.Size)
	}
	var out []Change
	for _, e := range f.Extents {
		out = append(out, Change{e.Off, b[:e.Size]})
		b = b[e.Size:]
	}
	return out, nil
}
