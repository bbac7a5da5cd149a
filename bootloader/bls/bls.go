// Package bls reads boot loader entries of type 1 (UAPI.1, The Boot Loader
// Specification, "Type #1 Boot Loader Specification Entries") as ostree writes
// them.
//
// The subset is what GRUB acts on: title, version, linux, initrd, devicetree,
// options. Other keys are kept out, as the specification asks of readers.
package bls

import (
	"errors"
	"fmt"
	"strings"
)

// maxEntry is the largest entry read, in bytes. Kernels take a command line of
// 2048 to 4096 bytes.
const maxEntry = 64 << 10

// Entry is a boot loader entry.
type Entry struct {
	Title, Version string
	Linux          string // path on the file system that holds the entry
	Initrd         []string
	DeviceTree     string
	Options        string // several options lines are joined by a blank
}

// Parse parses an entry: lines of a key, blanks and a value; # begins a
// comment line. An entry without a kernel is an error.
func Parse(text []byte) (Entry, error) {
	var e Entry
	if len(text) > maxEntry {
		return e, fmt.Errorf("boot loader entry of %d bytes", len(text))
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return e, fmt.Errorf("boot loader entry, line %d: control character", number)
		}
		key, value := line, ""
		if k := strings.IndexAny(line, " \t"); k >= 0 {
			key, value = line[:k], strings.TrimLeft(line[k:], " \t")
		}
		switch key {
		case "title":
			e.Title = value
		case "version":
			e.Version = value
		case "linux":
			e.Linux = value
		case "initrd":
			e.Initrd = append(e.Initrd, value)
		case "devicetree":
			e.DeviceTree = value
		case "options":
			e.Options = strings.TrimLeft(e.Options+" "+value, " ")
		}
	}
	if e.Linux == "" {
		return e, errors.New("boot loader entry without a kernel")
	}
	return e, nil
}
