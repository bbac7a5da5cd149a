// Package ova writes a virtual disk as an open virtual appliance, for vSphere,
// VMware Workstation, VirtualBox and what imports them.
//
// Specification: DMTF DSP0243, "Open Virtualization Format Specification",
// version 1.1: a tar in the ustar format of the descriptor, a manifest with
// SHA-256 digests as version 2.0 has them, and one disk, a stream-optimized VMDK.
// There are no certificate, no compression of the descriptor and no chunks.
package ova

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"regexp"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/formats/vmdk"
	"imgbuild/partition"
)

// Firmware is the firmware of the machine.
type Firmware int

const (
	EFI Firmware = iota
	BIOS
)

func (f Firmware) String() string {
	switch f {
	case EFI:
		return "efi"
	case BIOS:
		return "bios"
	}
	return fmt.Sprintf("firmware %d", int(f))
}

// ParseFirmware reads "efi" or "bios". An error is of class fault.Usage.
func ParseFirmware(s string) (Firmware, error) {
	for _, f := range []Firmware{EFI, BIOS} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, usage(fmt.Errorf("ova: firmware %q is not known", s), "use efi or bios")
}

// Options are the optional arguments of Write. The zero value is the machine of
// image-builder.
type Options struct {
	// Name is the name of the machine, and of the members without their extension.
	// "" is "image".
	Name string
	// CPUs is the number of virtual processors, or 0 for 2.
	CPUs int
	// MemoryMiB is the size of the memory, a multiple of 4, or 0 for 4096.
	MemoryMiB int
	Firmware  Firmware
	// SecureBoot says that the machine only starts what is signed. It needs EFI.
	SecureBoot bool
	// HardwareVersion is the virtual hardware of VMware, as in "vmx-15", or 0 for
	// 15: ESXi 6.7 U2 and later.
	HardwareVersion int
	// UUID is what all identifiers and the MAC address derive from. Zero stands for
	// one that all such machines share.
	UUID partition.GUID
	// Time is the modification time of the members, in whole seconds. Times before
	// 1970 become its beginning.
	Time time.Time
	// DigestLast says to read the disk back for its digest when all is written. It
	// changes no bytes, and is for cores that have nothing else to do by then, as
	// beside a container disk, whose digest cannot be made earlier.
	DigestLast bool
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
	Progress func(done int64)
}

const (
	defaultName     = "image"
	defaultCPUs     = 2
	defaultMemory   = 4096
	defaultHardware = 15
)

// Limits of vSphere 8.
const (
	maxCPUs     = 768
	maxMemory   = 24 << 20 // in MiB
	memoryUnit  = 4        // in MiB
	minHardware = 7        // the first that an OVF can ask for
	maxHardware = 99       // room for what comes
)

// validName keeps the name within what needs no escape anywhere and fits a tar
// header.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+_.-]{0,79}$`)

// complete returns the options with the defaults in their places.
func (opt Options) complete() (Options, error) {
	if opt.Name == "" {
		opt.Name = defaultName
	}
	if opt.CPUs == 0 {
		opt.CPUs = defaultCPUs
	}
	if opt.MemoryMiB == 0 {
		opt.MemoryMiB = defaultMemory
	}
	if opt.HardwareVersion == 0 {
		opt.HardwareVersion = defaultHardware
	}
	opt.UUID = output.Identifier(opt.UUID, "ova")
	switch {
	case !validName.MatchString(opt.Name):
		return opt, usage(fmt.Errorf("ova: name %.100q", opt.Name), "use at most 80 letters, digits and + _ . -")
	case opt.CPUs < 1 || opt.CPUs > maxCPUs:
		return opt, usage(fmt.Errorf("ova: %d virtual CPUs", opt.CPUs), fmt.Sprintf("use 1 to %d", maxCPUs))
	case opt.MemoryMiB < memoryUnit || opt.MemoryMiB > maxMemory || opt.MemoryMiB%memoryUnit != 0:
		return opt, usage(fmt.Errorf("ova: %d MiB of memory", opt.MemoryMiB), fmt.Sprintf("use a multiple of %d MiB up to %d", memoryUnit, maxMemory))
	case opt.Firmware != EFI && opt.Firmware != BIOS:
		return opt, usage(fmt.Errorf("ova: %v is not known", opt.Firmware), "use efi or bios")
	case opt.SecureBoot && opt.Firmware != EFI:
		return opt, usage(errors.New("ova: Secure Boot without EFI"), "use firmware efi")
	case opt.HardwareVersion < minHardware || opt.HardwareVersion > maxHardware:
		return opt, usage(fmt.Errorf("ova: hardware version %d", opt.HardwareVersion), fmt.Sprintf("use %d to %d", minHardware, maxHardware))
	}
	return opt, nil
}

