package layouts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"imgbuild/blueprints"
)

// Bounds of a file. A layout in use has some 2 KiB and 200 values.
const (
	// MaxFile is the largest disk.yaml that is read, in bytes.
	MaxFile = 256 << 10
	// maxVisits bounds the values that are looked at, aliases counted wherever
	// they are used, and with that what they can blow up to.
	maxVisits = 20_000
)

// reader reads values from the tree of a YAML document. It collects problems,
// each with its line.
type reader struct {
	problems Problems
	visits   int
}

// errTooLarge ends reading.
var errTooLarge = errors.New("more values than a layout can have")

// document parses the one document of a file.
func document(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty")
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	switch err := d.Decode(&more); {
	case err == nil:
		return nil, fmt.Errorf("line %d: a second document", more.Line)
	case !errors.Is(err, io.EOF):
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, errors.New("not a mapping")
	}
	return doc.Content[0], nil
}

func (r *reader) fail(n *yaml.Node, format string, args ...any) {
	r.problems.add("line %d: "+format, append([]any{n.Line}, args...)...)
}

// value follows an alias.
func (r *reader) value(n *yaml.Node) *yaml.Node {
	if r.visits++; r.visits > maxVisits {
		panic(errTooLarge)
	}
	if n.Kind == yaml.AliasNode {
		return r.value(n.Alias)
	}
	return n
}

// isNull tells whether a value is absent.
func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// key is a key of a mapping and what reads its value.
type key struct {
	name string
	read func(n *yaml.Node)
}

// mapping reads the values of a mapping by their keys. Keys that are not listed
// are problems, unless spare takes them. It reports whether n is a mapping.
func (r *reader) mapping(n *yaml.Node, what string, spare func(k, v *yaml.Node) bool, keys ...key) bool {
	n = r.value(n)
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s: not a mapping", what)
		return false
	}
	for _, pair := range r.pairs(n, 0) {
		k, v := pair[0], r.value(pair[1])
		i := slices.IndexFunc(keys, func(known key) bool { return known.name == k.Value })
		switch {
		case i < 0 && spare != nil && spare(k, v):
		case i < 0:
			r.fail(k, "%s: unknown key %q%s", what, k.Value, suggest(k.Value, keys))
		case !isNull(v):
			keys[i].read(v)
		}
	}
	return true
}

// pairs returns the keys and values of a mapping, with those that are merged into
// it ("<<"). Its own come first, and win.
func (r *reader) pairs(n *yaml.Node, depth int) [][2]*yaml.Node {
	if depth > 20 {
		panic(errTooLarge)
	}
	var list [][2]*yaml.Node
	has := map[string]bool{}
	add := func(k, v *yaml.Node, merged bool) {
		switch {
		case has[k.Value] && !merged:
			r.fail(k, "key %q is there twice", k.Value)
		case !has[k.Value]:
			has[k.Value] = true
			list = append(list, [2]*yaml.Node{k, v})
		}
	}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := r.value(n.Content[i])
		switch {
		case k.Kind != yaml.ScalarNode:
			r.fail(k, "a key that is not text")
		case k.ShortTag() == "!!merge":
			merges = append(merges, r.value(n.Content[i+1]))
		default:
			add(k, n.Content[i+1], false)
		}
	}
	for _, m := range merges {
		from := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			from = m.Content
		}
		for _, f := range from {
			f = r.value(f)
			if f.Kind != yaml.MappingNode {
				r.fail(f, "merge of what is not a mapping")
				continue
			}
			for _, pair := range r.pairs(f, depth+1) {
				add(pair[0], pair[1], true)
			}
		}
	}
	return list
}

// list reads the items of a sequence.
func (r *reader) list(n *yaml.Node, what string, item func(i int, n *yaml.Node)) {
	n = r.value(n)
	if n.Kind != yaml.SequenceNode {
		r.fail(n, "%s: not a list", what)
		return
	}
	for i, v := range n.Content {
		item(i, r.value(v))
	}
}

// text reads a scalar as it is written: types of MBR partitions look like
// numbers.
func (r *reader) text(k string, to *string) key {
	return key{k, func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode {
			r.fail(n, "%s: not text", k)
			return
		}
		*to = n.Value
	}}
}

func (r *reader) boolean(k string, to *bool) key {
	return key{k, func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
			r.fail(n, "%s: neither true nor false", k)
			return
		}
		*to = strings.EqualFold(n.Value, "true")
	}}
}

// integer reads an integer from 0 to limit.
func (r *reader) integer(k string, limit int64, to *int64) key {
	return key{k, func(n *yaml.Node) { r.number(n, k, limit, to) }}
}

func (r *reader) number(n *yaml.Node, k string, limit int64, to *int64) {
	v, ok := parseInt(n)
	if !ok || v < 0 || v > limit {
		r.fail(n, "%s: not an integer from 0 to %d", k, limit)
		return
	}
	*to = v
}

// small reads an integer from 0 to limit into an int.
func (r *reader) small(k string, limit int64, to *int) key {
	return key{k, func(n *yaml.Node) {
		var v int64
		r.number(n, k, limit, &v)
		*to = int(v)
	}}
}

// size reads a number of bytes: an integer, or text with a unit.
func (r *reader) size(k string, to *int64) key {
	return key{k, func(n *yaml.Node) {
		v, ok := parseInt(n)
		if !ok && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
			var err error
			if v, err = blueprints.ParseSize(n.Value); err != nil {
				r.fail(n, "%s: %v", k, err)
				return
			}
			ok = true
		}
		switch {
		case !ok || v < 0:
			r.fail(n, "%s: not a size, such as 512 or \"10 GiB\"", k)
		case v > maxDiskSize:
			r.fail(n, "%s: more than %s", k, blueprints.FormatSize(maxDiskSize))
		default:
			*to = v
		}
	}}
}

// parseInt reads an integer of YAML 1.1, which may have underscores.
func parseInt(n *yaml.Node) (int64, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
	return v, err == nil
}

// suggest returns what an unknown key may have been meant to be.
func suggest(name string, keys []key) string {
	best, distance := "", math.MaxInt
	for _, k := range keys {
		if d := editDistance(name, k.name); d < distance {
			best, distance = k.name, d
		}
	}
	if distance <= max(2, len(best)/3) {
		return fmt.Sprintf(", perhaps %q", best)
	}
	return ""
}

// editDistance returns how many bytes have to be inserted, removed or replaced to
// make b of a.
func editDistance(a, b string) int {
	if len(a) > 64 {
		return math.MaxInt
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, last+1)
		}
	}
	return row[len(b)]
}
