package files

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"imgbuild/customize"
)

// maxID is the largest user or group number: -1 stands for none in system calls.
const maxID = 1<<32 - 2

// maxAccounts bounds the files of accounts.
const maxAccounts = 64 << 20

// The names that image-builder accepts.
var (
	userName  = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]{0,31}$`)
	groupName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}$`)
)

// check returns what is wrong with an owner whatever the image.
func (o Owner) check(names *regexp.Regexp) error {
	switch {
	case o.ID != nil && o.Name != "":
		return fmt.Errorf("has a name and a number")
	case o.ID != nil && (*o.ID < 0 || *o.ID > maxID):
		return fmt.Errorf("%d is not between 0 and %d", *o.ID, int64(maxID))
	case o.Name != "" && !names.MatchString(o.Name):
		return fmt.Errorf("%q is not a name that it can have", o.Name)
	}
	return nil
}

// given tells whether an owner is asked for.
func (o Owner) given() bool { return o.ID != nil || o.Name != "" }

// names looks up users or groups.
type names struct {
	kind  string // for messages
	files []string
	ids   map[string]uint32 // nil: not read yet
}

func users() *names {
	return &names{kind: "user", files: []string{"/etc/passwd", "/usr/lib/passwd"}}
}

func groups() *names {
	return &names{kind: "group", files: []string{"/etc/group", "/usr/lib/group"}}
}

// lookup returns the number of an owner, 0 where none is asked for. A name of
// digits that nobody has is a number, as with chown(1).
func (n *names) lookup(sys *customize.System, o Owner) (uint32, error) {
	switch {
	case o.ID != nil:
		return uint32(*o.ID), nil
	case o.Name == "":
		return 0, nil
	}
	if n.ids == nil {
		n.ids = map[string]uint32{"root": 0}
		for _, p := range n.files {
			if sys.Lookup(p) == nil {
				continue
			}
			text, err := sys.ReadFile(p, maxAccounts)
			if err != nil {
				return 0, err
			}
			n.read(text)
		}
	}
	if id, ok := n.ids[o.Name]; ok {
		return id, nil
	}
	if id, err := strconv.ParseUint(o.Name, 10, 32); err == nil && id <= maxID {
		return uint32(id), nil
	}
	return 0, fmt.Errorf("there is no %s %s, neither in %s nor among those to be made", n.kind, o.Name, strings.Join(n.files, " nor in "))
}

// read adds the names of a file of lines name:password:number:…
func (n *names) read(text []byte) {
	for line := range bytes.Lines(text) {
		fields := bytes.Split(bytes.TrimRight(line, "\r\n"), []byte(":"))
		if len(fields) < 3 {
			continue
		}
		id, err := strconv.ParseUint(string(fields[2]), 10, 32)
		if name := string(fields[0]); err == nil {
			if _, ok := n.ids[name]; !ok {
				n.ids[name] = uint32(id)
			}
		}
	}
}