// Check returns an error of class fault.Usage where the options contradict each
// other or are out of range.
func (opt Options) Check() error {
	_, err := opt.complete()
	return err
}

func usage(err error, hint string) error { return fault.New(fault.Usage, err, hint) }

// Write writes img to f, a new empty file that can be read, and makes it durable.
// The bytes are a function of the content of img and the options. The size of the disk is
// rounded up to a multiple of 64 KiB.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and an empty archive.
func Write(ctx context.Context, img *disk.Image, f *os.File, opt Options) error {
	w, err := NewWriter(img.Size(), f, opt)
	if err != nil {
		return err
	}
	return pieces.Write(ctx, img, []pieces.Format{w}, opt.Progress)
}

// Writer writes an appliance from pieces that other formats may be made of, too.
type Writer struct {
	m        machine
	modified time.Time
	f        *os.File
	out      *output.File
	begin    int64 // where in f the disk begins
	stream   *output.Stream
	digest   hash.Hash // of the disk, or nil when that is made at the end
	disk     *vmdk.Stream
}

var _ pieces.Format = (*Writer)(nil)

// NewWriter returns the Writer of a disk of size bytes, which writes what [Write]
// does.
func NewWriter(size int64, f *os.File, opt Options) (_ *Writer, err error) {
	if opt, err = opt.complete(); err != nil {
		return nil, err
	}
	w := &Writer{m: newMachine(opt, vmdk.Capacity(size)), modified: opt.Time, f: f}
	// Descriptor and manifest come first, and name size and digest of the disk:
	// their room is left.
	head, err := w.m.head(nil, opt.Time)
	if err != nil {
		return nil, err
	}
	w.out, w.begin = output.NewFile(f), int64(len(head))
	w.stream = output.NewStream(w.out, w.begin)
	disk := io.Writer(w.stream)
	if !opt.DigestLast {
		w.digest = sha256.New()
		disk = io.MultiWriter(w.stream, w.digest)
	}
	w.disk, err = vmdk.NewStream(size, disk, vmdk.Options{UUID: w.m.DiskID})
	if err != nil {
		w.out.Stop()
		return nil, err
	}
	return w, nil
}

// Want implements pieces.Format.
func (*Writer) Want() pieces.Want { return pieces.Want{Stream: true, Adler: true} }

// Add implements pieces.Format.
func (w *Writer) Add(_ context.Context, b *pieces.Batch) error { return w.disk.Add(b) }

// Finish implements pieces.Format.
func (w *Writer) Finish(ctx context.Context) error {
	info, err := w.disk.Finish()
	if err != nil {
		return err
	}
	if err := w.stream.Flush(); err != nil {
		return err
	}
	if err := w.out.Truncate(output.TarEnd(w.stream.Offset())); err != nil {
		return err
	}
	var digest []byte
	if w.digest != nil {
		digest = w.digest.Sum(nil)
	} else if digest, err = output.SHA256(ctx, w.f, w.begin, info.Size); err != nil {
		return err
	}
	w.m.FileSize, w.m.Populated = info.Size, info.Populated
	head, err := w.m.head(digest, w.modified)
	if err != nil {
		return err
	}
	if _, err := w.out.WriteAt(head, 0); err != nil {
		return err
	}
	return w.out.Sync()
}

// Stop implements pieces.Format.
func (w *Writer) Stop() { w.out.Stop() }

// head returns everything ahead of the disk: descriptor and manifest with their
// headers, and the header of the disk. Its length does not depend on the size of
// the disk or its digest.
func (m machine) head(digest []byte, modified time.Time) ([]byte, error) {
	ovf, err := m.descriptor()
	if err != nil {
		return nil, err
	}
	if digest == nil {
		digest = make([]byte, sha256.Size)
	}
	ovfName := m.Name + ".ovf"
	manifest := fmt.Sprintf("SHA256(%s)= %x\nSHA256(%s)= %x\n", ovfName, sha256.Sum256(ovf), m.Disk, digest)

	var b []byte
	header := func(name string, size int64) {
		h := output.TarHeader{Name: name, Size: size, Modified: modified.Unix()}
		b = append(b, h.Encode()...)
	}
	member := func(name string, content []byte) {
		header(name, int64(len(content)))
		b = append(b, content...)
		b = append(b, make([]byte, -len(content)&(output.TarBlock-1))...)
	}
	member(ovfName, ovf)
	member(m.Name+".mf", []byte(manifest))
	header(m.Disk, m.FileSize)
	return b, nil
}
