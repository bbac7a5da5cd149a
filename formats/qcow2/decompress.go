package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// unpackers decompress clusters in several goroutines.
type unpackers struct{ pool sync.Pool }

// unpacker is what one goroutine uses.
type unpacker interface {
	// unpack fills dst from src, behind whose stream there may be anything.
	unpack(dst, src []byte) error
}

// newUnpackers returns the unpackers of a known compression type.
func newUnpackers(typ uint8) *unpackers {
	if typ == typeZstd {
		return &unpackers{sync.Pool{New: func() any { return &unzstd{} }}}
	}
	return &unpackers{sync.Pool{New: func() any { return &inflater{r: flate.NewReader(nil)} }}}
}

func (u *unpackers) unpack(dst, src []byte) error {
	one := u.pool.Get().(unpacker)
	defer u.pool.Put(one)
	return one.unpack(dst, src)
}

type inflater struct {
	r   io.ReadCloser
	src bytes.Reader
}

func (i *inflater) unpack(dst, src []byte) error {
	i.src.Reset(src)
	if err := i.r.(flate.Resetter).Reset(&i.src, nil); err != nil {
		return err
	}
	return fill(i.r, dst)
}

type unzstd struct {
	d   *zstd.Decoder
	src bytes.Reader
}

func (u *unzstd) unpack(dst, src []byte) (err error) {
	if u.d == nil {
		// Without goroutines of its own, which nobody would end. The window is at
		// most a cluster; what needs more was not made for this format.
		u.d, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(1<<maxClusterBits<<2), zstd.IgnoreChecksum(false))
		if err != nil {
			return err
		}
	}
	u.src.Reset(src)
	if err := u.d.Reset(&u.src); err != nil {
		return err
	}
	return fill(u.d, dst)
}

// fill reads a whole cluster.
func fill(r io.Reader, dst []byte) error {
	if n, err := io.ReadFull(r, dst); err != nil {
		return fmt.Errorf("%d of %d bytes: %w", n, len(dst), err)
	}
	return nil
}
