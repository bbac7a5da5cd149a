package iso

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"hash"
	"strings"

	"imgbuild/fault"
)

// The media checksum of isomd5sum (libimplantisomd5.c, libcheckisomd5.c): an MD5
// over the ISO without its last blocks, taken while the room for it is blank, and
// digits of it on the way, so that a damaged medium is noticed early.
const (
	sumSkip      = 15       // blocks at the end that are not summed
	sumChunk     = 32 << 10 // unit of reading
	sumFragments = 20
	sumDigits    = 3 // for each fragment
)

// mediaSum is the media checksum in the making.
type mediaSum struct {
	md5      hash.Hash
	left     int64 // bytes to be summed
	off      int64
	fragment int64 // bytes
	last     int64 // number of the fragment that off is in
	digits   strings.Builder
}

// newMediaSum returns the sum of an ISO of size bytes.
func newMediaSum(size int64) *mediaSum {
	n := max(0, size-sumSkip*BlockSize)
	return &mediaSum{md5: md5.New(), left: n, fragment: n / (sumFragments + 1)}
}

// add sums the next bytes of the ISO, a multiple of sumChunk unless they are the
// last ones.
func (s *mediaSum) add(b []byte) {
	for len(b) > 0 && s.left > 0 {
		n := min(int64(len(b)), sumChunk, s.left)
		s.md5.Write(b[:n])
		if s.fragment > 0 && s.off/s.fragment != s.last {
			s.last = s.off / s.fragment
			if s.last <= sumFragments {
				s.take()
			}
		}
		s.off += n
		s.left -= n
		b = b[n:]
	}
}

// take appends digits of the sum so far: the first of each byte as C prints it
// without leading zeros.
func (s *mediaSum) take() {
	for _, c := range s.md5.Sum(nil)[:sumDigits] {
		s.digits.WriteByte(fmt.Sprintf("%x", c)[0])
	}
}

// text returns what goes into the primary descriptor.
func (s *mediaSum) text() []byte {
	b := make([]byte, sizeUse)
	putText(b, fmt.Sprintf(sumHead+"%x;SKIPSECTORS = %d;RHLISOSTATUS=0;FRAGMENT SUMS = %s;FRAGMENT COUNT = %d;THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!",
		s.md5.Sum(nil), sumSkip, s.digits.String(), sumFragments))
	return b
}

// sumHead begins the media checksum in the primary descriptor.
const sumHead = "ISO MD5SUM = "

// Checksum returns the media checksum that an ISO carries, in hex, or "".
func (im *Image) Checksum() (string, error) {
	b, err := im.read(systemArea*BlockSize+volUse, sizeUse)
	if err != nil {
		return "", fault.Default(fault.BadImage, err)
	}
	rest, ok := strings.CutPrefix(string(b), sumHead)
	if !ok {
		return "", nil
	}
	sum, _, _ := strings.Cut(rest, ";")
	if len(sum) != 2*md5.Size {
		return "", fault.New(fault.BadImage, fmt.Errorf("media checksum %.40q", sum), "")
	}
	return sum, nil
}

// ErrChecksum is an ISO whose content is not what its media checksum says.
var ErrChecksum = errors.New("the media checksum is wrong: the ISO is damaged, or was changed")

// Verify reads the whole ISO and compares it with its media checksum: an error
// that wraps [ErrChecksum] is of class fault.BadImage. An ISO without one is an
// error as well. Progress may be nil.
func (im *Image) Verify(ctx context.Context, progress func(done, total int64)) error {
	want, err := im.Checksum()
	if err != nil {
		return err
	}
	if want == "" {
		return fault.New(fault.BadImage, errors.New("the ISO has no media checksum"), "")
	}
	text, err := im.sum(ctx, nil, progress)
	if err != nil {
		return err
	}
	if got, _, _ := strings.Cut(string(text[len(sumHead):]), ";"); got != want {
		return fault.New(fault.BadImage, ErrChecksum, "")
	}
	return nil
}
