package efivars

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"imgbuild/partition"
)

// Store is the variables of a firmware: the directory that efivarfs is mounted
// at, "" for the usual one.
type Store struct{ Dir string }

const (
	// global is the vendor of the variables of the specification.
	global = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// attributes: non-volatile, for boot services and at run time.
	attributes = 7
	// maxVariable bounds what is read of one.
	maxVariable = 64 << 10
)

func (s Store) path(name string) string {
	dir := s.Dir
	if dir == "" {
		dir = "/sys/firmware/efi/efivars"
	}
	return filepath.Join(dir, name+"-"+global)
}

// Available tells whether the machine was started by UEFI, and its variables can
// be seen.
func (s Store) Available() bool {
	entries, err := os.ReadDir(filepath.Dir(s.path("")))
	return err == nil && len(entries) > 0
}

// Install adds the entry and makes it the first in the boot order. It replaces
// those that start the same file of the same partition, and those of the same
// label and file on a partition that, by the judgement of gone, is on no disk any
// more. It returns the name of the variable.
func (s Store) Install(e Entry, gone func(partition.GUID) bool) (string, error) {
	numbers, err := s.numbers()
	if err != nil {
		return "", err
	}
	var replaced []uint16
	for _, n := range numbers {
		old, err := s.entry(n)
		if err != nil {
			continue // of another kind, or damaged: somebody else's
		}
		sameFile := strings.EqualFold(old.Loader, e.Loader)
		if sameFile && (old.ID == e.ID || old.Label == e.Label && !old.ID.IsZero() && gone(old.ID)) {
			replaced = append(replaced, n)
		}
	}
	number, err := choose(numbers, replaced)
	if err != nil {
		return "", err
	}
	order, err := s.order()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("Boot%04X", number)
	if err := s.write(name, e.encode()); err != nil {
		return "", err
	}
	order = slices.DeleteFunc(order, func(n uint16) bool { return n == number || slices.Contains(replaced, n) })
	var b []byte
	for _, n := range append([]uint16{number}, order...) {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	if err := s.write("BootOrder", b); err != nil {
		return "", err
	}
	for _, n := range replaced {
		if n == number {
			continue
		}
		if err := s.remove(fmt.Sprintf("Boot%04X", n)); err != nil {
			return "", err
		}
	}
	return name, nil
}

// choose returns the number of the entry: that of one it replaces, else the first
// free one.
func choose(used, replaced []uint16) (uint16, error) {
	if len(replaced) > 0 {
		return replaced[0], nil
	}
	for n := range 1 << 16 {
		if !slices.Contains(used, uint16(n)) {
			return uint16(n), nil
		}
	}
	return 0, errors.New("all 65536 boot entries are in use")
}

// numbers returns the numbers of all boot entries, ascending.
func (s Store) numbers() ([]uint16, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path("")))
	if err != nil {
		return nil, err
	}
	known := regexp.MustCompile("^Boot([0-9A-F]{4})-" + global + "$")
	var numbers []uint16
	for _, e := range entries {
		if m := known.FindStringSubmatch(e.Name()); m != nil {
			n, err := strconv.ParseUint(m[1], 16, 16)
			if err != nil {
				return nil, err
			}
			numbers = append(numbers, uint16(n))
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// read returns the value of a variable.
func (s Store) read(name string) ([]byte, error) {
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, err
	}
	if len(b) < 4 || len(b) > maxVariable {
		return nil, fmt.Errorf("%s: %d bytes", name, len(b))
	}
	return b[4:], nil
}

func (s Store) entry(n uint16) (Entry, error) {
	b, err := s.read(fmt.Sprintf("Boot%04X", n))
	if err != nil {
		return Entry{}, err
	}
	return decode(b)
}

// order returns the boot order; there may be none yet.
func (s Store) order() ([]uint16, error) {
	b, err := s.read("BootOrder")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var order []uint16
	for ; len(b) >= 2; b = b[2:] {
		order = append(order, binary.LittleEndian.Uint16(b))
	}
	return order, nil
}

// write sets a variable. efivarfs takes attributes and value in one write.
func (s Store) write(name string, value []byte) error {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = append(b, value...)
	path := s.path(name)
	unlock(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	// A variable has the length of what was written; in a plain file more could
	// be left.
	_ = f.Truncate(int64(len(b)))
	return errors.Join(err, f.Close())
}

func (s Store) remove(name string) error {
	unlock(s.path(name))
	return os.Remove(s.path(name))
}
