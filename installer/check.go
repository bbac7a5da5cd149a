package installer

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// The checksum that implantisomd5 puts into the application use area of the primary
// volume descriptor (ECMA-119, 8.4.32): of the volume without its last sectors, with
// that area blank.
const (
	descriptorAt   = 16 * 2048
	volumeSizeAt   = 80  // in the descriptor, in blocks of 2048 bytes
	applicationAt  = 883 // in the descriptor
	applicationLen = 512
	checkUnit      = 1 << 20
)

var errNoSum = errors.New("it has no checksum")

// errNetwork says that there is no medium to compare: its files are in memory, and
// the image among them is verified by its digests in any case.
var errNetwork = errors.New("it came over a network")

// checkMedium reads a volume from its beginning and compares it with the checksum in
// it.
func checkMedium(ctx context.Context, r io.Reader, progress func(done, total int64)) error {
	head := make([]byte, descriptorAt+2048)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	d := head[descriptorAt:]
	if string(d[1:6]) != "CD001" {
		return errors.New("it is no ISO 9660 volume")
	}
	application := d[applicationAt:][:applicationLen]
	m := regexp.MustCompile(`ISO MD5SUM = ([0-9a-f]{32});SKIPSECTORS = ([0-9]{1,6});`).FindSubmatch(application)
	if m == nil {
		return errNoSum
	}
	want := string(m[1])
	skip, err := strconv.ParseInt(string(m[2]), 10, 64)
	if err != nil {
		return err
	}
	total := (int64(binary.LittleEndian.Uint32(d[volumeSizeAt:])) - skip) * 2048
	if total < int64(len(head)) {
		return fmt.Errorf("a volume of %d bytes", total)
	}
	for i := range application {
		application[i] = ' '
	}
	h := md5.New()
	h.Write(head)
	done := int64(len(head))
	buf := make([]byte, checkUnit)
	for done < total {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(total-done, checkUnit)
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return fmt.Errorf("at %d: %w", done, err)
		}
		h.Write(buf[:n])
		done += n
		progress(done, total)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
		return fmt.Errorf("its checksum is %s, and should be %s", got, want)
	}
	return nil
}
