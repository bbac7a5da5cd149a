package tar

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

var errSparse = errors.New("malformed sparse map")

// sparseGNU reads the sparse map of an old GNU sparse file: pairs in the header
// block, then in extension blocks before the content.
func (r *Reader) sparseGNU(b block, h *Header) error {
	if b.format() != formatGNU {
		return errors.New("sparse entry that is not in the GNU format")
	}
	size, ok := numeric(b.realSize())
	if !ok {
		return errSparse
	}
	var data []Segment
	pairs := b.sparse()
	for total := len(pairs); ; total += blockSize {
		n := (len(pairs) - 1) / sparsePair
		for i := range n {
			pair := pairs[i*sparsePair : (i+1)*sparsePair]
			if pair[0] == 0 { // the end, as GNU and BSD tar have it
				break
			}
			off, ok1 := numeric(pair[:12])
			length, ok2 := numeric(pair[12:])
			if !ok1 || !ok2 {
				return errSparse
			}
			data = append(data, Segment{off, length})
		}
		if pairs[n*sparsePair] == 0 {
			break
		}
		if total > maxSpecial {
			return errors.New("sparse map is too long")
		}
		ext, err := r.block()
		if err != nil {
			return noEOF(err)
		}
		pairs = ext[:extensionPairs*sparsePair+1]
	}
	return h.setSparse(size, data)
}

// sparsePax reads the sparse map of a file in pax format, if p makes it one.
// The content starts behind the map then.
func (r *Reader) sparsePax(p *pax, h *Header) error {
	inContent := false
	switch {
	case p.major == "1" && p.minor == "0":
		inContent = true
	case p.major == "0" && (p.minor == "0" || p.minor == "1"):
	case p.major != "" || p.minor != "":
		return fmt.Errorf("unknown sparse format %q.%q", p.major, p.minor)
	case p.sparseMap == "":
		return nil
	}
	if h.Type != TypeFile {
		return errors.New("sparse map of what is not a regular file")
	}
	if p.name != "" {
		h.Name = p.name
	}
	size := h.Size
	text := p.fileSize
	if text == "" {
		text = p.realSize
	}
	if text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return errSparse
		}
		size = n
	}
	var data []Segment
	var err error
	if inContent {
		data, err = r.sparseMap10()
		h.Offset, h.Stored = r.off, r.left
	} else {
		data, err = sparseMap01(p)
	}
	if err != nil {
		return err
	}
	return h.setSparse(size, data)
}

// sparseMap01 parses the map of formats 0.0 and 0.1: numbers between commas.
func sparseMap01(p *pax) ([]Segment, error) {
	count, err := strconv.ParseInt(p.numBlocks, 10, 64)
	if err != nil || count < 0 {
		return nil, errSparse
	}
	var numbers []string
	if p.sparseMap != "" {
		numbers = strings.Split(p.sparseMap, ",")
	}
	if len(numbers)%2 != 0 || int64(len(numbers)/2) != count {
		return nil, errSparse
	}
	data := make([]Segment, 0, count)
	for i := 0; i < len(numbers); i += 2 {
		off, err1 := strconv.ParseInt(numbers[i], 10, 64)
		length, err2 := strconv.ParseInt(numbers[i+1], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, errSparse
		}
		data = append(data, Segment{off, length})
	}
	return data, nil
}

// sparseMap10 reads the map of format 1.0: the number of segments and their
// offsets and lengths, in decimal, each with a newline, padded to a block.
func (r *Reader) sparseMap10() ([]Segment, error) {
	var text []byte
	next := func() (int64, error) {
		for {
			line, rest, ok := bytes.Cut(text, []byte{'\n'})
			if ok {
				text = rest
				n, err := strconv.ParseInt(string(line), 10, 64)
				if err != nil {
					return 0, errSparse
				}
				return n, nil
			}
			// The longest number has 20 characters; more without a newline
			// would also make this loop quadratic.
			if len(text) > 20 || r.left < blockSize {
				return 0, errSparse
			}
			b, err := r.block()
			if err != nil {
				return 0, noEOF(err)
			}
			r.left -= blockSize
			text = append(text[:len(text):len(text)], b...)
		}
	}
	count, err := next()
	if err != nil || count < 0 || count > maxSpecial/4 {
		return nil, errSparse
	}
	var data []Segment
	for range count {
		off, err := next()
		if err != nil {
			return nil, err
		}
		length, err := next()
		if err != nil {
			return nil, err
		}
		data = append(data, Segment{off, length})
	}
	return data, nil
}

// setSparse makes h a sparse file of size bytes, whose stored content is data.
func (h *Header) setSparse(size int64, data []Segment) error {
	if size < 0 {
		return errSparse
	}
	var pos, stored int64
	kept := data[:0]
	for _, s := range data {
		if s.Offset < pos || s.Length < 0 || s.Offset > math.MaxInt64-s.Length || s.Offset+s.Length > size {
			return errSparse
		}
		pos = s.Offset + s.Length
		stored += s.Length
		if s.Length > 0 {
			kept = append(kept, s)
		}
	}
	if stored != h.Stored {
		return fmt.Errorf("sparse map of %d bytes for %d bytes of content", stored, h.Stored)
	}
	h.Sparse, h.Size, h.Data = true, size, kept
	return nil
}
