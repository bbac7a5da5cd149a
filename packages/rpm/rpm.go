// Package rpm reads RPM's database of installed packages: rpmdb.sqlite of RPM 4.16
// and later with the backend sqlite, and Packages.db of the backend ndb, which SUSE
// uses. Headers are those of docs/manual/format_header.md.
//
// The database of Berkeley DB that RPM had before is refused by its name: no system
// with it is a bootc image.
package rpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"imgbuild/fault"
	"imgbuild/packages"
	"imgbuild/packages/sqlite"
)

// File is a file of the database.
type File interface {
	io.ReaderAt
	Size() int64
}

// Directory opens a file of the directory of the database. The error wraps
// fs.ErrNotExist where there is none.
type Directory func(name string) (File, error)

// Read returns what is installed. The error wraps fs.ErrNotExist where the directory
// has no database, and is of the class Unsupported for one that is not read.
func Read(ctx context.Context, dir Directory) ([]*packages.Package, error) {
	all, err := open(dir)
	if err != nil {
		return nil, err
	}
	var list packages.List
	wanted := map[string]bool{} // files that are required
	rows := 0
	err = all(ctx, func(h *header) error {
		if rows++; rows > packages.MaxPackages { // those that are no packages, too
			return packages.ErrTooMany
		}
		p, err := newPackage(h)
		if err != nil || p == nil {
			return err
		}
		if err := list.Add(p); err != nil {
			return err
		}
		for _, r := range p.Requires {
			for _, name := range r {
				if strings.HasPrefix(name, "/") {
					wanted[name] = true
				}
			}
		}
		return nil
	})
	if err != nil || len(wanted) == 0 {
		return list.Packages, err
	}
	// The lists of files are long, and nearly all of them not asked for: they are
	// read a second time instead of kept.
	i := 0
	return list.Packages, all(ctx, func(h *header) error {
		name, err := h.text(tagName)
		if err != nil || name == "" || name == keyRing {
			return err
		}
		p := list.Packages[i]
		i++
		before := len(p.Provides)
		if err := addFiles(h, p, wanted); err != nil {
			return err
		}
		return list.Count(len(p.Provides) - before)
	})
}

// headers calls fn for the headers of all packages, always in the same order.
type headers func(ctx context.Context, fn func(h *header) error) error

// open finds the database of a directory.
func open(dir Directory) (headers, error) {
	for _, db := range []struct {
		name string
		open func(dir Directory, f File) (headers, error)
	}{
		{"rpmdb.sqlite", openSQLite}, {"Packages.db", openNDB}, {"Packages", openBerkeley},
	} {
		f, err := dir(db.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all, err := db.open(dir, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", db.name, err)
		}
		return func(ctx context.Context, fn func(h *header) error) error {
			if err := all(ctx, fn); err != nil {
				return fmt.Errorf("%s: %w", db.name, err)
			}
			return nil
		}, nil
	}
	return nil, fs.ErrNotExist
}

// openSQLite opens a database whose table Packages has the headers as blobs.
func openSQLite(dir Directory, f File) (headers, error) {
	if j, err := dir("rpmdb.sqlite-journal"); err == nil && j.Size() >= int64(len(sqlite.JournalMagic)) {
		b := make([]byte, len(sqlite.JournalMagic))
		if _, err := j.ReadAt(b, 0); err != nil {
			return nil, err
		}
		if string(b) == sqlite.JournalMagic {
			return nil, fault.New(fault.Unsupported, errors.New("was left in the middle of a change: there is a rollback journal"), "run rpm -qa at the end of the container build, which rolls it back")
		}
	}
	var wal io.ReaderAt
	logSize := int64(0)
	w, err := dir("rpmdb.sqlite-wal")
	if err == nil {
		wal, logSize = w, w.Size()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	db, err := sqlite.Open(f, f.Size(), wal, logSize)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, fn func(h *header) error) error {
		return db.Rows(ctx, "Packages", func(rowid int64, v []sqlite.Value) error {
			if len(v) < 2 {
				return fmt.Errorf("package %d: no header", rowid)
			}
			return call(fn, v[1].Bytes, rowid)
		})
	}, nil
}

// call parses a header and gives it to fn.
func call(fn func(h *header) error, blob []byte, number int64) error {
	h, err := parseHeader(blob)
	if err == nil {
		err = fn(h)
	}
	if err != nil {
		return fmt.Errorf("package %d: %w", number, err)
	}
	return nil
}

func openBerkeley(Directory, File) (headers, error) {
	return nil, fault.New(fault.Unsupported, errors.New("is a database of Berkeley DB, which is not read"), "rpmdb --rebuilddb in the container build makes one of sqlite, with RPM 4.16 or later")
}
