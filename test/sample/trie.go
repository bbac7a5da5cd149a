package main

import (
	"encoding/binary"
	"maps"
	"slices"
)

// The binary index of kmod, as libkmod/libkmod-index.c describes it, version
// 2.1: a trie in which a node holds the characters that all keys below it
// share. All numbers are big endian. The file starts with
//
//	u32 magic, u32 version, u32 root
//
// where root and the links between nodes are file offsets with flags in the
// upper bits. The flags tell which parts the node has, in this order:
//
//	nodePrefix:   the shared characters, NUL-terminated
//	nodeChildren: u8 first, u8 last, u32 node[last-first+1], 0 for none
//	nodeValues:   u32 count, then for each: u32 priority, NUL-terminated value
const (
	indexMagic   = 0xB007F457
	indexVersion = 0x00020001

	nodePrefix   = 0x80000000
	nodeValues   = 0x40000000
	nodeChildren = 0x20000000
)

type trie struct {
	prefix   string
	children map[byte]*trie // by the character that leads to them
	values   []trieValue    // ascending by priority
}

type trieValue struct {
	value    string
	priority uint32
}

func newTrie() *trie { return &trie{children: make(map[byte]*trie)} }

// insert adds a value under a key.
func (t *trie) insert(key, value string, priority uint32) {
	for {
		n := 0
		for n < len(t.prefix) && n < len(key) && t.prefix[n] == key[n] {
			n++
		}
		if n < len(t.prefix) {
			t.split(n)
		}
		if key = key[n:]; key == "" {
			break
		}
		child := t.children[key[0]]
		if child == nil {
			child = newTrie()
			child.prefix = key[1:]
			t.children[key[0]] = child
		}
		t, key = child, key[1:]
	}
	v := trieValue{value, priority}
	if slices.Contains(t.values, v) {
		return
	}
	at := len(t.values)
	for at > 0 && t.values[at-1].priority > priority {
		at--
	}
	t.values = slices.Insert(t.values, at, v)
}

// split moves what follows the first n characters of the prefix to a child.
func (t *trie) split(n int) {
	child := &trie{prefix: t.prefix[n+1:], children: t.children, values: t.values}
	*t = trie{prefix: t.prefix[:n], children: map[byte]*trie{t.prefix[n]: child}}
}

// encode returns the file.
func (t *trie) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, indexMagic)
	b = binary.BigEndian.AppendUint32(b, indexVersion)
	b = append(b, 0, 0, 0, 0)
	b, root := t.append(b)
	binary.BigEndian.PutUint32(b[8:], root)
	return b
}

// append writes t, then the nodes below it, as depmod does, and returns the
// link to t.
func (t *trie) append(b []byte) (out []byte, link uint32) {
	link = uint32(len(b))
	if t.prefix != "" {
		link |= nodePrefix
		b = append(append(b, t.prefix...), 0)
	}
	characters := slices.Sorted(maps.Keys(t.children))
	links := 0 // where the first one goes
	if len(characters) > 0 {
		link |= nodeChildren
		first, last := characters[0], characters[len(characters)-1]
		b = append(b, first, last)
		links = len(b)
		b = append(b, make([]byte, 4*(int(last)-int(first)+1))...)
	}
	if len(t.values) > 0 {
		link |= nodeValues
		b = binary.BigEndian.AppendUint32(b, uint32(len(t.values)))
		for _, v := range t.values {
			b = binary.BigEndian.AppendUint32(b, v.priority)
			b = append(append(b, v.value...), 0)
		}
	}
	for _, c := range characters {
		var child uint32
		b, child = t.children[c].append(b)
		binary.BigEndian.PutUint32(b[links+4*int(c-characters[0]):], child)
	}
	return b, link
}
