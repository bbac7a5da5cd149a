package vmdk

import (
	"github.com/klauspost/compress/zlib"

	"imgbuild/disk"
	"imgbuild/formats/output"
)

// batchSize is the number of adjacent bytes that are read at once and handed from
// one goroutine to the other.
const batchSize = 8 * grainSize

// level is the level of compression. Measured with a disk that holds 614 MB, user
// time in seconds and size in MB; qemu-img convert needs 11.4 for its 359:
//
//	4 2.4 370, 5 2.8 368, 6 2.9 366, 7 4.8 362
const level = 6

// grain is a grain as it is stored.
type grain struct {
	number int64
	data   []byte // with its marker, whole sectors
}

// batch is some adjacent grains of the disk.
type batch struct {
	output.Piece
	size   int64 // bytes of the disk
	grains []grain
	out    []byte // what the grains are cut from
}

func newBatches() []*batch {
	// Two for each core, so that none has to wait while a result waits for its
	// turn, and two more for reading ahead and writing.
	batches := make([]*batch, 2*output.Workers(1<<10)+2)
	for i := range batches {
		batches[i] = &batch{}
	}
	return batches
}

// compress reads the grains of b and compresses those that are not zero.
func (b *batch) compress(img *disk.Image, d *deflater) error {
	if err := b.Read(img); err != nil {
		return err
	}
	b.size = int64(len(b.Data))
	b.Pad(grainSize)
	b.grains, b.out = b.grains[:0], b.out[:0]
	for pos := 0; pos < len(b.Data); pos += grainSize {
		src := b.Data[pos : pos+grainSize]
		if output.IsZero(src) {
			continue
		}
		start := len(b.out)
		g := grain{number: (b.Off + int64(pos)) / grainSize}
		out, err := d.deflate(append(b.out, make([]byte, sizeGrainMarker)...), src)
		if err != nil {
			return err
		}
		putGrainMarker(out[start:], g.number, len(out)-start-sizeGrainMarker)
		n := len(out) - start
		out = append(out, make([]byte, divUp(int64(n), sectorSize)*sectorSize-int64(n))...)
		// A later append may move b.out; what was cut from it stays valid.
		g.data, b.out = out[start:], out
		b.grains = append(b.grains, g)
	}
	return nil
}

// deflater compresses grains. What it returns for a grain does not depend on the
// grains before.
type deflater struct {
	w   *zlib.Writer
	dst []byte
}

func newDeflater() (d *deflater, err error) {
	d = &deflater{}
	d.w, err = zlib.NewWriterLevel(d, level)
	return d, err
}

// Write takes what the compressor gives.
func (d *deflater) Write(p []byte) (int, error) {
	d.dst = append(d.dst, p...)
	return len(p), nil
}

// deflate appends src in compressed form to dst.
func (d *deflater) deflate(dst, src []byte) ([]byte, error) {
	d.dst = dst
	d.w.Reset(d)
	if _, err := d.w.Write(src); err != nil {
		return nil, err
	}
	if err := d.w.Close(); err != nil {
		return nil, err
	}
	return d.dst, nil
}
