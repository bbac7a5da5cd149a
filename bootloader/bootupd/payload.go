// Package bootupd reads what an image ships for bootupd
// (https://github.com/coreos/bootupd) and writes what `bootupctl backend
// install` leaves on a disk: the EFI files, GRUB's static configuration and the
// state file. The rules are those of bootupd 0.2.35, with those of 0.2.27 and
// earlier for an image that has grub-static-post.cfg.
//
// Not done: NVRAM entries, adoption and updates, which belong to a running
// system.
package bootupd

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"

	"imgbuild/tree"
)

// Places in an image.
const (
	efiLibDir  = "usr/lib/efi"             // <component>/<evr>/EFI, since 0.2.29
	updatesDir = "usr/lib/bootupd/updates" // EFI.json, BIOS.json
	oldEFIDir  = updatesDir + "/EFI"       // before 0.2.29
	staticDir  = "usr/lib/bootupd/grub2-static"
	tmpPrefix  = ".btmp." // bootupd's own temporary files on the ESP
)

// maxPayloadFiles bounds the EFI payload; Fedora's has 20.
const maxPayloadFiles = 4096

// File is a file of the EFI payload.
type File struct {
	Path   string // below EFI/ on the ESP; a file that is not copied has its Source
	Source string // below the root of the payload
	Copied bool   // part of an EFI directory, so on the ESP
	Inode  *tree.Inode
}

// Component is a package of the EFI payload.
type Component struct{ Name, EVR string }

// Payload is what an image has for the ESP.
type Payload struct {
	Root       string      // usr/lib/efi or usr/lib/bootupd/updates/EFI
	Components []Component // in the first layout, by name
	Files      []File      // in the order they are copied: a later one of the same path wins
	Dirs       []string    // directories below EFI/, parents first
	Warnings   []string
}

// FindPayload returns the EFI payload of an image, or nil when it has none.
//
// Symbolic links, special files and names of bootupd's temporary files in the
// payload are errors, as they are for bootupd.
func FindPayload(os *tree.Inode) (*Payload, error) {
	if p, err := findComponents(os); p != nil || err != nil {
		return p, err
	}
	return ReadPayload(os, oldEFIDir)
}

// ReadPayload returns the payload that is in the directory at a path as in EFI/
// on the ESP, or nil when there is none.
func ReadPayload(os *tree.Inode, at string) (*Payload, error) {
	dir, err := resolveDir(os, at)
	if dir == nil || err != nil {
		return nil, err
	}
	p := &Payload{Root: at}
	if err := p.add(dir, "", "", true); err != nil {
		return nil, err
	}
	if len(p.Files) == 0 {
		return nil, nil
	}
	return p, nil
}

