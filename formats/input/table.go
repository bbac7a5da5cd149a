package input

// tableChunk is how much of a table is read at once, and tableChunks how many of
// those are kept: 4 MiB of the tables of one kind.
const (
	tableChunk  = 64 << 10
	tableChunks = 64
)

// Table is a table of the file that is read when it is needed.
type Table struct {
	f      *File
	off    int64
	size   int64
	entry  int64
	chunks *Cache[int64]
}

// NewTable returns the table of n entries of entry bytes, a power of two up to
// 4096, at off of the file, in which it must be.
func NewTable(f *File, off, n, entry int64) (*Table, error) {
	if n < 0 || n > f.Size()/entry {
		return nil, Bad("a table of %d entries in a file of %d bytes", n, f.Size())
	}
	if err := f.check(off, n*entry); err != nil {
		return nil, err
	}
	return &Table{f: f, off: off, size: n * entry, entry: entry, chunks: NewCache[int64](tableChunks)}, nil
}

// Entry returns the bytes of an entry, whose number must be below that of the
// table.
func (t *Table) Entry(number int64) ([]byte, error) {
	at := number * t.entry
	chunk := at / tableChunk
	b, err := t.chunks.Get(chunk, func() ([]byte, error) {
		from := chunk * tableChunk
		return t.f.Read(t.off+from, min(tableChunk, t.size-from))
	})
	if err != nil {
		return nil, err
	}
	return b[at-chunk*tableChunk:][:t.entry], nil
}
