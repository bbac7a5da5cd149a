package blockdev

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/partition"
)

// Content is what is on a disk, as far as its first and last bytes tell.
type Content struct {
	Err   error // why that is not known
	Empty bool  // no table with partitions, no known content, and zeros at both ends

	Table      string // "gpt", "dos" or ""
	Type       string // of what fills the disk without a table, as in "ext4" or "LUKS"
	Label      string // of that
	Partitions []Partition
}

// Partition is a partition that a table on the disk names.
type Partition struct {
	Number      int
	Start, Size int64  // in bytes
	Name        string // that the table gives it
	ID          partition.GUID
	Kind        string // what its type says, "" for the usual ones
	Type, Label string // of what is in it
}

// String says what is on the disk in one line.
func (c Content) String() string {
	switch {
	case c.Err != nil:
		return "unreadable: " + c.Err.Error()
	case c.Empty && c.Table != "":
		return "empty (a table without partitions)"
	case c.Empty:
		return "empty"
	}
	var texts []string
	if c.Type != "" {
		texts = append(texts, title(c.Type, c.Label))
	}
	if n := len(c.Partitions); n > 0 {
		var parts []string
		for i, p := range c.Partitions {
			if i == maxNamed && n > maxNamed+1 {
				parts = append(parts, fmt.Sprintf("%d more", n-i))
				break
			}
			parts = append(parts, p.String())
		}
		plural := "s"
		if n == 1 {
			plural = ""
		}
		texts = append(texts, fmt.Sprintf("%d partition%s: %s", n, plural, strings.Join(parts, ", ")))
	}
	if len(texts) == 0 {
		return "unknown data"
	}
	return strings.Join(texts, ", ")
}

// maxNamed is how many partitions a line has room for.
const maxNamed = 6

func (p Partition) String() string {
	what := ""
	switch {
	case p.Type != "" && p.Label == "":
		what = title(p.Type, p.Name)
	case p.Type != "":
		what = title(p.Type, p.Label)
	case p.Name != "":
		what = quote(p.Name)
	}
	if p.Kind != "" {
		what = strings.TrimSuffix(p.Kind+" "+what, " ")
	}
	if what == "" {
		what = "unknown"
	}
	return what + " " + blueprints.FormatSize(p.Size)
}

func title(kind, label string) string {
	if label == "" {
		return kind
	}
	return kind + " " + quote(label)
}

// quote marks a name that somebody else chose; it never controls a terminal.
func quote(s string) string {
	return "'" + strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\'' {
			return '?'
		}
		return r
	}, s) + "'"
}

// edge is what is looked at of both ends of a disk that seems to be empty, in
// bytes: more than where any known content keeps its signature.
const edge = 1 << 20

// probe opens a disk and looks what is on it.
func (h Host) probe(d Disk) Content {
	f, err := os.Open(d.Path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = errors.New("reading it takes the rights of root")
		}
		return Content{Err: err}
	}
	defer f.Close()
	return Probe(f, d.Size, d.SectorSize)
}

// Probe says what is on a disk of size bytes.
func Probe(r io.ReaderAt, size int64, sectorSize int) Content {
	c := Content{}
	head, err := readUpTo(r, 0, min(size, edge))
	if err != nil {
		return Content{Err: err}
	}
	c.Type, c.Label = superblock(r, size)
	// A FAT has what looks like the signature of a table.
	if c.Type == "" || c.Type == "iso9660" {
		c.Table, c.Partitions = readTable(r, size, sectorSize)
	}
	for i := range c.Partitions {
		p := &c.Partitions[i]
		p.Type, p.Label = superblock(io.NewSectionReader(r, p.Start, p.Size), p.Size)
	}
	if c.Type != "" || len(c.Partitions) > 0 {
		return c
	}
	if c.Table != "" {
		c.Empty = true
		return c
	}
	tail, err := readUpTo(r, max(size-edge, 0), min(size, edge))
	if err != nil {
		return Content{Err: err}
	}
	c.Empty = zero(head) && zero(tail)
	return c
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// readUpTo reads n bytes, which must be there.
func readUpTo(r io.ReaderAt, off, n int64) ([]byte, error) {
	b := make([]byte, n)
	k, err := r.ReadAt(b, off)
	if int64(k) == n {
		return b, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read at %d: %w", off, err)
}
