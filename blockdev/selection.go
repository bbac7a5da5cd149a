package blockdev

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/fault"
)

// Selection says which disk to take, and what may be taken.
type Selection struct {
	// Spec is one of:
	//
	//	/PATH           the node of a disk, or a link to it
	//	serial=NUMBER   the serial number, whatever the case
	//	first-empty     the first disk, by name, that holds nothing
	//	smallest        the smallest and the largest one
	//	largest
	//
	// The words stand for fixed disks only: media that come out, and what is made
	// of files and other disks, must be named.
	Spec string
	// Wipe allows a disk that holds data.
	Wipe bool
	// Except are the names of disks that are never taken: the installation medium.
	Except []string
	// Need is the least size in bytes; smaller disks are no candidates for the
	// words, and refused by name. 0 takes any.
	Need int64
}

// CheckSpec returns an error when the specification of a disk is none.
func CheckSpec(spec string) error {
	switch {
	case spec == "first-empty", spec == "smallest", spec == "largest":
		return nil
	case strings.HasPrefix(spec, "/"):
		return nil
	case strings.HasPrefix(spec, "serial=") && strings.TrimSpace(spec) != "serial=":
		return nil
	}
	return fault.New(fault.Usage, fmt.Errorf("target %q: not a disk", spec),
		"/dev/DISK, /dev/disk/by-id/NAME, serial=NUMBER, first-empty, smallest or largest")
}

// Select returns the disk that the selection means. It is an error of class
// [fault.Device] when there is none, when there are several, or when the one that
// is meant may not be written. A word never falls back to a disk other than the
// one it means.
func (h Host) Select(disks []Disk, s Selection) (Disk, error) {
	d, err := h.pick(disks, s)
	if err != nil {
		return Disk{}, err
	}
	return d, s.Check(d)
}

// Check returns an error when the disk may not be written.
func (s Selection) Check(d Disk) error {
	switch {
	case slices.Contains(s.Except, d.Name):
		return refuse(d, errors.New("the medium that this runs from"), "")
	case len(d.Uses) > 0:
		var texts []string
		for _, u := range d.Uses {
			texts = append(texts, u.String())
		}
		return refuse(d, fmt.Errorf("in use: %s", strings.Join(texts, "; ")), "unmount it or choose another disk; the system that runs cannot be replaced from within")
	case d.ReadOnly:
		return refuse(d, errors.New("read-only"), "")
	case d.Size < s.Need:
		return fault.New(fault.NoSpace, fmt.Errorf("%s: %s, and the installation needs %s", d.Path, blueprints.FormatSize(d.Size), blueprints.FormatSize(s.Need)), "choose a larger disk")
	case d.Content.Err != nil:
		return refuse(d, d.Content.Err, "")
	case !d.Content.Empty && !s.Wipe:
		return refuse(d, &HoldsDataError{d.Content}, "wipe must be allowed for it to be erased")
	}
	return nil
}

// HoldsDataError says that a disk holds data, and nobody allowed to erase it.
type HoldsDataError struct{ Content Content }

func (e *HoldsDataError) Error() string { return "holds data: " + e.Content.String() }

func refuse(d Disk, err error, hint string) error {
	return fault.New(fault.Device, fmt.Errorf("%s: %w", d.Path, err), hint)
}

// pick finds the disk.
func (h Host) pick(disks []Disk, s Selection) (Disk, error) {
	if err := CheckSpec(s.Spec); err != nil {
		return Disk{}, err
	}
	if strings.HasPrefix(s.Spec, "/") {
		return h.Find(s.Spec)
	}
	var found []Disk
	if serial, ok := strings.CutPrefix(s.Spec, "serial="); ok {
		for _, d := range disks {
			if strings.EqualFold(d.Serial, strings.TrimSpace(serial)) {
				found = append(found, d)
			}
		}
		return only(found, s.Spec, disks)
	}
	for _, d := range disks {
		if !d.Removable && !d.Virtual && !d.ReadOnly && len(d.Uses) == 0 && d.Size >= s.Need && !slices.Contains(s.Except, d.Name) {
			found = append(found, d)
		}
	}
	if s.Spec == "first-empty" {
		found = slices.DeleteFunc(found, func(d Disk) bool { return !d.Content.Empty })
		if len(found) > 1 {
			found = found[:1]
		}
		return only(found, s.Spec, disks)
	}
	slices.SortStableFunc(found, func(a, b Disk) int { return cmp.Compare(a.Size, b.Size) })
	if s.Spec == "largest" {
		slices.Reverse(found)
	}
	n := 0
	for n < len(found) && found[n].Size == found[0].Size {
		n++
	}
	return only(found[:n], s.Spec, disks)
}

// only returns the one disk that was found.
func only(found []Disk, spec string, all []Disk) (Disk, error) {
	if len(found) == 1 {
		return found[0], nil
	}
	list := func(disks []Disk) string {
		var texts []string
		for _, d := range disks {
			text := d.String()
			if len(d.Uses) > 0 {
				text += ", in use"
			} else if !d.Content.Empty {
				text += ", holds data"
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, "; ")
	}
	if len(found) == 0 {
		hint := "there is no disk at all"
		if len(all) > 0 {
			hint = "the disks are " + list(all)
		}
		return Disk{}, fault.New(fault.Device, fmt.Errorf("target %s: no such disk", spec), hint)
	}
	return Disk{}, fault.New(fault.Device, fmt.Errorf("target %s: %d disks are that: %s", spec, len(found), list(found)), "name one by its path below /dev/disk/by-id")
}
