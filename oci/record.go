package oci

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"

	"imgbuild/content"
	"imgbuild/oci/internal/tar"
	"imgbuild/tree"
)

// A record is what the cache knows of an unpacked layer beside its spool. Its
// file is
//
//	magic[8] version u32
//	diff_id[32] flags u8 boot str
//	spool size uvarint, spool mtime varint, hash id str
//	holes: count uvarint, then per hole start and length, uvarint each
//	strings: count uvarint, then str each; of extended attributes
//	entries: count uvarint, then
//	    bytes of the path shared with the entry before uvarint, rest str
//	    mode uvarint; 0 for a hard link, followed by its target str alone
//	    uid uvarint, gid uvarint, mtime varint
//	    xattrs: count uvarint, then indexes of name and value, uvarint each
//	    regular file: size uvarint, offset in the spool uvarint, segments
//	        uvarint: 0 for a plain file, else one more than their number, then
//	        per segment offset and length, uvarint each
//	    symbolic link: target str
//	    device: major uvarint, minor uvarint
//	    regular file or symbolic link: u8 1 and object checksum[32], or u8 0
//	SHA-256[32] of all the above
//
// where str is a length (uvarint) and bytes, fixed integers are little-endian,
// and uvarint and varint are those of encoding/binary. Times are nanoseconds
// for the spool and seconds for entries.
type record struct {
	diffID     [32]byte
	durable    bool   // the spool is known to be on disk
	boot       string // id of the boot in which it was written
	spoolSize  int64
	spoolMtime int64
	hashID     string
	holes      []content.Range
	entries    []entry
}

const (
	recordMagic   = "imgbLayr"
	recordVersion = 1
	recordDurable = 1 // flag

	// maxRecord bounds the file in bytes. 4 million entries have 400 MB.
	maxRecord = 1 << 30
	// maxRecordPaths bounds the paths, which are shortened in the file.
	maxRecordPaths = 1 << 30
)

