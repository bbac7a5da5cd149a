package output

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"imgbuild/fault"
)

// SHA256 reads n bytes of f back, from the offset off on, and returns their digest.
// An error of the file carries a class of package fault.
func SHA256(ctx context.Context, f *os.File, off, n int64) ([]byte, error) {
	h := sha256.New()
	buf := make([]byte, writeUnit)
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p := buf[:min(n, int64(len(buf)))]
		if _, err := f.ReadAt(p, off); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fault.OfWrite(fmt.Errorf("read back: %w", err))
		}
		h.Write(p)
		off += int64(len(p))
		n -= int64(len(p))
	}
	return h.Sum(nil), nil
}
