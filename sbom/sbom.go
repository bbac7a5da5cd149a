// Package sbom finds the package databases of an image and writes software bills of
// materials of what they say is installed.
package sbom

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/packages"
	"imgbuild/packages/alpm"
	"imgbuild/packages/apk"
	"imgbuild/packages/deb"
	"imgbuild/packages/rpm"
	"imgbuild/sbom/cyclonedx"
	"imgbuild/sbom/spdx"
	"imgbuild/tree"
)

// Format is a format of SBOMs.
type Format string

// The formats, as users name them.
const (
	SPDX      Format = "spdx"
	CycloneDX Format = "cyclonedx"
	// Attached is no format but those of the documents that are attached to the
	// image.
	Attached Format = "attached"
)

// ParseFormat returns the format called name.
func ParseFormat(name string) (Format, error) {
	switch f := Format(name); f {
	case SPDX, CycloneDX, Attached:
		return f, nil
	}
	return "", fault.New(fault.Usage, fmt.Errorf("%q: unknown", name), "spdx, cyclonedx, or attached for those that are attached to the image")
}

// Extension returns the end of the names of files of the format, which other tools
// know them by.
func (f Format) Extension() string {
	if f == SPDX {
		return ".spdx.json"
	}
	return ".cdx.json"
}

// Encode returns the document in the format.
func (f Format) Encode(d *packages.Document) ([]byte, error) {
	if f == SPDX {
		return spdx.Encode(d)
	}
	return cyclonedx.Encode(d)
}

// database is a kind of database, and how it is found and read.
type database struct {
	name string
	// read returns what is installed; an error that wraps fs.ErrNotExist is about an
	// image without such a database.
	read func(ctx context.Context, f *files) ([]*packages.Package, error)
}

// Read reads all package databases of the system in a tree, of which os-release says
// what it is. Without any, the inventory has no packages. Errors are of the class
// BadImage where a database is damaged, Unsupported where it is of a kind that is not
// read.
func Read(ctx context.Context, root *tree.Inode, release map[string]string) (*packages.Inventory, error) {
	inv := &packages.Inventory{OS: system(release)}
	for _, db := range databases() {
		list, err := db.read(ctx, &files{root: root})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			list, err = packages.Resolve(list)
		}
		if err != nil {
			return nil, fault.Default(fault.BadImage, fmt.Errorf("packages of %s: %w", db.name, err))
		}
		base := len(inv.Packages)
		for _, p := range list {
			for i := range p.Depends {
				p.Depends[i] += base
			}
			clean(p)
		}
		inv.Packages = append(inv.Packages, list...)
	}
	return inv, nil
}

func databases() []database {
	return []database{{"dpkg", readDeb}, {"rpm", readRPM}, {"apk", readAPK}, {"pacman", readALPM}}
}

// clean makes texts such that JSON keeps them: what is not UTF-8 is replaced.
func clean(p *packages.Package) {
	for _, s := range []*string{&p.Name, &p.Version, &p.Arch, &p.Summary, &p.License, &p.Supplier, &p.Homepage, &p.Source, &p.SourceVersion} {
		*s = strings.ToValidUTF8(*s, "\ufffd")
	}
}

// files opens the files of one database.
type files struct {
	root *tree.Inode
	size int64 // of all that were opened, in bytes
}

// open returns a regular file, following symbolic links in the image.
func (f *files) open(name string) (*tree.Inode, error) {
	i, err := tree.Resolve(f.root, name)
	if err != nil {
		return nil, err
	}
	if !i.IsFile() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	return i, f.take(name, i)
}

// take counts a file. One with many names is read, and counted, by each of them.
func (f *files) take(name string, i *tree.Inode) error {
	if f.size += i.Content.Size(); f.size > packages.MaxDatabase {
		return fmt.Errorf("%s: %d bytes with all before, more than %d", name, f.size, int64(packages.MaxDatabase))
	}
	return nil
}

// dpkgDirs are the places of dpkg's database; images whose /var is not part of the
// system move it below /usr.
func dpkgDirs() []string { return []string{"usr/lib/sysimage/dpkg", "var/lib/dpkg"} }

