package iso

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/tree"
)

// file is the content of a regular file on the ISO; hard links share it.
type file struct {
	size   int64
	block  int64 // once placed
	data   content.Ref
	stream *Stream // in place of data
	links  uint32
}

// extents returns the number of directory records that the file takes.
func (f *file) extents() int { return max(1, int((f.size+maxExtent-1)/maxExtent)) }

// hierarchy is one of the two trees of directories over the same files.
type hierarchy struct {
	joliet bool
	dirs   []*dir // in the order of the path table, the root first
	area   area   // of Rock Ridge
	// Sizes in bytes and, once placed, blocks. A hierarchy is there twice, and
	// each of these is the first of its copy.
	tableSize int64
	at        [2]place
}

// place is where a copy of a hierarchy is, in blocks from the start of the ISO.
// Addresses in it count from base.
type place struct {
	base           int64
	tableL, tableM int64
	dirs, area     int64
}

// dir is a directory.
type dir struct {
	id     string
	parent *dir // of the root, the root
	inode  *tree.Inode
	path   string
	number int // from 1, in the path table
	// entries are ascending by identifier, subdirectories among them.
	entries []*entry
	records []*entry // "." and ".." in front of entries
	size    int64    // bytes, whole blocks
	offset  int64    // in blocks from the first directory of the hierarchy
}

// entry is a name in a directory.
type entry struct {
	id    string
	inode *tree.Inode
	dir   *dir  // for a directory
	file  *file // for a regular file
	use   []byte
	ce    int // offset in use of its CE entry, or -1
}

// length returns the bytes of one directory record of the entry.
func (e *entry) length() int { return recordLength(len(e.id), len(e.use)) }

func recordLength(id, use int) int {
	n := sizeRecord + id
	n += n & 1 // what follows begins at an even offset
	n += use
	return n + n&1
}

// newHierarchy returns the directories of a tree. Joliet has regular files and
// directories only. Sizes are worked out, addresses are not.
func newHierarchy(root *tree.Inode, joliet bool, files map[*tree.Inode]*file) (*hierarchy, error) {
	h := &hierarchy{joliet: joliet}
	top := &dir{id: "\x00", inode: root, path: "/", number: 1}
	top.parent = top
	h.dirs = []*dir{top}
	for k := 0; k < len(h.dirs); k++ {
		if len(h.dirs) > 0xFFFF {
			return nil, fmt.Errorf("%s: more than %d directories", h.dirs[k].path, 0xFFFF)
		}
		h.fill(h.dirs[k], files)
	}
	for _, d := range h.dirs {
		h.tableSize += int64(pathRecordLength(d.id))
	}
	offset := int64(0)
	for _, d := range h.dirs {
		h.describe(d)
		d.offset = offset
		offset += d.size / BlockSize
	}
	return h, nil
}

// fill makes the entries of d and appends its directories to the list.
func (h *hierarchy) fill(d *dir, files map[*tree.Inode]*file) {
	var kept []tree.Entry
	var names []string
	for _, e := range d.inode.Entries() {
		if !h.joliet || e.Inode.IsDir() || e.Inode.IsFile() {
			kept = append(kept, e)
			names = append(names, e.Name)
		}
	}
	var ids []string
	if h.joliet {
		ids = jolietIDs(names)
	} else {
		ids = isoIDs(names, func(i int) bool { return kept[i].Inode.IsDir() })
	}
	for i, id := range ids {
		inode := kept[i].Inode
		e := &entry{id: id, inode: inode, file: files[inode], ce: -1}
		if inode.IsDir() {
			e.dir = &dir{id: id, parent: d, inode: inode, path: strings.TrimSuffix(d.path, "/") + "/" + kept[i].Name}
		}
		d.entries = append(d.entries, e)
		if !h.joliet {
			e.use, e.ce = h.area.pack(rockRidge(kept[i].Name, e), maxRecord-recordLength(len(id), 0))
		}
	}
	slices.SortStableFunc(d.entries, func(a, b *entry) int { return h.compare(a.id, b.id) })
	for _, e := range d.entries {
		if e.dir != nil {
			e.dir.number = len(h.dirs) + 1
			h.dirs = append(h.dirs, e.dir)
		}
	}
}

// compare orders identifiers as ECMA-119 9.3 wants it: by name, then extension, the
// shorter of two first; the version, which all files have, is no part of it. Joliet
// compares characters, and big-endian bytes do that.
func (h *hierarchy) compare(a, b string) int {
	if h.joliet {
		return strings.Compare(a, b)
	}
	aName, aExt, _ := strings.Cut(a, ".")
	bName, bExt, _ := strings.Cut(b, ".")
	if c := strings.Compare(aName, bName); c != 0 {
		return c
	}
	aExt, _, _ = strings.Cut(aExt, ";")
	bExt, _, _ = strings.Cut(bExt, ";")
	return cmp.Or(strings.Compare(aExt, bExt), strings.Compare(a, b))
}

// rockRidge returns the entries of a name.
func rockRidge(name string, e *entry) [][]byte {
	i := e.inode
	entries := append(suNM(name), suPX(i, links(e)), suTF(i.Mtime))
	switch i.Type() {
	case tree.TypeLink:
		entries = append(entries, suSL(i.Target)...)
	case tree.TypeBlock, tree.TypeChar:
		entries = append(entries, suPN(i.Major, i.Minor))
	}
	return entries
}

func links(e *entry) uint32 {
	switch {
	case e.inode.IsDir():
		return dirLinks(e.inode)
	case e.file != nil:
		return e.file.links
	}
	return 1
}

