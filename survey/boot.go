package survey

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/bootloader/bls"
)

// Limits of what is listed. A system has a handful of each.
const (
	maxPrograms = 200
	maxEntries  = 100
	maxEntry    = 64 << 10 // bytes of an entry
)

// removable are the programs that firmware starts from a disk that it has no boot
// entry for, with the GOARCH names of what they run on.
var removable = [][2]string{
	{"bootx64.efi", "amd64"}, {"bootia32.efi", "386"}, {"bootaa64.efi", "arm64"}, {"bootarm.efi", "arm"},
	{"bootriscv64.efi", "riscv64"}, {"bootloongarch64.efi", "loong64"},
}

// efi lists the programs of an EFI system partition, and its boot loader entries. A
// FAT without the directory EFI is none.
func (report *Report) efi(r sized) error {
	v, err := openVFAT(r)
	if err != nil {
		return err
	}
	vendors, err := v.list("EFI")
	if err != nil {
		return err
	}
	for _, vendor := range vendors {
		if !vendor.dir {
			continue
		}
		files, err := v.list(path.Join("EFI", vendor.name))
		if err != nil {
			return err
		}
		for _, f := range files {
			lower := strings.ToLower(f.name)
			if f.dir || path.Ext(lower) != ".efi" {
				continue
			}
			if len(report.Programs) == maxPrograms {
				return fmt.Errorf("more than %d EFI programs", maxPrograms)
			}
			report.Programs = append(report.Programs, File{path.Join("EFI", vendor.name, f.name), f.size})
			if !strings.EqualFold(vendor.name, "BOOT") {
				continue
			}
			for _, p := range removable {
				if p[0] == lower && !slices.Contains(report.Firmware, p[1]) {
					report.Firmware = append(report.Firmware, p[1])
				}
			}
		}
	}
	return report.entries(v, "loader/entries")
}

// boot lists the boot loader entries of an ext4, which is /boot or has it.
func (report *Report) boot(r sized) error {
	v, err := openExt4(r)
	if err != nil {
		return err
	}
	for _, dir := range []string{"", "boot"} {
		names, err := v.list(dir)
		if err != nil {
			return err
		}
		for _, f := range names {
			if f.name != "loader" {
				continue
			}
			where := f.name
			if f.link {
				// Of ostree's two directories the link names the one that counts.
				if where, err = v.link(path.Join(dir, f.name)); err != nil {
					return err
				}
				if where != path.Base(where) || !strings.HasPrefix(where, "loader") {
					return fmt.Errorf("%s leads to %q", path.Join(dir, f.name), where)
				}
			}
			return report.entries(v, path.Join(dir, where, "entries"))
		}
	}
	return nil
}

// entries reads the boot loader entries of a directory, of which there may be none.
func (report *Report) entries(v *volume, dir string) error {
	files, err := v.list(dir)
	if err != nil {
		return err
	}
	first := len(report.Entries)
	for _, f := range files {
		if f.dir || path.Ext(f.name) != ".conf" {
			continue
		}
		name := path.Join(dir, f.name)
		if len(report.Entries) == maxEntries {
			return fmt.Errorf("more than %d boot loader entries", maxEntries)
		}
		if f.size > maxEntry {
			return fmt.Errorf("%s: %d bytes", name, f.size)
		}
		text, err := v.read(name)
		if err != nil {
			return err
		}
		e, err := bls.Parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		report.Entries = append(report.Entries, Entry{name, e.Title, e.Version, e.Linux, e.Initrd, e.Options})
	}
	// A menu begins with the last name: ostree-2 is before ostree-1.
	slices.SortFunc(report.Entries[first:], func(a, b Entry) int { return strings.Compare(b.File, a.File) })
	return nil
}
