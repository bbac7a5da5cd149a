package squashfs

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"imgbuild/content"
	"imgbuild/tree"
)

// image is an image that is read back, whoever wrote it.
type image struct {
	t    testing.TB
	b    []byte
	le   binary.ByteOrder
	algo uint16

	blockSize   int
	ids         []uint32
	fragments   []fragment
	inodeTable  int64
	dirTable    int64
	xattrTable  int64
	xattrIDs    []byte
	blocks      map[int64]metaBlock // of metadata, by their place
	byNumber    map[uint32]*tree.Inode
	numbers     map[*tree.Inode]uint32
	exportTable []byte
	places      map[uint32]uint64 // of inodes
	links       map[*tree.Inode]uint32
	sparse      map[*tree.Inode]uint64
	indexes     int // of directories
	last        []byte
	lastIs      uint32 // fragment
}

type metaBlock struct {
	data []byte
	next int64
}

// readImage reads all of an image and fails the test at whatever is wrong.
func readImage(t testing.TB, b []byte) (*image, *tree.Inode) {
	t.Helper()
	le := binary.LittleEndian
	if len(b) < sizeSuperblock || string(b[:4]) != "hsqs" || le.Uint16(b[0x1c:]) != 4 {
		t.Fatal("no squashfs")
	}
	r := &image{
		t: t, b: b, le: le, algo: le.Uint16(b[0x14:]), blockSize: int(le.Uint32(b[0x0c:])),
		inodeTable: int64(le.Uint64(b[0x40:])), dirTable: int64(le.Uint64(b[0x48:])),
		blocks: map[int64]metaBlock{}, byNumber: map[uint32]*tree.Inode{}, numbers: map[*tree.Inode]uint32{},
		places: map[uint32]uint64{}, links: map[*tree.Inode]uint32{}, sparse: map[*tree.Inode]uint64{},
	}
	if used := int64(le.Uint64(b[0x28:])); used > int64(len(b)) || len(b)%4096 != 0 || int64(len(b)) >= used+4096 {
		t.Fatalf("%d bytes used of %d", used, len(b))
	}
	for _, id := range chunks(r.table(le.Uint64(b[0x30:]), int(le.Uint16(b[0x1a:]))*4), 4) {
		r.ids = append(r.ids, le.Uint32(id))
	}
	for _, f := range chunks(r.table(le.Uint64(b[0x50:]), int(le.Uint32(b[0x10:]))*sizeFragment), sizeFragment) {
		r.fragments = append(r.fragments, fragment{le.Uint64(f), le.Uint32(f[8:])})
	}
	inodes := int(le.Uint32(b[0x04:]))
	if x := le.Uint64(b[0x58:]); x != 1<<64-1 { // mksquashfs makes none of an archive
		r.exportTable = r.table(x, inodes*8)
	}
	if x := int64(le.Uint64(b[0x38:])); x != noTable {
		r.xattrTable = int64(le.Uint64(b[x:]))
		r.xattrIDs = r.table(uint64(x)+16, int(le.Uint32(b[x+8:]))*sizeXattrID)
	}
	root := r.inode(le.Uint64(b[0x20:]))
	if len(r.byNumber) != inodes {
		t.Fatalf("%d inodes, and %d are said to be there", len(r.byNumber), inodes)
	}
	for n, place := range r.places {
		if r.exportTable == nil {
			break
		}
		if got := le.Uint64(r.exportTable[(n-1)*8:]); got != place {
			t.Fatalf("inode %d is at %#x, and the table says %#x", n, place, got)
		}
	}
	return r, root
}

func chunks(b []byte, size int) (list [][]byte) {
	for ; len(b) > 0; b = b[size:] {
		list = append(list, b[:size])
	}
	return list
}

// decompress expands a block of at most limit bytes.
func (r *image) decompress(b []byte, limit int) []byte {
	var in io.Reader
	switch r.algo {
	case 1:
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			r.t.Fatal(err)
		}
		in = z
	case 4:
		z, err := xz.ReaderConfig{DictCap: limit, SingleStream: true}.NewReader(bytes.NewReader(b))
		if err != nil {
			r.t.Fatal(err)
		}
		in = z
	case 6:
		// Linux has a window of one block.
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(uint64(limit)))
		if err != nil {
			r.t.Fatal(err)
		}
		defer z.Close()
		in = z
	}
	out, err := io.ReadAll(in)
	if err != nil || len(out) > limit {
		r.t.Fatalf("block of %d bytes: %d, %v", len(b), len(out), err)
	}
	return out
}

// metaAt returns the block of metadata at a place of the image.
func (r *image) metaAt(at int64) metaBlock {
	if m, ok := r.blocks[at]; ok {
		return m
	}
	head := r.le.Uint16(r.b[at:])
	n := int64(head &^ plainMetadata)
	data := r.b[at+2 : at+2+n]
	if head&plainMetadata == 0 {
		data = r.decompress(data, metadataBlock)
	}
	m := metaBlock{data, at + 2 + n}
	r.blocks[at] = m
	return m
}

