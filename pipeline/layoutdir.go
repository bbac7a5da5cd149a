package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// createLayout makes a new directory for an image layout with the final name
// path. What is there may be another layout, which is replaced, and nothing else.
func createLayout(path string) (*artefact, error) {
	return createDir(path, "image layout", func(names []string) bool { return slices.Contains(names, "oci-layout") })
}

// createDir makes a new directory with the final name path. What is there may be one
// of the same kind, which ours knows by the names in it.
func createDir(path, kind string, ours func(names []string) bool) (*artefact, error) {
	a := &artefact{path: path}
	dir := filepath.Dir(path)
	err := a.mkdirs(dir)
	if err == nil {
		err = replaceable(path, kind, ours)
	}
	if err == nil {
		err = a.openDir(dir)
	}
	if err != nil {
		a.discard()
		return nil, outputError(err)
	}
	return a, nil
}

// replaceable returns an error unless path is a directory that is ours, an empty
// directory or nothing.
func replaceable(path, kind string, ours func(names []string) bool) error {
	list, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if len(names) > 0 && !ours(names) {
		return fmt.Errorf("%s: exists and is no %s", path, kind)
	}
	return nil
}

// openDir makes the temporary directory. What a killed build left under the same
// name is taken out of the way.
func (a *artefact) openDir(dir string) (err error) {
	for n := range 1000 {
		a.temp = filepath.Join(dir, fmt.Sprintf(".%s.%d.part", filepath.Base(a.path), n))
		err = os.Mkdir(a.temp, 0o777)
		if errors.Is(err, fs.ErrExist) && removeAbandoned(a.temp) {
			err = os.Mkdir(a.temp, 0o777)
		}
		if err == nil {
			ok := false
			if a.lock, ok = markDirInUse(a.temp); !ok {
				// Another build took it for abandoned in the moment before.
				err = fs.ErrExist
			}
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		a.temp = ""
	}
	return err
}

// finishLayout gives a directory, whose files are durable, its owner.
func (a *artefact) finishLayout(owner *Owner) error {
	if owner == nil {
		return nil
	}
	err := filepath.WalkDir(a.temp, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, owner.UID, owner.GID)
	})
	for _, dir := range a.dirs {
		if err == nil {
			err = os.Chown(dir, owner.UID, owner.GID)
		}
	}
	if err != nil {
		return chownError(err)
	}
	return nil
}

// renameLayout gives a directory its final name. What had it is out of the way
// before: no directory that has something in it can be replaced at once.
func (a *artefact) renameLayout() error {
	older := a.temp + ".old"
	err := os.Rename(a.path, older)
	if err == nil {
		a.older = older
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(a.temp, a.path); err != nil {
		if a.older != "" {
			_ = os.Rename(a.older, a.path)
			a.older = ""
		}
		return err
	}
	a.temp = ""
	a.unlock()
	return nil
}

// unlock gives up the lock of a directory.
func (a *artefact) unlock() {
	if a.lock != nil {
		a.lock.Close()
		a.lock = nil
	}
}
