// Package survey says what is on a disk: its partitions, what is in them, and what
// the machine that has it would start.
//
// Tables and superblocks are recognized by package blockdev. Files of the EFI system
// partition and of /boot are read by go-diskfs, as far as they say what is started:
// programs of the firmware (UEFI 2.10, 3.5.1.1, "Removable Media Boot Behavior", and
// the directories of vendors), unified kernels (UAPI.1, "Type #2"), and boot loader
// entries (UAPI.1, "Type #1"). That is FAT and ext4; other file systems are named.
package survey

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"imgbuild/blockdev"
	"imgbuild/partition"
)

// Report is what is on a disk. Sizes and offsets are in bytes. Texts are those of the
// disk and may have any characters.
type Report struct {
	Size       int64       `json:"size"`
	SectorSize int         `json:"sectorSize"`
	Table      string      `json:"table,omitempty"` // gpt or dos
	Empty      bool        `json:"empty,omitempty"`
	FileSystem string      `json:"filesystem,omitempty"` // of a disk without a table
	Label      string      `json:"label,omitempty"`      // of that
	Partitions []Partition `json:"partitions,omitempty"`

	BIOS     bool     `json:"bios"`               // there is boot code
	Firmware []string `json:"firmware,omitempty"` // architectures whose UEFI finds a program, as GOARCH has them
	Programs []File   `json:"programs,omitempty"` // of the EFI system partition
	Entries  []Entry  `json:"entries,omitempty"`  // in the order of a boot menu

	// Notes are what could not be read, and why.
	Notes []string `json:"notes,omitempty"`
}

// Partition is a partition of a disk.
type Partition struct {
	Number     int    `json:"number"`
	Start      int64  `json:"start"`
	Size       int64  `json:"size"`
	Name       string `json:"name,omitempty"` // that the table gives it
	UUID       string `json:"uuid,omitempty"`
	Kind       string `json:"kind,omitempty"` // what its type says, "" for the usual ones
	FileSystem string `json:"filesystem,omitempty"`
	Label      string `json:"label,omitempty"`
}

// File is a file of a partition.
type File struct {
	Path string `json:"path"` // from the root of the file system, without a leading slash
	Size int64  `json:"size"`
}

// Entry is a boot loader entry.
type Entry struct {
	File    string   `json:"file"` // its path on its file system
	Title   string   `json:"title,omitempty"`
	Version string   `json:"version,omitempty"`
	Linux   string   `json:"linux"`
	Initrd  []string `json:"initrd,omitempty"`
	Options string   `json:"options,omitempty"`
}

// sizeCode is how much of the first sector has room for boot code.
const sizeCode = 440

// Disk looks at a disk of size bytes. It is an error when its beginning cannot be
// read; all else that cannot be is noted.
func Disk(r io.ReaderAt, size int64) (*Report, error) {
	c, sectorSize := probe(r, size)
	if c.Err != nil {
		return nil, c.Err
	}
	report := &Report{Size: size, SectorSize: sectorSize, Table: c.Table, Empty: c.Empty, FileSystem: c.Type, Label: c.Label}
	for _, p := range c.Partitions {
		q := Partition{Number: p.Number, Start: p.Start, Size: p.Size, Name: p.Name, Kind: p.Kind, FileSystem: p.Type, Label: p.Label}
		if p.ID != (partition.GUID{}) {
			q.UUID = p.ID.String()
		}
		report.Partitions = append(report.Partitions, q)
	}
	if c.Table != "" {
		code := make([]byte, sizeCode)
		if _, err := r.ReadAt(code, 0); err != nil {
			return nil, fmt.Errorf("boot code: %w", err)
		}
		report.BIOS = slices.ContainsFunc(code, func(b byte) bool { return b != 0 })
	}
	report.boots(r)
	return report, nil
}

// probe recognizes the content of a disk, whatever its sectors: a GPT is in the second
// one.
func probe(r io.ReaderAt, size int64) (blockdev.Content, int) {
	const usual, large = 512, 4096
	signature := make([]byte, 8)
	if n, _ := r.ReadAt(signature, large); n == len(signature) && string(signature) == "EFI PART" {
		if n, _ := r.ReadAt(signature, usual); n < len(signature) || string(signature) != "EFI PART" {
			return blockdev.Probe(r, size, large), large
		}
	}
	return blockdev.Probe(r, size, usual), usual
}

// boots looks for what is started. A file system that fills the disk counts, as that
// of a partition does.
func (report *Report) boots(r io.ReaderAt) {
	parts := report.Partitions
	if len(parts) == 0 && report.FileSystem != "" {
		parts = []Partition{{Size: report.Size, FileSystem: report.FileSystem}}
	}
	for _, p := range parts {
		if p.Start < 0 || p.Size <= 0 || p.Start > report.Size-p.Size {
			report.note(p, fmt.Errorf("reaches beyond the disk of %d bytes", report.Size))
			continue
		}
		volume := io.NewSectionReader(r, p.Start, p.Size)
		var err error
		switch p.FileSystem {
		case "vfat":
			err = report.efi(volume)
		case "ext4":
			err = report.boot(volume)
		case "xfs", "btrfs":
			if p.Name == "boot" || p.Label == "boot" {
				err = fmt.Errorf("boot loader entries on %s are not read", p.FileSystem)
			}
		}
		if err != nil {
			report.note(p, err)
		}
	}
}

// note keeps why a partition could not be read.
func (report *Report) note(p Partition, err error) {
	text := err.Error()
	if p.Number != 0 {
		text = fmt.Sprintf("partition %d: %s", p.Number, strings.TrimSpace(text))
	}
	report.Notes = append(report.Notes, text)
}