// table returns n bytes of a table whose list of blocks is at a place.
func (r *image) table(list uint64, n int) (b []byte) {
	for ; len(b) < n; list += 8 {
		m := r.metaAt(int64(r.le.Uint64(r.b[list:])))
		if len(m.data) != min(metadataBlock, n-len(b)) {
			r.t.Fatalf("block of %d bytes in a table", len(m.data))
		}
		b = append(b, m.data...)
	}
	return b
}

// cursor reads metadata.
type cursor struct {
	r     *image
	block metaBlock
	at    int
}

func (r *image) cursor(table int64, place uint64) *cursor {
	return &cursor{r: r, block: r.metaAt(table + int64(place>>16)), at: int(place & 0xffff)}
}

func (c *cursor) take(n int) (b []byte) {
	for len(b) < n {
		if c.at == len(c.block.data) {
			if len(c.block.data) != metadataBlock {
				c.r.t.Fatal("metadata goes on behind a short block")
			}
			c.block, c.at = c.r.metaAt(c.block.next), 0
		}
		k := min(n-len(b), len(c.block.data)-c.at)
		b = append(b, c.block.data[c.at:c.at+k]...)
		c.at += k
	}
	return b
}

func (c *cursor) u16() uint16 { return c.r.le.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return c.r.le.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return c.r.le.Uint64(c.take(8)) }

// inode reads an inode and all that is below it.
func (r *image) inode(place uint64) *tree.Inode {
	c := r.cursor(r.inodeTable, place)
	kind, mode := inodeType(c.u16()), uint32(c.u16())
	uid, gid, mtime, number := c.u16(), c.u16(), c.u32(), c.u32()
	if i, ok := r.byNumber[number]; ok {
		if r.places[number] != place {
			r.t.Fatalf("two inodes have the number %d", number)
		}
		return i
	}
	base := kind
	if kind > extended {
		base -= extended
	}
	i := &tree.Inode{}
	types := map[inodeType]uint32{typeDir: tree.TypeDir, typeFile: tree.TypeFile, typeSymlink: tree.TypeLink, typeBlock: tree.TypeBlock,
		typeChar: tree.TypeChar, typeFIFO: tree.TypeFIFO, typeSocket: tree.TypeSock}
	if base == typeDir {
		i = tree.NewDir(0)
	}
	i.Mode, i.UID, i.GID, i.Mtime = types[base]|mode, r.ids[uid], r.ids[gid], int64(mtime)
	r.byNumber[number], r.numbers[i], r.places[number] = i, number, place
	xattr := uint32(none)
	switch kind {
	case typeDir:
		start, links, size, offset, parent := c.u32(), c.u32(), c.u16(), c.u16(), c.u32()
		r.links[i] = links
		r.list(i, number, parent, uint64(start)<<16|uint64(offset), int(size)-dirExtra, nil)
	case typeDir + extended:
		links, size, start, parent, count, offset := c.u32(), c.u32(), c.u32(), c.u32(), c.u16(), c.u16()
		xattr = c.u32()
		r.links[i] = links
		var index []dirIndex
		for range count {
			d := dirIndex{offset: c.u32(), start: c.u32()}
			d.name = string(c.take(int(c.u32()) + 1))
			index = append(index, d)
		}
		r.indexes += len(index)
		r.list(i, number, parent, uint64(start)<<16|uint64(offset), int(size)-dirExtra, index)
	case typeFile:
		start, frag, offset, size := uint64(c.u32()), c.u32(), c.u32(), uint64(c.u32())
		r.links[i] = 1
		i.Content = r.file(c, start, size, frag, offset)
	case typeFile + extended:
		start, size := c.u64(), c.u64()
		r.sparse[i] = c.u64()
		r.links[i] = c.u32()
		frag, offset := c.u32(), c.u32()
		xattr = c.u32()
		i.Content = r.file(c, start, size, frag, offset)
	default:
		r.links[i] = c.u32()
		switch base {
		case typeSymlink:
			i.Target = string(c.take(int(c.u32())))
		case typeBlock, typeChar:
			dev := c.u32()
			i.Major, i.Minor = dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
		}
		if kind > extended {
			xattr = c.u32()
		}
	}
	if xattr != none {
		r.xattrs(i, xattr)
	}
	return i
}

