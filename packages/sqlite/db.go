package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxRow is the largest row that is read, in bytes: RPM's largest headers are a
// few MiB.
const MaxRow = 64 << 20

// maxDepth is more than a b-tree of 2^32 pages has.
const maxDepth = 32

// DB is an open database.
type DB struct {
	r        io.ReaderAt
	size     int64 // of the file, in bytes
	pageSize int
	usable   int // of a page
	pages    uint32
	log      *log // nil without a write-ahead log
}

// Open opens the database in the size bytes of r. Log, which may be nil, is its
// write-ahead log, of logSize bytes.
func Open(r io.ReaderAt, size int64, wal io.ReaderAt, logSize int64) (*DB, error) {
	db := &DB{r: r, size: size}
	var err error
	if wal != nil && logSize > 0 {
		if db.log, err = readLog(wal, logSize); err != nil {
			return nil, fmt.Errorf("write-ahead log: %w", err)
		}
	}
	header := make([]byte, headerSize)
	if db.log != nil && db.log.frames[1] != 0 {
		_, err = wal.ReadAt(header, db.log.frames[1])
	} else {
		_, err = io.ReadFull(io.NewSectionReader(r, 0, size), header)
	}
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if string(header[:len(magic)]) != magic {
		return nil, errors.New("is no SQLite database")
	}
	db.pageSize = int(binary.BigEndian.Uint16(header[offPageSize:]))
	if db.pageSize == 1 {
		db.pageSize = 65536
	}
	if db.pageSize < 512 || db.pageSize > 65536 || db.pageSize&(db.pageSize-1) != 0 {
		return nil, fmt.Errorf("pages of %d bytes", db.pageSize)
	}
	db.usable = db.pageSize - int(header[offReserved])
	if db.usable < 480 {
		return nil, fmt.Errorf("pages with %d bytes that are used", db.usable)
	}
	if v := header[offReadVersion]; v > 2 {
		return nil, fmt.Errorf("version %d of the format", v)
	}
	if e := binary.BigEndian.Uint32(header[offEncoding:]); e > encodingUTF8 {
		return nil, fmt.Errorf("encoding %d of texts: not UTF-8", e)
	}
	db.pages = uint32(min(size/int64(db.pageSize), 1<<32-2))
	if db.log != nil {
		if db.log.pageSize != db.pageSize {
			return nil, fmt.Errorf("write-ahead log: pages of %d bytes, not %d", db.log.pageSize, db.pageSize)
		}
		db.pages = db.log.pages
	}
	return db, nil
}

// page reads a page; the first one has the number 1.
func (db *DB) page(number uint32, b []byte) error {
	if number == 0 || number > db.pages {
		return fmt.Errorf("page %d of %d", number, db.pages)
	}
	r, off := db.r, int64(number-1)*int64(db.pageSize)
	if db.log != nil {
		if at := db.log.frames[number]; at != 0 {
			r, off = db.log.r, at
		} else if off+int64(db.pageSize) > db.size {
			return fmt.Errorf("page %d: behind the end of the file", number)
		}
	}
	if n, err := r.ReadAt(b[:db.pageSize], off); n < db.pageSize {
		return fmt.Errorf("page %d: %w", number, err)
	}
	return nil
}

// Rows calls fn for all rows of the table called name, in the order of their rowids.
// The values, and what they point to, are valid until fn returns. The error wraps
// ErrNoTable where there is no such table.
func (db *DB) Rows(ctx context.Context, name string, fn func(rowid int64, values []Value) error) error {
	root, err := db.table(ctx, name)
	if err != nil {
		return err
	}
	s := newScan(db, fn)
	if err := s.page(ctx, root, 0); err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	return nil
}

// ErrNoTable is returned for a table that a database does not have.
var ErrNoTable = errors.New("no such table")

