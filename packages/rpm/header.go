package rpm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// tag is the number of a value of a header (rpmtag.h).
type tag uint32

const (
	tagName           tag = 1000
	tagVersion        tag = 1001
	tagRelease        tag = 1002
	tagEpoch          tag = 1003
	tagSummary        tag = 1004
	tagVendor         tag = 1011
	tagLicense        tag = 1014
	tagPackager       tag = 1015
	tagURL            tag = 1020
	tagArch           tag = 1022
	tagOldFileNames   tag = 1027
	tagSourceRPM      tag = 1044
	tagProvideName    tag = 1047
	tagRequireFlags   tag = 1048
	tagRequireName    tag = 1049
	tagRequireVersion tag = 1050
	tagProvideFlags   tag = 1112
	tagProvideVersion tag = 1113
	tagDirIndexes     tag = 1116
	tagBaseNames      tag = 1117
	tagDirNames       tag = 1118
)

// kind is the type of a value.
type kind uint32

const (
	kindInt32       kind = 4
	kindString      kind = 6
	kindStringArray kind = 8
	kindI18NString  kind = 9
)

// entry is an entry of the index of a header, big-endian: where in the data its
// value is.
type entry struct {
	tag    tag
	kind   kind
	offset uint32 // in the data
	count  uint32
}

const entrySize = 16

// Limits of headers, which are those of RPM.
const (
	maxEntries = 0xffff
	maxData    = 256 << 20
)

// maxCount bounds a list of strings or numbers; no package has a million files.
const maxCount = 1 << 20

// header is the header of an installed package as the database keeps it
// (docs/manual/format_header.md of RPM, without the lead).
type header struct {
	index []entry
	data  []byte
}

// parseHeader parses a header: the numbers of its entries and of its bytes of data,
// and then both.
func parseHeader(b []byte) (*header, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("header of %d bytes", len(b))
	}
	n, size := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if n > maxEntries || size > maxData || int64(len(b)) < 8+entrySize*int64(n)+int64(size) {
		return nil, fmt.Errorf("header of %d bytes with %d entries and %d bytes of data", len(b), n, size)
	}
	h := &header{index: make([]entry, n)}
	b = b[8:]
	for i := range h.index {
		h.index[i] = entry{
			tag: tag(binary.BigEndian.Uint32(b)), kind: kind(binary.BigEndian.Uint32(b[4:])),
			offset: binary.BigEndian.Uint32(b[8:]), count: binary.BigEndian.Uint32(b[12:]),
		}
		b = b[entrySize:]
	}
	h.data = b[:size]
	return h, nil
}

// find returns the entry of a tag, of the first one where there are several, and
// its data.
func (h *header) find(t tag) (e entry, data []byte, ok bool, err error) {
	for _, e := range h.index {
		if e.tag != t {
			continue
		}
		if uint64(e.offset) > uint64(len(h.data)) {
			return e, nil, false, fmt.Errorf("tag %d: behind the data", t)
		}
		return e, h.data[e.offset:], true, nil
	}
	return e, nil, false, nil
}

var errUnterminated = errors.New("a string without an end")

// strings returns the strings of a tag, none where it is not there. Of one in
// several languages it is the first, which is English.
func (h *header) strings(t tag) ([]string, error) {
	e, data, ok, err := h.find(t)
	if !ok {
		return nil, err
	}
	n := uint64(e.count)
	switch e.kind {
	case kindString, kindI18NString:
		n = 1
	case kindStringArray:
	default:
		return nil, fmt.Errorf("tag %d: of the type %d, not a string", t, e.kind)
	}
	if n > uint64(len(data)) || n > maxCount {
		return nil, fmt.Errorf("tag %d: %d strings in %d bytes", t, n, len(data))
	}
	list := make([]string, n)
	for i := range list {
		end := bytes.IndexByte(data, 0)
		if end < 0 {
			return nil, fmt.Errorf("tag %d: %w", t, errUnterminated)
		}
		list[i], data = string(data[:end]), data[end+1:]
	}
	return list, nil
}

// text returns the string of a tag, "" where it is not there.
func (h *header) text(t tag) (string, error) {
	list, err := h.strings(t)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

// ints returns the numbers of a tag.
func (h *header) ints(t tag) ([]uint32, error) {
	e, data, ok, err := h.find(t)
	if !ok {
		return nil, err
	}
	if e.kind != kindInt32 {
		return nil, fmt.Errorf("tag %d: of the type %d, not a number", t, e.kind)
	}
	if uint64(e.count)*4 > uint64(len(data)) || e.count > maxCount {
		return nil, fmt.Errorf("tag %d: %d numbers in %d bytes", t, e.count, len(data))
	}
	list := make([]uint32, e.count)
	for i := range list {
		list[i] = binary.BigEndian.Uint32(data[4*i:])
	}
	return list, nil
}
