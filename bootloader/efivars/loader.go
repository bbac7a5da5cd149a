package efivars

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"imgbuild/tree"
)

// maxCSV bounds a file of boot entries in bytes, and maxLabel a label in characters: it
// is a line of a menu, and firmware has little room for variables.
const (
	maxCSV   = 64 << 10
	maxLabel = 128
)

// FindLoader returns what an EFI system partition is to be started by on an
// architecture (GOARCH name), as label and path of an [Entry]: the first line of
// BOOT<ARCH>.CSV or BOOT.CSV of a vendor's directory, by which shim's fallback
// goes as well; without one the shim, GRUB or systemd-boot of such a directory,
// under the given title. ok is false when there is none: the firmware then starts
// the disk by its removable path.
func FindLoader(esp *tree.Inode, arch, title string) (e Entry, ok bool) {
	suffix := map[string]string{"amd64": "x64", "arm64": "aa64", "386": "ia32", "riscv64": "riscv64", "loong64": "loongarch64"}[arch]
	efi := child(esp, "EFI")
	if efi == nil || suffix == "" {
		return Entry{}, false
	}
	vendors := make([]tree.Entry, 0, efi.Len())
	for _, v := range efi.Entries() {
		if v.Inode.IsDir() && !strings.EqualFold(v.Name, "BOOT") {
			vendors = append(vendors, v)
		}
	}
	for _, csv := range []string{"BOOT" + suffix + ".CSV", "BOOT.CSV"} {
		for _, v := range vendors {
			f := child(v.Inode, csv)
			if f == nil || !f.IsFile() {
				continue
			}
			b, err := f.Content.ReadAll(maxCSV)
			if err != nil {
				continue
			}
			if file, label, ok := firstLine(b); ok && child(v.Inode, file) != nil {
				return Entry{Label: label, Loader: `\EFI\` + v.Name + `\` + file}, true
			}
		}
	}
	for _, name := range []string{"shim", "grub", "systemd-boot"} {
		for _, v := range vendors {
			if file := name + suffix + ".efi"; child(v.Inode, file) != nil {
				label := []rune(title)
				return Entry{Label: string(label[:min(len(label), maxLabel)]), Loader: `\EFI\` + v.Name + `\` + file}, true
			}
		}
	}
	return Entry{}, false
}

// child returns an entry of a directory, whatever the case.
func child(dir *tree.Inode, name string) *tree.Inode {
	if dir == nil || !dir.IsDir() {
		return nil
	}
	for _, e := range dir.Entries() {
		if strings.EqualFold(e.Name, name) {
			return e.Inode
		}
	}
	return nil
}

// firstLine reads the first line "file,label,arguments,description" of a CSV in
// UTF-16LE, with or without a byte order mark.
func firstLine(b []byte) (file, label string, ok bool) {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	text := strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff")
	line, _, _ := strings.Cut(text, "\n")
	file, rest, ok := strings.Cut(strings.TrimRight(line, "\r\x00"), ",")
	label, _, _ = strings.Cut(rest, ",")
	return file, label, ok && file != "" && label != "" && utf8.RuneCountInString(label) <= maxLabel && !strings.ContainsAny(file, `/\`)
}