func dirLinks(i *tree.Inode) uint32 {
	n := uint32(2)
	for _, e := range i.Entries() {
		if e.Inode.IsDir() {
			n++
		}
	}
	return n
}

// describe makes the records of d, and its size.
func (h *hierarchy) describe(d *dir) {
	self := &entry{id: "\x00", inode: d.inode, dir: d, ce: -1}
	up := &entry{id: "\x01", inode: d.parent.inode, dir: d.parent, ce: -1}
	if !h.joliet {
		room := maxRecord - recordLength(1, 0)
		var first [][]byte
		if d.parent == d {
			first = [][]byte{suSP()}
		}
		first = append(first, suPX(d.inode, dirLinks(d.inode)), suTF(d.inode.Mtime))
		if d.parent == d {
			first = append(first, suER())
		}
		self.use, self.ce = h.area.pack(first, room)
		up.use, up.ce = h.area.pack([][]byte{suPX(up.inode, dirLinks(up.inode)), suTF(up.inode.Mtime)}, room)
	}
	d.records = append([]*entry{self, up}, d.entries...)
	size := int64(0)
	for _, e := range d.records {
		n := 1
		if e.file != nil {
			n = e.file.extents()
		}
		for range n {
			size = fit(size, e.length()) + int64(e.length())
		}
	}
	d.size = blocks(size) * BlockSize
}

// fit returns where a record of n bytes goes that comes at off: it does not cross
// the end of a block.
func fit(off int64, n int) int64 {
	if off%BlockSize+int64(n) > BlockSize {
		return blocks(off) * BlockSize
	}
	return off
}

// dirBlocks returns the number of blocks of all directories.
func (h *hierarchy) dirBlocks() int64 {
	last := h.dirs[len(h.dirs)-1]
	return last.offset + last.size/BlockSize
}

// place gives addresses to a copy of the hierarchy, and returns the block behind
// it. Files must have theirs when it is encoded.
func (h *hierarchy) place(set int, base, at int64) int64 {
	p := place{base: base, tableL: at}
	p.tableM = p.tableL + blocks(h.tableSize)
	p.dirs = p.tableM + blocks(h.tableSize)
	p.area = p.dirs + h.dirBlocks()
	h.at[set] = p
	return p.area + blocks(int64(len(h.area.b)))
}

// encode returns the bytes of a copy, from its first path table on.
func (h *hierarchy) encode(set int) []byte {
	p := h.at[set]
	end := p.area + blocks(int64(len(h.area.b)))
	b := make([]byte, (end-p.tableL)*BlockSize)
	h.encodeTable(b[:h.tableSize], p, binary.LittleEndian)
	h.encodeTable(b[(p.tableM-p.tableL)*BlockSize:][:h.tableSize], p, binary.BigEndian)
	for _, d := range h.dirs {
		h.encodeDir(b[(p.dirs-p.tableL+d.offset)*BlockSize:][:d.size], p, d)
	}
	area := bytes.Clone(h.area.b)
	for _, ce := range h.area.ce {
		placeCE(area[ce:], p.area-p.base)
	}
	copy(b[(p.area-p.tableL)*BlockSize:], area)
	return b
}

func pathRecordLength(id string) int { return 8 + len(id) + len(id)&1 }

// encodeTable writes a path table (ECMA-119 9.4).
func (h *hierarchy) encodeTable(b []byte, p place, order binary.ByteOrder) {
	for _, d := range h.dirs {
		b[0] = byte(len(d.id))
		order.PutUint32(b[2:], uint32(p.dirs+d.offset-p.base))
		order.PutUint16(b[6:], uint16(d.parent.number))
		copy(b[8:], d.id)
		b = b[pathRecordLength(d.id):]
	}
}

// encodeDir writes the records of a directory.
func (h *hierarchy) encodeDir(b []byte, p place, d *dir) {
	off := int64(0)
	put := func(e *entry, block, size int64, flags recordFlags) {
		off = fit(off, e.length())
		r := b[off:][:e.length()]
		off += int64(len(r))
		r[recLength] = byte(len(r))
		putBoth32(r[recBlock:], uint32(block-p.base))
		putBoth32(r[recSize:], uint32(size))
		putTime(r[recTime:], e.inode.Mtime)
		r[recFlags] = byte(flags)
		putBoth16(r[recSequence:], 1)
		r[recIDLength] = byte(len(e.id))
		copy(r[recID:], e.id)
		use := r[recordLength(len(e.id), 0):]
		copy(use, e.use)
		if e.ce >= 0 {
			placeCE(use[e.ce:], p.area-p.base)
		}
	}
	for _, e := range d.records {
		switch {
		case e.dir != nil:
			put(e, p.dirs+e.dir.offset, e.dir.size, flagDirectory)
		case e.file != nil:
			block, rest := e.file.block, e.file.size
			for rest > maxExtent {
				put(e, block, maxExtent, flagMore)
				block += maxExtent / BlockSize
				rest -= maxExtent
			}
			put(e, block, rest, 0)
		default:
			put(e, p.base, 0, 0)
		}
	}
}

// root returns the directory record of the root for a descriptor: 34 bytes.
func (h *hierarchy) root(set int) []byte {
	p, top := h.at[set], h.dirs[0]
	r := make([]byte, sizeRecord+1)
	r[recLength] = byte(len(r))
	putBoth32(r[recBlock:], uint32(p.dirs-p.base))
	putBoth32(r[recSize:], uint32(top.size))
	putTime(r[recTime:], top.inode.Mtime)
	r[recFlags] = byte(flagDirectory)
	putBoth16(r[recSequence:], 1)
	r[recIDLength] = 1
	return r
}