// findComponents returns the payload of usr/lib/efi, or nil when that has no
// component.
func findComponents(os *tree.Inode) (*Payload, error) {
	lib, err := resolveDir(os, efiLibDir)
	if lib == nil || err != nil {
		return nil, err
	}
	p := &Payload{Root: efiLibDir}
	chosen := map[string]string{} // component: EVR
	for _, c := range lib.Entries() {
		if evr, warning := newest(c.Inode); evr != "" {
			chosen[c.Name] = evr
			p.Components = append(p.Components, Component{c.Name, evr})
			if warning != "" {
				p.Warnings = append(p.Warnings, fmt.Sprintf("%s/%s: %s", efiLibDir, c.Name, warning))
			}
		}
	}
	if len(p.Components) == 0 {
		return nil, nil
	}
	// Everything below the root is in the state file; what is in an EFI
	// directory of a chosen version is copied.
	for _, c := range lib.Entries() {
		if !c.Inode.IsDir() || chosen[c.Name] == "" {
			if err := p.addEntry(c, "", "", false); err != nil {
				return nil, err
			}
			continue
		}
		for _, v := range c.Inode.Entries() {
			at := c.Name + "/" + v.Name
			efi := v.Inode.Child("EFI")
			switch {
			case v.Name != chosen[c.Name] && efi != nil && efi.IsDir():
				// An older version.
			case v.Name != chosen[c.Name]:
				if err := p.addEntry(v, c.Name+"/", "", false); err != nil {
					return nil, err
				}
			default:
				for _, e := range v.Inode.Entries() {
					var err error
					if e.Name == "EFI" {
						err = p.add(e.Inode, at+"/EFI/", "", true)
					} else {
						err = p.addEntry(e, at+"/", "", false)
					}
					if err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return p, nil
}

// newest returns the newest version of a component that has an EFI directory,
// or "", and a warning when there are several.
func newest(component *tree.Inode) (evr, warning string) {
	var versions []string
	for _, v := range component.Entries() {
		if efi := v.Inode.Child("EFI"); efi == nil || !efi.IsDir() {
			continue
		}
		versions = append(versions, v.Name)
		if evr == "" || CompareEVR(v.Name, evr) >= 0 {
			evr = v.Name
		}
	}
	if len(versions) > 1 {
		warning = fmt.Sprintf("versions %s, of which %s is installed", strings.Join(versions, ", "), evr)
	}
	return evr, warning
}

// add adds the content of a directory of the payload. source and dest are the
// paths of its entries below the payload's root and below EFI/, with a slash at
// the end or empty.
func (p *Payload) add(dir *tree.Inode, source, dest string, copied bool) error {
	for _, e := range dir.Entries() {
		if err := p.addEntry(e, source, dest, copied); err != nil {
			return err
		}
	}
	return nil
}

func (p *Payload) addEntry(e tree.Entry, source, dest string, copied bool) error {
	at := path.Join(p.Root, source, e.Name)
	switch {
	case strings.HasPrefix(e.Name, tmpPrefix):
		return fmt.Errorf("%s: a name of bootupd's temporary files", at)
	case !utf8.ValidString(e.Name):
		return fmt.Errorf("%q: a name that is not UTF-8", at)
	case e.Inode.IsDir():
		if copied {
			if len(p.Dirs) == maxPayloadFiles {
				return fmt.Errorf("%s: more than %d directories", p.Root, maxPayloadFiles)
			}
			p.Dirs = append(p.Dirs, dest+e.Name)
		}
		return p.add(e.Inode, source+e.Name+"/", dest+e.Name+"/", copied)
	case e.Inode.IsLink():
		return fmt.Errorf("%s: a symbolic link, and the EFI system partition has none", at)
	case !e.Inode.IsFile():
		return fmt.Errorf("%s: not a regular file", at)
	}
	if len(p.Files) == maxPayloadFiles {
		return fmt.Errorf("%s: more than %d files", p.Root, maxPayloadFiles)
	}
	f := File{Path: dest + e.Name, Source: source + e.Name, Copied: copied, Inode: e.Inode}
	if !copied {
		f.Path = f.Source
	}
	p.Files = append(p.Files, f)
	return nil
}

// Shim returns the name of shim for an architecture (GOARCH name), or "" when
// that has none.
func Shim(arch string) string {
	switch arch {
	case "amd64":
		return "shimx64.efi"
	case "arm64":
		return "shimaa64.efi"
	case "riscv64":
		return "shimriscv64.efi"
	}
	return ""
}

// Vendor returns the vendor directory on the ESP: the parent of the only file
// called shim (see [Shim]) in the payload.
func (p *Payload) Vendor(shim string) (string, error) {
	var found []string
	for _, f := range p.Files {
		if f.Copied && path.Base(f.Path) == shim {
			found = append(found, f.Path)
		}
	}
	switch {
	case len(found) == 0:
		return "", fmt.Errorf("no %s in %s", shim, p.Root)
	case len(found) > 1:
		return "", fmt.Errorf("%s twice in %s: %s", shim, p.Root, strings.Join(found, ", "))
	case !strings.Contains(found[0], "/"):
		return "", fmt.Errorf("%s in %s is in no vendor's directory", shim, p.Root)
	}
	return path.Base(path.Dir(found[0])), nil
}

// Lookup returns the file that the path below EFI/ gets on the ESP, or nil.
// Like the ESP it does not tell upper from lower case.
func (p *Payload) Lookup(at string) *tree.Inode {
	for k := len(p.Files) - 1; k >= 0; k-- {
		if f := p.Files[k]; f.Copied && strings.EqualFold(f.Path, at) {
			return f.Inode
		}
	}
	return nil
}

// ESP returns the tree of the ESP that the payload makes. Files have the
// content they have in the image; directories that differ only in case become
// one, as they do on a FAT file system.
func (p *Payload) ESP() *tree.Inode {
	root := tree.NewDir(0o755)
	efi := tree.NewDir(0o755)
	root.Set("EFI", efi)
	for _, d := range p.Dirs {
		dir := efi
		for name := range strings.SplitSeq(d, "/") {
			dir = subdirectory(dir, name)
		}
	}
	for _, f := range p.Files {
		if !f.Copied {
			continue
		}
		file := tree.NewFile(0o644, f.Inode.Content)
		file.Mtime = f.Inode.Mtime
		PutFile(efi, f.Path, file)
	}
	return root
}

// PutFile puts a file at a path on the ESP, in place of what has its name but
// for case. Directories that are missing are made.
func PutFile(esp *tree.Inode, at string, file *tree.Inode) {
	dir := esp
	for {
		first, rest, ok := strings.Cut(at, "/")
		if !ok {
			set(dir, at, file)
			return
		}
		dir, at = subdirectory(dir, first), rest
	}
}

// set gives a file the name in dir, in place of what has it but for case.
func set(dir *tree.Inode, name string, file *tree.Inode) {
	if old := existing(dir, name); old != "" {
		dir.Remove(old)
	}
	dir.Set(name, file)
}

// subdirectory returns the directory called name in dir, made where it is
// missing.
func subdirectory(dir *tree.Inode, name string) *tree.Inode {
	if old := existing(dir, name); old != "" {
		if d := dir.Child(old); d.IsDir() {
			return d
		}
		dir.Remove(old)
	}
	d := tree.NewDir(0o755)
	dir.Set(name, d)
	return d
}

// existing returns the name in dir that equals name but for case, or "".
func existing(dir *tree.Inode, name string) string {
	if dir.Child(name) != nil {
		return name
	}
	for _, e := range dir.Entries() {
		if strings.EqualFold(e.Name, name) {
			return e.Name
		}
	}
	return ""
}

// resolveDir returns the directory at a path, or nil when there is none.
func resolveDir(os *tree.Inode, p string) (*tree.Inode, error) {
	i, err := tree.Resolve(os, p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !i.IsDir() {
		return nil, nil
	}
	return i, nil
}
