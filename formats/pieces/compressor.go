package pieces

import "github.com/klauspost/compress/flate"

// Window is the largest distance of back-references in bytes.
const Window = 4 << 10

// Last is an empty last block, which ends a stream behind whole blocks.
const Last = "\x03\x00"

// Compressor compresses pieces. What it makes of one does not depend on those
// before.
type Compressor struct {
	w   *flate.Writer
	dst []byte
}

// NewCompressor returns a compressor.
//
// Measured with the 636 MB of a bootc image's layers: 310 MB, at 324 MB/s and
// core; qemu-img makes 303, at 75 MB/s. Only one encoder of klauspost/compress
// keeps to a window, hence no levels.
func NewCompressor() (*Compressor, error) {
	c := &Compressor{}
	var err error
	c.w, err = flate.NewWriterWindow(c, Window)
	return c, err
}

// Write takes what the encoder gives.
func (c *Compressor) Write(p []byte) (int, error) {
	c.dst = append(c.dst, p...)
	return len(p), nil
}

// Append appends src in compressed form to dst, without a last block, up to a
// byte: the blocks of other bytes can follow.
func (c *Compressor) Append(dst, src []byte) ([]byte, error) {
	c.dst = dst
	c.w.Reset(c)
	if _, err := c.w.Write(src); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	return c.dst, nil
}
