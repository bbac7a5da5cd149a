package ostree

import (
	"encoding/binary"
	"fmt"

	"imgbuild/tree"
)

// Variant is a GVariant "v": a type string and the serialized value.
type Variant struct {
	Type string
	Data []byte
}

// String returns the variant of a string (type s), which must not hold a NUL.
func String(s string) Variant { return Variant{"s", append([]byte(s), 0)} }

// Text returns the value of a variant of type s.
func (v Variant) Text() (string, bool) {
	if v.Type != "s" {
		return "", false
	}
	s, err := parseString(v.Data)
	return s, err == nil
}

// Metadata is an entry of the metadata of a commit.
type Metadata struct {
	Key   string
	Value Variant
}

// Related is a reference to another commit. libostree writes none.
type Related struct {
	Name   string
	Commit tree.Sum
}

// Commit is a commit object.
type Commit struct {
	Metadata []Metadata // in the order written; ostree-ext sorts by key
	Parent   tree.Sum   // zero for none
	Related  []Related
	Subject  string
	Body     string
	Time     int64    // seconds since 1970
	Contents tree.Sum // dirtree of the root
	Meta     tree.Sum // dirmeta of the root
}

// Lookup returns the value of a metadata key.
func (c *Commit) Lookup(key string) (Variant, bool) {
	for _, m := range c.Metadata {
		if m.Key == key {
			return m.Value, true
		}
	}
	return Variant{}, false
}

// Encode returns the commit object: (a{sv}aya(say)sstayay).
func (c *Commit) Encode() []byte {
	n := 256 + len(c.Subject) + len(c.Body)
	for _, m := range c.Metadata {
		n += len(m.Key) + len(m.Value.Data) + 32
	}
	e := encoder{buf: make([]byte, 0, n)}
	commit := e.open(alignUint64)
	e.metadata(c.Metadata)
	e.mark()
	if c.Parent != (tree.Sum{}) {
		e.buf = append(e.buf, c.Parent[:]...)
	}
	e.mark()
	related := e.open(alignByte)
	for _, r := range c.Related {
		entry := e.open(alignByte)
		e.string(r.Name)
		e.mark()
		e.buf = append(e.buf, r.Commit[:]...)
		e.closeTuple(entry)
		e.mark()
	}
	e.closeArray(related)
	e.mark()
	e.string(c.Subject)
	e.mark()
	e.string(c.Body)
	e.mark()
	e.uint64BE(uint64(c.Time))
	e.buf = append(e.buf, c.Contents[:]...)
	e.mark()
	e.buf = append(e.buf, c.Meta[:]...)
	e.closeTuple(commit)
	return e.buf
}

// metadata writes a{sv}.
func (e *encoder) metadata(list []Metadata) {
	array := e.open(alignUint64)
	for _, m := range list {
		entry := e.open(alignUint64)
		e.string(m.Key)
		e.mark()
		e.align(alignUint64)
		e.buf = append(e.buf, m.Value.Data...)
		e.buf = append(e.buf, 0)
		e.buf = append(e.buf, m.Value.Type...)
		e.closeTuple(entry)
		e.mark()
	}
	e.closeArray(array)
}

var commitShape = []member{
	{alignUint64, 0}, // metadata a{sv}
	{alignByte, 0},   // parent ay
	{alignByte, 0},   // related a(say)
	{alignByte, 0},   // subject s
	{alignByte, 0},   // body s
	{alignUint64, 8}, // time t
	{alignByte, 0},   // dirtree ay
	{alignByte, 0},   // dirmeta ay
}

// ParseCommit reads a commit object, which must be in normal form. The values
// of the metadata are not looked into.
func ParseCommit(b []byte) (*Commit, error) {
	c, err := parseCommit(b)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return c, normal("commit", b, c.Encode())
}

func parseCommit(b []byte) (*Commit, error) {
	var m [8][]byte
	if err := splitTuple(b, commitShape, m[:]); err != nil {
		return nil, err
	}
	c := &Commit{Time: int64(binary.BigEndian.Uint64(m[5]))}
	var err error
	if c.Metadata, err = parseMetadata(m[0]); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(m[1]) > 0 {
		if c.Parent, err = parseSum(m[1]); err != nil {
			return nil, fmt.Errorf("parent: %w", err)
		}
	}
	related, err := splitArray(m[2], alignByte)
	if err != nil {
		return nil, fmt.Errorf("related: %w", err)
	}
	for _, element := range related {
		name, sums, err := parseDirEntry(element, 1)
		if err != nil {
			return nil, fmt.Errorf("related: %w", err)
		}
		c.Related = append(c.Related, Related{name, sums[0]})
	}
	if c.Subject, err = parseString(m[3]); err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	if c.Body, err = parseString(m[4]); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if c.Contents, err = parseSum(m[6]); err != nil {
		return nil, fmt.Errorf("dirtree: %w", err)
	}
	if c.Meta, err = parseSum(m[7]); err != nil {
		return nil, fmt.Errorf("dirmeta: %w", err)
	}
	return c, nil
}

func parseMetadata(b []byte) ([]Metadata, error) {
	entries, err := splitArray(b, alignUint64)
	if err != nil {
		return nil, err
	}
	var metadata []Metadata
	for k, entry := range entries {
		var m [2][]byte
		if err := splitTuple(entry, []member{{alignByte, 0}, {alignUint64, 0}}, m[:]); err != nil {
			return nil, fmt.Errorf("entry %d: %w", k, err)
		}
		key, err := parseString(m[0])
		if err != nil || key == "" {
			return nil, fmt.Errorf("entry %d: key: %w", k, errVariant)
		}
		value, err := parseVariant(m[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		metadata = append(metadata, Metadata{key, value})
	}
	return metadata, nil
}

// parseVariant reads a "v". The type string follows the last NUL.
func parseVariant(b []byte) (Variant, error) {
	for k := len(b) - 1; k >= 0; k-- {
		if b[k] == 0 {
			if k == len(b)-1 {
				break
			}
			return Variant{string(b[k+1:]), append([]byte(nil), b[:k]...)}, nil
		}
	}
	return Variant{}, fmt.Errorf("variant without a type: %w", errVariant)
}
