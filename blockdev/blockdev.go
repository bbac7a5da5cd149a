// Package blockdev knows the disks of a running machine: which there are, what is
// on them, who uses them, and how one is written from end to end.
//
// Everything is read from the kernel: sysfs (Documentation/ABI/stable/sysfs-block
// of Linux), mountinfo and swaps of /proc, and the first and last bytes of the
// disks themselves. No udev is needed; the names of /dev/disk/by-id are worked
// out by the rules of udev where nobody made them, as in an initramfs. Only
// opening a disk for writing is special to Linux; elsewhere [Open] says that it
// cannot be done.
package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/fault"
)

// Host is where a machine says what disks it has: the directories that are
// usually mounted at /sys, /dev and /proc. The zero value is the running machine.
type Host struct{ Sys, Dev, Proc string }

func (h Host) sys(elem ...string) string  { return under(h.Sys, "/sys", elem) }
func (h Host) dev(elem ...string) string  { return under(h.Dev, "/dev", elem) }
func (h Host) proc(elem ...string) string { return under(h.Proc, "/proc", elem) }

func under(dir, usual string, elem []string) string {
	if dir == "" {
		dir = usual
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// Disk is a whole disk.
type Disk struct {
	Name   string   // the kernel's, as in nvme0n1
	Path   string   // of the device node, or of the file that stands for a disk
	Number string   // MAJOR:MINOR, "" for a file
	ByID   []string // names below /dev/disk/by-id, the most telling one first

	Size       int64 // in bytes, 0 without a medium
	SectorSize int   // logical, in bytes
	Model      string
	Serial     string
	Transport  Transport
	Rotational bool
	Removable  bool // the medium comes out: USB sticks, cards
	ReadOnly   bool
	Virtual    bool // made of files or of other disks: loop, md, dm, nbd
	File       bool // no device at all, but a regular file in place of one

	Uses    []Use   // why it cannot be written; empty when it can
	Content Content // what is on it
}

// Transport is how a disk is attached, in the words of lsblk where it has one.
type Transport string

// The transports.
const (
	NVMe   Transport = "nvme"
	SATA   Transport = "sata"
	USB    Transport = "usb"
	SCSI   Transport = "scsi" // SAS and RAID controllers, and virtual ones
	ISCSI  Transport = "iscsi"
	Virtio Transport = "virtio"
	MMC    Transport = "mmc"
	Loop   Transport = "loop"
	Other  Transport = ""
)

// Use is something that holds a disk or a part of it.
type Use struct {
	Device string // the kernel's name of the disk or partition
	What   string // as in "mounted at /boot"
}

func (u Use) String() string { return u.Device + " is " + u.What }

// List returns the disks of the machine that an operating system can be on, in
// the order of their names: all but memory, optical drives, and drives without a
// medium. A disk whose content cannot be read is listed, with the reason in its
// Content.
func (h Host) List(ctx context.Context) ([]Disk, error) {
	if runtime.GOOS != "linux" && h.Sys == "" {
		return nil, unsupported()
	}
	names, err := h.names()
	if err != nil {
		return nil, err
	}
	holders, err := h.holders()
	if err != nil {
		return nil, err
	}
	var disks []Disk
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !h.candidate(name) {
			continue
		}
		d := h.describe(name)
		if d.Size == 0 {
			continue
		}
		d.Uses = h.uses(name, holders)
		d.Content = h.probe(d)
		disks = append(disks, d)
	}
	return disks, nil
}

// Find returns the disk that a path names, which may be a symbolic link such as
// those below /dev/disk, or a name of /dev/disk/by-id that nobody made a link
// for. It is an error of class [fault.Device] when there is none, or when it is a
// partition.
func (h Host) Find(path string) (Disk, error) {
	if runtime.GOOS != "linux" && h.Sys == "" {
		return Disk{}, unsupported()
	}
	name, err := h.resolve(path)
	if err != nil {
		return Disk{}, err
	}
	if disk, number, ok := h.partition(name); ok {
		return Disk{}, fault.New(fault.Device, fmt.Errorf("%s: partition %d of %s, not a disk", path, number, disk),
			"name the whole disk: "+h.dev(disk))
	}
	d := h.describe(name)
	if d.Size == 0 {
		return Disk{}, fault.New(fault.Device, fmt.Errorf("%s: no medium in it", path), "")
	}
	if !strings.HasPrefix(path, h.dev("disk")+"/") {
		d.Path = path // the user's own word for it
	}
	holders, err := h.holders()
	if err != nil {
		return Disk{}, err
	}
	d.Uses = h.uses(name, holders)
	d.Content = h.probe(d)
	return d, nil
}

// File returns a regular file as if it were a disk of its size, with sectors of
// 512 bytes.
func File(path string) (Disk, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Disk{}, fault.New(fault.Device, err, "")
	case !info.Mode().IsRegular():
		return Disk{}, fault.New(fault.Device, fmt.Errorf("%s: not a regular file", path), "")
	}
	d := Disk{Name: filepath.Base(path), Path: path, Size: info.Size(), SectorSize: 512, Model: "file", File: true}
	d.Content = Host{}.probe(d)
	return d, nil
}

// resolve returns the kernel's name of the block device that a path names.
func (h Host) resolve(path string) (string, error) {
	missing := func(err error) error {
		return fault.New(fault.Device, err, "imgbuild install --list shows the disks")
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if id, ok := strings.CutPrefix(path, h.dev("disk/by-id")+"/"); ok {
			switch names := h.named(id); len(names) {
			case 0:
			case 1:
				return names[0], nil
			default:
				return "", missing(fmt.Errorf("%s: could be %s", path, strings.Join(names, " or ")))
			}
		}
	}
	if err != nil {
		return "", missing(err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", missing(err)
	}
	if number, ok := deviceNumber(info); ok {
		names, err := os.ReadDir(h.sys("class/block"))
		if err != nil {
			return "", err
		}
		for _, e := range names {
			if readLine(h.sys("class/block", e.Name(), "dev")) == number {
				return e.Name(), nil
			}
		}
		return "", missing(fmt.Errorf("%s: the kernel does not list device %s", path, number))
	}
	// Trees of tests have plain files in place of nodes.
	if rel, err := filepath.Rel(h.dev(), real); err == nil && !strings.HasPrefix(rel, "..") {
		name := strings.ReplaceAll(rel, "/", "!")
		if _, err := os.Stat(h.sys("class/block", name)); err == nil {
			return name, nil
		}
	}
	if info.Mode().IsRegular() {
		return "", fault.New(fault.Device, fmt.Errorf("%s: a file, not a disk", path), "--via-loopback writes to a file as if it were one")
	}
	return "", missing(fmt.Errorf("%s: not a block device", path))
}

// named returns the disks that have the name below /dev/disk/by-id by the rules: of
// sticks without serial numbers, or namespaces of an NVMe, several may have one.
func (h Host) named(id string) []string {
	names, err := h.names()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(h.describe(name).ByID, id) })
}

// String names the disk as one would to a person: path, model, size.
func (d Disk) String() string {
	s := d.Path
	if d.Model != "" {
		s += ", " + d.Model
	}
	return s + ", " + blueprints.FormatSize(d.Size)
}

// unsupported is the answer of other systems than Linux.
func unsupported() error {
	return fault.New(fault.Unsupported, errors.New("disks of the machine are written on Linux only, not on "+runtime.GOOS),
		"build --type raw and write the file to the disk")
}
