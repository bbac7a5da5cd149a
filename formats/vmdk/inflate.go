package vmdk

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// inflaters decompress grains in several goroutines. The zero value is ready.
type inflaters struct{ pool sync.Pool }

type inflater struct {
	r   io.ReadCloser
	src bytes.Reader
}

// inflate fills dst from the stream in src, and with zeros where that is shorter.
// It returns the number of bytes there were.
func (i *inflaters) inflate(dst, src []byte) (int, error) {
	one, _ := i.pool.Get().(*inflater)
	if one == nil {
		one = &inflater{}
	}
	defer i.pool.Put(one)
	one.src.Reset(src)
	var err error
	if one.r == nil {
		one.r, err = zlib.NewReader(&one.src)
	} else {
		err = one.r.(zlib.Resetter).Reset(&one.src, nil)
	}
	if err != nil {
		return 0, err
	}
	n := 0
	for n < len(dst) && err == nil {
		var k int
		k, err = one.r.Read(dst[n:])
		n += k
	}
	if err == io.EOF {
		err = nil
	}
	clear(dst[n:])
	return n, err
}
