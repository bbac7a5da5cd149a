package kmod

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// info is what a module says about itself.
type info struct {
	Depends  []string // names of modules that it cannot be loaded without
	Pre      []string // names or aliases that should be loaded before it, if there are such
	Post     []string // and after it
	Aliases  []string // patterns of the devices it serves, and other names
	Firmware []string // paths below lib/firmware that it may ask for
}

// maxInfo bounds a section .modinfo in bytes; real ones have up to 200 KiB.
const maxInfo = 16 << 20

// readInfo reads the section .modinfo of a module.
func readInfo(r io.ReaderAt) (info, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return info{}, err
	}
	section := f.Section(".modinfo")
	if section == nil || section.Type != elf.SHT_PROGBITS {
		return info{}, errors.New("no section .modinfo")
	}
	if section.Size > maxInfo || section.FileSize > maxInfo {
		return info{}, fmt.Errorf("a section .modinfo of %d bytes", section.Size)
	}
	data, err := section.Data()
	if err != nil {
		return info{}, err
	}
	return parseInfo(string(data)), nil
}

// parseInfo reads entries key=value, each ended by NUL.
func parseInfo(text string) (m info) {
	for entry := range strings.SplitSeq(text, "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, underscores(d))
				}
			}
		case "alias":
			m.Aliases = append(m.Aliases, value)
		case "firmware":
			m.Firmware = append(m.Firmware, value)
		case "softdep":
			list := &m.Pre
			for _, word := range strings.Fields(value) {
				switch word {
				case "pre:":
					list = &m.Pre
				case "post:":
					list = &m.Post
				default:
					*list = append(*list, underscores(word))
				}
			}
		}
	}
	for _, list := range []*[]string{&m.Aliases, &m.Firmware} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return m
}