// list reads the listing of a directory.
func (r *image) list(dir *tree.Inode, number, parent uint32, place uint64, size int, index []dirIndex) {
	c := r.cursor(r.dirTable, place)
	last, used := "", 0
	for used < size {
		if len(index) > 0 && int(index[0].offset) == used {
			// What is there must be found from the index alone.
			d := index[0]
			index = index[1:]
			at := uint64(d.start)<<16 | (uint64(d.offset)+place&0xffff)%metadataBlock
			again := r.cursor(r.dirTable, at)
			again.take(sizeDirHeader + 6)
			if name := string(again.take(int(again.u16()) + 1)); name != d.name {
				r.t.Fatalf("the index leads to %q, not %q", name, d.name)
			}
		}
		count, start, first := c.u32()+1, c.u32(), c.u32()
		used += sizeDirHeader
		if count > 256 {
			r.t.Fatalf("%d entries with one header", count)
		}
		for range count {
			offset, delta, kind, n := c.u16(), int16(c.u16()), c.u16(), int(c.u16())+1
			name := string(c.take(n))
			used += sizeDirEntry + n
			if name <= last {
				r.t.Fatalf("%q is behind %q", name, last)
			}
			last = name
			i := r.inode(uint64(start)<<16 | uint64(offset))
			if got := int64(first) + int64(delta); got != int64(r.numbers[i]) || inodeType(kind) != baseType(i) {
				r.t.Fatalf("%q: inode %d of type %d, not %d", name, got, kind, r.numbers[i])
			}
			dir.Set(name, i)
		}
	}
	if used != size || len(index) > 0 {
		r.t.Fatalf("listing of %d bytes ends at %d", size, used)
	}
}

// file reads the content of a file, whose list of blocks the cursor is at.
func (r *image) file(c *cursor, start, size uint64, frag, offset uint32) content.Ref {
	blocks := (size + uint64(r.blockSize) - 1) / uint64(r.blockSize)
	if frag != none {
		blocks = size / uint64(r.blockSize)
	}
	var out []byte
	for range blocks {
		word := c.u32()
		n := uint64(word &^ plainBlock)
		want := int(min(uint64(r.blockSize), size-uint64(len(out))))
		data := r.b[start : start+n]
		switch {
		case n == 0:
			data = make([]byte, want)
		case word&plainBlock == 0:
			data = r.decompress(data, r.blockSize)
		}
		if len(data) != want {
			r.t.Fatalf("block of %d bytes, want %d", len(data), want)
		}
		out = append(out, data...)
		start += n
	}
	if frag != none {
		f := r.fragments[frag]
		data := r.b[f.start : f.start+uint64(f.size&^plainBlock)]
		if f.size&plainBlock == 0 {
			if r.last == nil || r.lastIs != frag {
				r.last, r.lastIs = r.decompress(data, r.blockSize), frag
			}
			data = r.last
		}
		out = append(out, data[offset:uint64(offset)+size-uint64(len(out))]...)
	}
	return content.Bytes(out)
}

// xattrs reads a set of attributes.
func (r *image) xattrs(i *tree.Inode, set uint32) {
	id := r.xattrIDs[set*sizeXattrID:]
	count, size := r.le.Uint32(id[8:]), r.le.Uint32(id[12:])
	c := r.cursor(r.xattrTable, r.le.Uint64(id))
	total := uint32(0)
	for range count {
		kind, n := c.u16(), c.u16()
		name := xattrSpaces()[kind&0xff] + "." + string(c.take(int(n)))
		value := c.take(int(c.u32()))
		if kind&xattrOut != 0 {
			out := r.cursor(r.xattrTable, r.le.Uint64(value))
			value = out.take(int(out.u32()))
		}
		i.SetXattr(name, string(value))
		total += uint32(len(name) + 1 + len(value))
	}
	if total != size {
		r.t.Fatalf("attributes of %d bytes, not %d", total, size)
	}
}

// compare returns the first differences between what was written and what is
// there.
func compare(want, got *tree.Inode) (found []string) {
	same := map[*tree.Inode]*tree.Inode{}
	tree.Walk(want, func(p string, a *tree.Inode) error {
		b := tree.Lookup(got, p)
		if b == nil {
			found = append(found, p+" is missing")
			return nil
		}
		if other, ok := same[a]; ok != (other == b) {
			found = append(found, p+" is not the same file as its other names")
		}
		same[a] = b
		if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || min(max(a.Mtime, 0), 1<<32-1) != b.Mtime || a.Target != b.Target ||
			a.Major != b.Major || a.Minor != b.Minor || a.Len() != b.Len() || fmt.Sprint(a.Xattrs) != fmt.Sprint(b.Xattrs) {
			found = append(found, fmt.Sprintf("%s: %+v, want %+v", p, b, a))
		}
		if a.Content.Size() != b.Content.Size() {
			found = append(found, fmt.Sprintf("%s: %d bytes, want %d", p, b.Content.Size(), a.Content.Size()))
			return nil
		}
		x, errX := a.Content.ReadAll(1 << 30)
		y, errY := b.Content.ReadAll(1 << 30)
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			found = append(found, fmt.Sprintf("%s: content of %d bytes differs", p, len(x)))
		}
		return nil
	})
	return found[:min(len(found), 10)]
}