func (r *record) encode() []byte {
	b := make([]byte, 0, 4096+96*len(r.entries))
	b = append(b, recordMagic...)
	b = binary.LittleEndian.AppendUint32(b, recordVersion)
	b = append(b, r.diffID[:]...)
	flags := byte(0)
	if r.durable {
		flags |= recordDurable
	}
	b = append(b, flags)
	b = appendString(b, r.boot)
	b = binary.AppendUvarint(b, uint64(r.spoolSize))
	b = binary.AppendVarint(b, r.spoolMtime)
	b = appendString(b, r.hashID)
	b = binary.AppendUvarint(b, uint64(len(r.holes)))
	for _, h := range r.holes {
		b = binary.AppendUvarint(b, uint64(h.Start))
		b = binary.AppendUvarint(b, uint64(h.End-h.Start))
	}
	table, index := r.stringTable()
	b = binary.AppendUvarint(b, uint64(len(table)))
	for _, s := range table {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(r.entries)))
	last := ""
	for k := range r.entries {
		e := &r.entries[k]
		n := sharedPrefix(last, e.path)
		b = binary.AppendUvarint(b, uint64(n))
		b = appendString(b, e.path[n:])
		b = e.append(b, index)
		last = e.path
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func (r *record) stringTable() (table []string, index map[string]uint64) {
	index = make(map[string]uint64)
	for k := range r.entries {
		if r.entries[k].inode == nil {
			continue
		}
		for _, x := range r.entries[k].inode.Xattrs {
			for _, s := range []string{x.Name, x.Value} {
				if _, ok := index[s]; !ok {
					index[s] = uint64(len(table))
					table = append(table, s)
				}
			}
		}
	}
	return table, index
}

func (e *entry) append(b []byte, index map[string]uint64) []byte {
	i := e.inode
	if i == nil {
		b = binary.AppendUvarint(b, 0)
		return appendString(b, e.extra.target)
	}
	b = binary.AppendUvarint(b, uint64(i.Mode))
	b = binary.AppendUvarint(b, uint64(i.UID))
	b = binary.AppendUvarint(b, uint64(i.GID))
	b = binary.AppendVarint(b, i.Mtime)
	b = binary.AppendUvarint(b, uint64(len(i.Xattrs)))
	for _, x := range i.Xattrs {
		b = binary.AppendUvarint(b, index[x.Name])
		b = binary.AppendUvarint(b, index[x.Value])
	}
	switch i.Type() {
	case tree.TypeFile:
		b = binary.AppendUvarint(b, uint64(i.Content.Size()))
		b = binary.AppendUvarint(b, uint64(e.off))
		if e.extra == nil {
			b = append(b, 0)
			break
		}
		b = binary.AppendUvarint(b, uint64(len(e.extra.data))+1)
		for _, s := range e.extra.data {
			b = binary.AppendUvarint(b, uint64(s.Offset))
			b = binary.AppendUvarint(b, uint64(s.Length))
		}
	case tree.TypeLink:
		b = appendString(b, i.Target)
	case tree.TypeChar, tree.TypeBlock:
		b = binary.AppendUvarint(b, uint64(i.Major))
		b = binary.AppendUvarint(b, uint64(i.Minor))
	}
	if i.IsFile() || i.IsLink() {
		if i.Object == (tree.Sum{}) {
			return append(b, 0)
		}
		b = append(b, 1)
		b = append(b, i.Object[:]...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

var errRecord = errors.New("damaged record")

// decodeRecord parses a record. The content of its inodes is pending.
func decodeRecord(b []byte) (*record, error) {
	n := len(b) - sha256.Size
	if n < len(recordMagic)+4 || string(b[:len(recordMagic)]) != recordMagic {
		return nil, errRecord
	}
	if sum := sha256.Sum256(b[:n]); !bytes.Equal(sum[:], b[n:]) {
		return nil, errRecord
	}
	return decodeBody(b[len(recordMagic):n])
}

// decodeBody parses what lies between the magic and the checksum.
func decodeBody(b []byte) (*record, error) {
	if len(b) < 4 || binary.LittleEndian.Uint32(b) != recordVersion {
		return nil, errRecord
	}
	d := &decoder{b: b[4:]}
	r := &record{}
	copy(r.diffID[:], d.take(len(r.diffID)))
	r.durable = d.byte()&recordDurable != 0
	r.boot = d.string()
	r.spoolSize = d.int63()
	r.spoolMtime = d.varint()
	r.hashID = d.string()
	pos := int64(0)
	for range d.count(2) {
		start, length := d.int63(), d.int63()
		if start < pos || length == 0 || length > r.spoolSize-start {
			d.bad = true
			break
		}
		pos = start + length
		r.holes = append(r.holes, content.Range{Start: start, End: pos})
	}
	table := make([]string, d.count(1))
	for k := range table {
		table[k] = d.string()
	}
	count := d.count(4)
	r.entries = make([]entry, 0, count)
	var alloc slab
	last, paths := "", 0
	for range count {
		n := d.int63()
		if n > int64(len(last)) {
			return nil, errRecord
		}
		e := entry{path: last[:n] + d.string()}
		if paths += len(e.path); paths > maxRecordPaths {
			return nil, errRecord
		}
		if clean, err := cleanPath("/" + e.path); err != nil || clean != e.path {
			return nil, errRecord
		}
		e.decode(d, table, &alloc)
		if d.bad {
			return nil, errRecord
		}
		last = e.path
		r.entries = append(r.entries, e)
	}
	if d.bad || len(d.b) > 0 {
		return nil, errRecord
	}
	return r, nil
}

func (e *entry) decode(d *decoder, table []string, alloc *slab) {
	mode := d.uint32()
	if mode == 0 {
		e.extra = &extra{target: d.string()}
		clean, err := cleanPath("/" + e.extra.target)
		d.bad = d.bad || err != nil || clean != e.extra.target || clean == "" || e.path == ""
		return
	}
	d.bad = d.bad || mode&^(tree.TypeMask|tree.PermMask) != 0
	i := alloc.new(mode)
	e.inode = i
	i.UID, i.GID, i.Mtime = d.uint32(), d.uint32(), d.varint()
	if n := d.count(2); n > 0 {
		i.Xattrs = make([]tree.Xattr, n)
		for k := range i.Xattrs {
			name, value := d.int63(), d.int63()
			if name >= int64(len(table)) || value >= int64(len(table)) || k > 0 && table[name] <= i.Xattrs[k-1].Name {
				d.bad = true
				return
			}
			i.Xattrs[k] = tree.Xattr{Name: table[name], Value: table[value]}
		}
	}
	switch i.Type() {
	case tree.TypeFile:
		e.decodeFile(d)
	case tree.TypeLink:
		i.Target = d.string()
		d.bad = d.bad || checkTarget(i.Target) != nil
	case tree.TypeChar, tree.TypeBlock:
		i.Major, i.Minor = d.uint32(), d.uint32()
	case tree.TypeDir, tree.TypeFIFO:
	default:
		d.bad = true
	}
	if e.path == "" && !i.IsDir() {
		d.bad = true
	}
	if (i.IsFile() || i.IsLink()) && d.byte() == 1 {
		copy(i.Object[:], d.take(len(i.Object)))
	}
}

func (e *entry) decodeFile(d *decoder) {
	size := d.int63()
	e.off = d.int63()
	e.inode.Content = content.NewRef(pending{}, e.off, size)
	n := d.count(0)
	if n == 0 {
		return
	}
	if n--; n > len(d.b)/2 {
		d.bad = true
		return
	}
	e.extra = &extra{sparse: true, data: make([]tar.Segment, n)}
	for k := range e.extra.data {
		e.extra.data[k] = tar.Segment{Offset: d.int63(), Length: d.int63()}
	}
}

// decoder reads the parts of a record. bad sticks; everything is zero then.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int63() int64 {
	v := d.uvarint()
	if v > math.MaxInt64 {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.bad = true
		return 0
	}
	return uint32(v)
}

// count reads a number of things of at least size bytes each.
func (d *decoder) count(size int) int {
	v := d.uvarint()
	if v > uint64(len(d.b))/uint64(max(size, 1))+1 {
		d.bad = true
	}
	if d.bad {
		return 0
	}
	return int(v)
}

func (d *decoder) string() string { return string(d.take(int(min(d.uvarint(), math.MaxInt32)))) }
