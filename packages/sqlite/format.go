// Package sqlite reads tables of SQLite databases: file format of SQLite 3
// (sqlite.org/fileformat2.html), sections 1.3 (header), 1.5 and 1.6 (table b-trees),
// 2.1 (records), 2.6 (schema) and 4 (write-ahead log).
//
// All rows of a table are read in the order of their rowids, and nothing else: no
// SQL, no indexes, no tables WITHOUT ROWID, no text but UTF-8. A write-ahead log is
// taken into account as SQLite does when it opens the database; a rollback journal
// is not.
package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Offsets and values of the database header, big-endian.
const (
	headerSize     = 100
	magic          = "SQLite format 3\x00"
	offPageSize    = 16 // u16, 1 stands for 65536
	offReadVersion = 19 // 1 is a rollback journal, 2 a write-ahead log
	offReserved    = 20 // bytes at the end of each page that are not used
	offEncoding    = 56 // u32
	encodingUTF8   = 1
)

// JournalMagic is how a rollback journal begins that has to be rolled back.
const JournalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"

// pageKind is the type of a b-tree page.
type pageKind byte

const (
	interiorTable pageKind = 5
	leafTable     pageKind = 13
)

// btreePage is the header of a b-tree page.
type btreePage struct {
	kind  pageKind
	cells int
	right uint32 // the last child, of an interior page
	array int    // offset of the cell pointers in the page
}

func parsePage(b []byte, first bool) (p btreePage, err error) {
	at := 0
	if first {
		at = headerSize
	}
	p.kind = pageKind(b[at])
	p.cells = int(binary.BigEndian.Uint16(b[at+3:]))
	p.array = at + 8
	switch p.kind {
	case interiorTable:
		p.right = binary.BigEndian.Uint32(b[at+8:])
		p.array = at + 12
	case leafTable:
	default:
		return p, fmt.Errorf("type %d: no page of a table", p.kind)
	}
	if p.array+2*p.cells > len(b) {
		return p, fmt.Errorf("%d cells do not fit", p.cells)
	}
	return p, nil
}

// cell returns the offset of a cell.
func (p *btreePage) cell(b []byte, i int) (int, error) {
	off := int(binary.BigEndian.Uint16(b[p.array+2*i:]))
	if off < p.array || off >= len(b) {
		return 0, fmt.Errorf("cell %d at offset %d", i, off)
	}
	return off, nil
}

var errVarint = errors.New("a number that goes over the end")

// varint reads a number of 1 to 9 bytes (section 1.6), and returns what follows.
func varint(b []byte) (uint64, []byte, error) {
	var n uint64
	for i := range min(9, len(b)) {
		if i == 8 {
			return n<<8 | uint64(b[i]), b[9:], nil
		}
		n = n<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return n, b[i+1:], nil
		}
	}
	return 0, nil, errVarint
}

// Value is a value of a row. What it is of follows from its column.
type Value struct {
	Null  bool
	Int   int64  // of an integer
	Bytes []byte // of a text or a blob; valid until the next row
}

// maxColumns is how many columns SQLite allows, 2000 by default.
const maxColumns = 2000

// parseRecord reads a record (section 2.1).
func parseRecord(b []byte, values []Value) ([]Value, error) {
	size, rest, err := varint(b)
	if err != nil {
		return nil, err
	}
	if size > uint64(len(b)) || int(size) < len(b)-len(rest) {
		return nil, fmt.Errorf("header of %d bytes in a record of %d", size, len(b))
	}
	header, body := rest[:int(size)-(len(b)-len(rest))], b[size:]
	values = values[:0]
	for len(header) > 0 {
		var kind uint64
		if kind, header, err = varint(header); err != nil {
			return nil, err
		}
		if len(values) == maxColumns {
			return nil, fmt.Errorf("more than %d columns", maxColumns)
		}
		n := serialSize(kind)
		if n > uint64(len(body)) {
			return nil, fmt.Errorf("a value of %d bytes, and %d are left", n, len(body))
		}
		v := Value{Null: kind == 0}
		switch {
		case kind >= 12:
			v.Bytes = body[:n]
		case kind == 9:
			v.Int = 1
		case kind >= 1 && kind <= 6:
			v.Int = int64(int8(body[0]))
			for _, c := range body[1:n] {
				v.Int = v.Int<<8 | int64(c)
			}
		case kind == 10 || kind == 11:
			return nil, fmt.Errorf("value of the type %d", kind)
		}
		values, body = append(values, v), body[n:]
	}
	return values, nil
}

// serialSize returns the size of a value in bytes.
func serialSize(kind uint64) uint64 {
	if kind >= 12 {
		return (kind - 12) / 2
	}
	return [12]uint64{0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0}[kind]
}