// readDeb reads dpkg's database, of the first place that has one.
func readDeb(ctx context.Context, f *files) ([]*packages.Package, error) {
	var list packages.List
	found := false
	for _, dir := range dpkgDirs() {
		names := []string{dir + "/status"}
		if d, err := tree.Resolve(f.root, dir+"/status.d"); err == nil && d.IsDir() {
			for _, e := range d.Entries() {
				if !strings.HasSuffix(e.Name, ".md5sums") {
					names = append(names, dir+"/status.d/"+e.Name)
				}
			}
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			i, err := f.open(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			found = true
			more, err := deb.Parse(i.Content.Reader())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, p := range more {
				if err := list.Add(p); err != nil {
					return nil, fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		if found {
			break
		}
	}
	if !found {
		return nil, fs.ErrNotExist
	}
	licenses := map[*tree.Inode]string{} // packages of one source share the file
	for _, p := range list.Packages {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		i := copyright(f.root, p)
		if i == nil {
			continue
		}
		text, ok := licenses[i]
		if !ok {
			text = deb.License(i.Content.Reader())
			licenses[i] = text
		}
		p.License = text
	}
	return list.Packages, nil
}

// copyright returns the file with the licences of a Debian package, or nil.
func copyright(root *tree.Inode, p *packages.Package) *tree.Inode {
	if !tree.ValidName(p.Name) {
		return nil
	}
	i, err := tree.Resolve(root, path.Join("usr/share/doc", p.Name, "copyright"))
	if err != nil || !i.IsFile() || i.Content.Size() > deb.MaxCopyright {
		return nil
	}
	return i
}

// rpmFile is a file of a database of RPM.
type rpmFile struct{ content.Ref }

// readRPM reads RPM's database, of the first place that has one. rpm-ostree keeps it
// in usr/share, Fedora in usr/lib/sysimage, and others where it always was.
func readRPM(ctx context.Context, f *files) ([]*packages.Package, error) {
	for _, dir := range []string{"usr/lib/sysimage/rpm", "usr/share/rpm", "var/lib/rpm"} {
		list, err := rpm.Read(ctx, func(name string) (rpm.File, error) {
			i, err := f.open(dir + "/" + name)
			if err != nil {
				return nil, err
			}
			return rpmFile{i.Content}, nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		return list, nil
	}
	return nil, fs.ErrNotExist
}

// readAPK reads apk's database: in lib, which is a link to usr/lib where /usr is
// merged.
func readAPK(_ context.Context, f *files) ([]*packages.Package, error) {
	for _, name := range []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} {
		i, err := f.open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := apk.Parse(i.Content.Reader())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return list, nil
	}
	return nil, fs.ErrNotExist
}

// readALPM reads pacman's local database, which bootc images have below /usr.
func readALPM(ctx context.Context, f *files) ([]*packages.Package, error) {
	for _, dir := range []string{"usr/lib/sysimage/pacman/local", "usr/lib/sysimage/lib/pacman/local", "usr/lib/pacman/local", "var/lib/pacman/local"} {
		d, err := tree.Resolve(f.root, dir)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !d.IsDir() {
			continue
		}
		if err != nil {
			return nil, err
		}
		var list packages.List
		for _, e := range d.Entries() {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if !e.Inode.IsDir() {
				continue // ALPM_DB_VERSION
			}
			desc := e.Inode.Child("desc")
			if desc == nil || !desc.IsFile() || desc.Content.Size() > alpm.MaxDesc {
				return nil, fmt.Errorf("%s/%s: no file desc of at most %d bytes", dir, e.Name, alpm.MaxDesc)
			}
			if err := f.take(dir+"/"+e.Name, desc); err != nil {
				return nil, err
			}
			p, err := alpm.Parse(desc.Content.Reader())
			if err != nil {
				return nil, fmt.Errorf("%s/%s/desc: %w", dir, e.Name, err)
			}
			if err := list.Add(p); err != nil {
				return nil, fmt.Errorf("%s/%s/desc: %w", dir, e.Name, err)
			}
		}
		return list.Packages, nil
	}
	return nil, fs.ErrNotExist
}

// system returns the operating system by its os-release(5).
func system(release map[string]string) packages.OS {
	return packages.OS{
		ID: release["ID"], VersionID: release["VERSION_ID"], Name: release["NAME"], PrettyName: release["PRETTY_NAME"],
		CPE: release["CPE_NAME"], HomeURL: release["HOME_URL"],
	}
}
