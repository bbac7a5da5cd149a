package accounts

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/tree"
)

// The places of the fields in passwd(5), shadow(5), group(5), gshadow(5) and
// subuid(5).
const (
	pwName, pwPassword, pwUID, pwGID, pwGecos, pwHome, pwShell, pwFields = 0, 1, 2, 3, 4, 5, 6, 7

	spName, spPassword, spChanged, spMin, spMax, spWarn, spInactive, spExpire, spFlag, spFields = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9

	grName, grPassword, grGID, grMembers, grFields = 0, 1, 2, 3, 4

	sgName, sgPassword, sgAdmins, sgMembers, sgFields = 0, 1, 2, 3, 4

	subOwner, subStart, subCount, subFields = 0, 1, 2, 3
)

// maxTable is the size of the largest file of accounts that is read. A system
// with a hundred thousand accounts has 10 MiB.
const maxTable = 16 << 20

// table is a file of lines with fields between colons. As in shadow's commonio,
// lines that are no entries are kept as they are, and so is every entry that
// nothing changes.
type table struct {
	path    string
	mode    uint32 // of a new file
	valid   func(f []string) bool
	ids     []int // the fields that are numbers of users and groups
	present bool
	lines   []*line
	nis     int              // the first line of a network service, or len(lines)
	names   map[string]*line // the first entry of each name
	twice   map[string]bool  // names of several entries
	changed bool
}

// line is one line. fields is nil where it is no entry.
type line struct {
	text   string
	fields []string
}

// newTable parses text as one of the files.
func newTable(path string, mode uint32, valid func(f []string) bool, text string) *table {
	t := &table{path: path, mode: mode, valid: valid, names: map[string]*line{}, twice: map[string]bool{}}
	for s := range strings.Lines(text) {
		s = strings.TrimSuffix(s, "\n")
		l := &line{text: s}
		if f := strings.Split(s, ":"); !isNIS(s) && valid(f) {
			l.fields = f
		}
		t.lines = append(t.lines, l)
		t.index(l)
		if t.nis == len(t.lines)-1 && !isNIS(s) {
			t.nis++
		}
	}
	return t
}

// isNIS tells the lines that stand for entries of a network service.
func isNIS(s string) bool { return strings.HasPrefix(s, "+") || strings.HasPrefix(s, "-") }

func (t *table) index(l *line) {
	if l.fields == nil {
		return
	}
	name := l.fields[0]
	if t.names[name] != nil {
		t.twice[name] = true
		return
	}
	t.names[name] = l
}

// find returns the first entry of a name, or nil. Its fields must not be changed.
func (t *table) find(name string) []string {
	if l := t.names[name]; l != nil {
		return l.fields
	}
	return nil
}

// update replaces the entry of a name by f, which it keeps, or adds it: at the end, before the first
// line of a network service. Two entries of the name are an error, as shadow
// cannot tell them apart either.
func (t *table) update(f []string) error {
	name := f[0]
	if err := t.check(f); err != nil {
		return err
	}
	if t.twice[name] {
		return fmt.Errorf("%s has several entries of %q", t.path, name)
	}
	t.changed = true
	for _, k := range t.ids { // 007 becomes 7
		if n, ok := parseID(f[k]); ok {
			f[k] = id(n)
		}
	}
	if l := t.names[name]; l != nil {
		l.fields, l.text = f, strings.Join(f, ":")
		return nil
	}
	l := &line{text: strings.Join(f, ":"), fields: f}
	t.lines = slices.Insert(t.lines, t.nis, l)
	t.nis++
	t.index(l)
	return nil
}

// check refuses fields that would be more than one, which only settings of the
// image can bring here.
func (t *table) check(f []string) error {
	for _, s := range f {
		if strings.ContainsAny(s, ":\n") {
			return fmt.Errorf("%s: %q cannot be a field", t.path, shorten(s))
		}
	}
	return nil
}

// setMembers replaces an entry of group(5) or gshadow(5) by one with other members.
func (t *table) setMembers(f []string, field int, list []string) error {
	f = slices.Clone(f)
	f[field] = strings.Join(list, ",")
	return t.update(f)
}

// add puts an entry at the end, whatever its name.
func (t *table) add(f []string) {
	l := &line{text: strings.Join(f, ":"), fields: f}
	t.lines = append(t.lines, l)
	t.index(l)
	t.changed = true
}

// encode returns the content of the file.
func (t *table) encode() []byte {
	var b strings.Builder
	for _, l := range t.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// readTable reads a file, which need not exist.
func readTable(sys *customize.System, path string, mode uint32, valid func(f []string) bool) (*table, error) {
	text, err := sys.ReadFile(path, maxTable)
	if errors.Is(err, fs.ErrNotExist) {
		return newTable(path, mode, valid, ""), nil
	}
	if err != nil {
		return nil, err
	}
	t := newTable(path, mode, valid, string(text))
	t.present = true
	return t, nil
}

// write puts a table back where it has changed. It keeps the mode, the owner and
// the extended attributes of the file.
func (t *table) write(sys *customize.System) error {
	if !t.changed {
		return nil
	}
	_, err := sys.Put(t.path, func(old *tree.Inode) (*tree.Inode, error) {
		f := tree.NewFile(t.mode, content.Ref{})
		if old != nil {
			f = old.Copy()
		}
		f.Content, f.Object = content.Bytes(t.encode()), tree.Sum{}
		return f, nil
	})
	return err
}

func validPasswd(f []string) bool {
	if len(f) != pwFields || f[pwName] == "" {
		return false
	}
	_, uid := parseID(f[pwUID])
	_, gid := parseID(f[pwGID])
	return uid && gid
}

func validGroup(f []string) bool {
	if len(f) != grFields || f[grName] == "" {
		return false
	}
	_, ok := parseID(f[grGID])
	return ok
}

func validGshadow(f []string) bool { return len(f) == sgFields && f[sgName] != "" }

// validShadow also takes the five fields of old systems, as glibc does.
func validShadow(f []string) bool {
	if len(f) != spFields && len(f) != spWarn || f[spName] == "" {
		return false
	}
	for _, s := range f[spChanged:] {
		if _, err := strconv.ParseInt(s, 10, 64); s != "" && err != nil {
			return false
		}
	}
	return true
}

func validSubID(f []string) bool {
	if len(f) != subFields || f[subOwner] == "" {
		return false
	}
	start, ok := parseID(f[subStart])
	if !ok {
		return false
	}
	count, err := strconv.ParseUint(f[subCount], 10, 64)
	return err == nil && count <= 1<<32-uint64(start)
}

// parseID parses a uid or gid.
func parseID(s string) (id uint32, ok bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// members splits a list of names. As in shadow, nothing stands behind a comma at
// the end.
func members(s string) []string {
	if s = strings.TrimSuffix(s, ","); s == "" {
		return nil
	}
	return strings.Split(s, ",")
}