// table returns the page where a table begins, from the schema (section 2.6).
func (db *DB) table(ctx context.Context, name string) (root uint32, err error) {
	s := newScan(db, func(_ int64, v []Value) error {
		if len(v) >= 5 && string(v[0].Bytes) == "table" && string(v[1].Bytes) == name && v[3].Int > 0 && v[3].Int <= int64(db.pages) {
			root = uint32(v[3].Int)
		}
		return nil
	})
	if err := s.page(ctx, 1, 0); err != nil {
		return 0, fmt.Errorf("schema: %w", err)
	}
	if root == 0 {
		return 0, fmt.Errorf("%s: %w", name, ErrNoTable)
	}
	return root, nil
}

// scan goes through a table. No page is visited twice, which bounds its time.
type scan struct {
	db      *DB
	fn      func(rowid int64, values []Value) error
	seen    map[uint32]bool // a log may claim more pages than there can be
	payload []byte
	extra   []byte // an overflow page
	values  []Value
}

func newScan(db *DB, fn func(int64, []Value) error) *scan {
	return &scan{db: db, fn: fn, seen: map[uint32]bool{}, extra: make([]byte, db.pageSize)}
}

// visit notes a page, and returns an error for one that was met before.
func (s *scan) visit(number uint32) error {
	if number == 0 || number > s.db.pages {
		return fmt.Errorf("page %d of %d", number, s.db.pages)
	}
	if s.seen[number] {
		return fmt.Errorf("page %d: is there twice", number)
	}
	s.seen[number] = true
	return nil
}

// page goes through the page of a b-tree and all below it.
func (s *scan) page(ctx context.Context, number uint32, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth == maxDepth {
		return fmt.Errorf("page %d: %d levels deep", number, depth)
	}
	if err := s.visit(number); err != nil {
		return err
	}
	b := make([]byte, s.db.pageSize)
	if err := s.db.page(number, b); err != nil {
		return err
	}
	b = b[:s.db.usable]
	p, err := parsePage(b, number == 1)
	if err != nil {
		return fmt.Errorf("page %d: %w", number, err)
	}
	for i := range p.cells {
		off, err := p.cell(b, i)
		if err != nil {
			return fmt.Errorf("page %d: %w", number, err)
		}
		if p.kind == leafTable {
			err = s.row(b[off:])
		} else if len(b)-off < 4 {
			err = errVarint
		} else {
			if err := s.page(ctx, binary.BigEndian.Uint32(b[off:]), depth+1); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("page %d, row %d: %w", number, i, err)
		}
	}
	if p.kind == interiorTable {
		return s.page(ctx, p.right, depth+1)
	}
	return nil
}

// row reads a cell of a leaf.
func (s *scan) row(cell []byte) error {
	size, cell, err := varint(cell)
	if err != nil {
		return err
	}
	rowid, cell, err := varint(cell)
	if err != nil {
		return err
	}
	if size > MaxRow || size > uint64(s.db.pages)*uint64(s.db.pageSize) {
		return fmt.Errorf("%d bytes: too many", size)
	}
	payload, err := s.gather(cell, int(size))
	if err != nil {
		return err
	}
	if s.values, err = parseRecord(payload, s.values); err != nil {
		return err
	}
	return s.fn(int64(rowid), s.values)
}

// gather returns the payload of a cell with what is on overflow pages (section 1.6).
func (s *scan) gather(cell []byte, size int) ([]byte, error) {
	local := size
	if most := s.db.usable - 35; size > most {
		least := (s.db.usable-12)*32/255 - 23
		if local = least + (size-least)%(s.db.usable-4); local > most {
			local = least
		}
	}
	if local == size {
		if size > len(cell) {
			return nil, errors.New("goes over the end of the page")
		}
		return cell[:size], nil
	}
	if local+4 > len(cell) {
		return nil, errors.New("goes over the end of the page")
	}
	s.payload = append(s.payload[:0], cell[:local]...)
	next := binary.BigEndian.Uint32(cell[local:])
	for len(s.payload) < size {
		if err := s.visit(next); err != nil {
			return nil, fmt.Errorf("overflow: %w", err)
		}
		if err := s.db.page(next, s.extra); err != nil {
			return nil, fmt.Errorf("overflow: %w", err)
		}
		n := min(size-len(s.payload), s.db.usable-4)
		s.payload = append(s.payload, s.extra[4:4+n]...)
		next = binary.BigEndian.Uint32(s.extra)
	}
	return s.payload, nil
}
