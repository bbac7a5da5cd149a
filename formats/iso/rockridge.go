package iso

import (
	"encoding/binary"
	"strings"

	"imgbuild/tree"
)

// Entries of the System Use Sharing Protocol 1.10 and of Rock Ridge 1.10.
// Everything is in both byte orders.
const (
	suHeader = 4   // signature, length, version
	maxSU    = 255 // length of an entry
	sizeCE   = 28
	sizePX   = 36
	sizeTF   = 26
	sizePN   = 20

	nmContinue = 1 // the name goes on in the next entry
	slContinue = 1 // the link goes on in the next entry
	compMore   = 1 // the component goes on in the next record
	compCur    = 2
	compParent = 4
	compRoot   = 8

	tfModify     = 1 << 1
	tfAccess     = 1 << 2
	tfAttributes = 1 << 3
)

// The extension that the entries are of; GRUB and others look for it.
const (
	erID         = "RRIP_1991A"
	erDescriptor = "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"
	erSource     = "PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION."
)

// su returns an entry with room for n bytes behind its header.
func su(signature string, n int) []byte {
	b := make([]byte, suHeader+n)
	copy(b, signature)
	b[2], b[3] = byte(len(b)), 1
	return b
}

// suSP is the first entry of the root: that there are entries.
func suSP() []byte {
	b := su("SP", 3)
	b[4], b[5] = 0xBE, 0xEF
	return b
}

// suER names the extension.
func suER() []byte {
	b := su("ER", 4)
	b[4], b[5], b[6], b[7] = byte(len(erID)), byte(len(erDescriptor)), byte(len(erSource)), 1
	b = append(b, erID+erDescriptor+erSource...)
	b[2] = byte(len(b))
	return b
}

// suPX is mode, links and owner.
func suPX(i *tree.Inode, links uint32) []byte {
	b := su("PX", sizePX-suHeader)
	putBoth32(b[4:], i.Mode)
	putBoth32(b[12:], links)
	putBoth32(b[20:], i.UID)
	putBoth32(b[28:], i.GID)
	return b
}

// suTF is the times, of which a tree has one.
func suTF(mtime int64) []byte {
	b := su("TF", sizeTF-suHeader)
	b[4] = tfModify | tfAccess | tfAttributes
	for k := range 3 {
		putTime(b[5+k*sizeTime:], mtime)
	}
	return b
}

// suPN is the numbers of a device.
func suPN(major, minor uint32) []byte {
	b := su("PN", sizePN-suHeader)
	putBoth32(b[4:], major)
	putBoth32(b[12:], minor)
	return b
}

// suNM is the name, in as many entries as it needs.
func suNM(name string) [][]byte {
	const room = maxSU - suHeader - 1
	var out [][]byte
	for {
		n := min(len(name), room)
		b := append(su("NM", 1), name[:n]...)
		b[2] = byte(len(b))
		out = append(out, b)
		if name = name[n:]; name == "" {
			return out
		}
		b[4] = nmContinue
	}
}

// suSL is the target of a symbolic link, in as many entries as it needs.
func suSL(target string) [][]byte {
	const room = maxSU - suHeader - 1
	var out [][]byte
	entry := su("SL", 1)
	flush := func() {
		entry[2] = byte(len(entry))
		out = append(out, entry)
		entry = su("SL", 1)
	}
	put := func(flags byte, text string) {
		if len(entry)-suHeader-1+2+len(text) > room {
			entry[4] = slContinue
			flush()
		}
		entry = append(append(entry, flags, byte(len(text))), text...)
	}
	if strings.HasPrefix(target, "/") {
		put(compRoot, "")
	}
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "":
		case ".":
			put(compCur, "")
		case "..":
			put(compParent, "")
		default:
			for len(part) > room-2 {
				put(compMore, part[:room-2])
				part = part[room-2:]
			}
			put(0, part)
		}
	}
	flush()
	return out
}

// area is the continuation areas of a hierarchy: what does not fit the records.
// The blocks in its CE entries count from its beginning until placed.
type area struct {
	b  []byte
	ce []int // offsets in b of CE entries
}

// pack distributes entries over a record with room bytes and the area. It
// returns what goes into the record; ce is the offset of its CE entry, or -1.
func (a *area) pack(entries [][]byte, room int) (inline []byte, ce int) {
	inline, rest := take(entries, room)
	if len(rest) == 0 {
		return inline, -1
	}
	ce = len(inline)
	inline = append(inline, su("CE", sizeCE-suHeader)...)
	point := -1 // offset in the area of the entry that says where the next part is
	for len(rest) > 0 {
		// A part lies within a block: Linux reads it at once. What is left of
		// one is used where that leaves no entry behind.
		free := BlockSize - len(a.b)%BlockSize
		part, next := take(rest, free)
		if len(next) > 0 && free < BlockSize {
			a.b = append(a.b, make([]byte, free)...)
			part, next = take(rest, BlockSize)
		}
		at, n := len(a.b), len(part)
		a.b = append(a.b, part...)
		if len(next) > 0 {
			n += sizeCE
		}
		from := inline[ce:]
		if point >= 0 {
			from = a.b[point:]
		}
		putBoth32(from[4:], uint32(at/BlockSize))
		putBoth32(from[12:], uint32(at%BlockSize))
		putBoth32(from[20:], uint32(n))
		if len(next) > 0 {
			point = len(a.b)
			a.ce = append(a.ce, point)
			a.b = append(a.b, su("CE", sizeCE-suHeader)...)
		}
		rest = next
	}
	return inline, ce
}

// placeCE makes the block in a CE entry count from block at.
func placeCE(entry []byte, at int64) {
	putBoth32(entry[4:], binary.LittleEndian.Uint32(entry[4:])+uint32(at))
}

// take returns as many of the entries as fit into room, with place left for a CE
// entry unless all do, and the others.
func take(entries [][]byte, room int) (part []byte, rest [][]byte) {
	total := 0
	for _, e := range entries {
		total += len(e)
	}
	limit := room
	if total > room {
		limit -= sizeCE
	}
	for k, e := range entries {
		if len(part)+len(e) > limit {
			return part, entries[k:]
		}
		part = append(part, e...)
	}
	return part, nil
}
