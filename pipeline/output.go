package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"imgbuild/fault"
)

// artefact is an output file, or a directory of files, that is being written. It
// has a temporary name in its own directory until it is complete.
type artefact struct {
	path  string // the final name
	temp  string
	file  *os.File // nil for a directory, and once it is closed
	lock  *os.File // of a directory that is being written, or nil
	older string   // what had the final name before, while the build may still fail
	dirs  []string // made for it, outermost first

	attached string // of a file that is attached to the image: the digest of what it is attached to
}

// createArtefact opens a new file for the final name path.
func createArtefact(path string) (*artefact, error) {
	a := &artefact{path: path}
	dir := filepath.Dir(path)
	if err := a.mkdirs(dir); err != nil {
		a.discard()
		return nil, outputError(err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		a.discard()
		return nil, outputError(fmt.Errorf("%s: exists and is no regular file", path))
	}
	if err := a.open(dir); err != nil {
		a.discard()
		return nil, outputError(err)
	}
	return a, nil
}

// open creates the temporary file. Unlike os.CreateTemp it leaves the mode to
// the umask, as any program that creates a file for its user does. What a killed
// build left under the same name is taken out of the way.
func (a *artefact) open(dir string) (err error) {
	for n := range 1000 {
		a.temp = filepath.Join(dir, fmt.Sprintf(".%s.%d.part", filepath.Base(a.path), n))
		a.file, err = os.OpenFile(a.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, fs.ErrExist) && removeAbandoned(a.temp) {
			a.file, err = os.OpenFile(a.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		}
		if err == nil && !markInUse(a.file) {
			// Another build took it for abandoned in the moment before.
			a.file.Close()
			err = fs.ErrExist
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		a.file, a.temp = nil, ""
	}
	return err
}

// mkdirs makes the directory and its parents, and remembers which were new.
func (a *artefact) mkdirs(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("not a directory")}
		}
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := a.mkdirs(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(dir, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		a.dirs = append(a.dirs, dir)
	}
	return err
}

// commit makes all files durable and then gives them their final names. When
// one of them cannot have it, none has: what was there before is there again.
func commit(all []*artefact, owner *Owner) error {
	for _, a := range all {
		if err := a.finish(owner); err != nil {
			return outputError(err)
		}
	}
	for k, a := range all {
		if err := a.rename(); err != nil {
			for _, done := range all[:k] {
				done.restore()
			}
			return outputError(err)
		}
	}
	for _, a := range all {
		if a.older != "" {
			os.RemoveAll(a.older)
		}
		a.dirs = nil
		syncDir(filepath.Dir(a.path))
	}
	return nil
}

// finish makes the content durable and closes the file.
func (a *artefact) finish(owner *Owner) error {
	if a.file == nil {
		return a.finishLayout(owner)
	}
	if owner != nil {
		if err := a.file.Chown(owner.UID, owner.GID); err != nil {
			return chownError(err)
		}
		for _, dir := range a.dirs {
			if err := os.Chown(dir, owner.UID, owner.GID); err != nil {
				return chownError(err)
			}
		}
	}
	return a.file.Sync()
}

func chownError(err error) error {
	return fault.New(fault.Output, fmt.Errorf("--chown: %w", err), "only root gives files to others")
}

// rename gives the file its final name, and what had it before a second one, where
// the file system has hard links.
func (a *artefact) rename() error {
	if a.file == nil {
		return a.renameLayout()
	}
	older := strings.TrimSuffix(a.temp, ".part") + ".old.part"
	_ = os.Remove(older) // of a killed build with the same number
	if os.Link(a.path, older) == nil {
		a.older = older
	}
	// The lock outlives the file, or another build could take it for abandoned.
	release := holdLock(a.file)
	defer release()
	err := a.file.Close()
	a.file = nil
	if err == nil {
		err = os.Rename(a.temp, a.path)
	}
	if err != nil {
		if a.older != "" {
			os.Remove(a.older)
			a.older = ""
		}
		return err
	}
	a.temp = ""
	return nil
}

// restore undoes rename.
func (a *artefact) restore() {
	if a.older == "" {
		os.RemoveAll(a.path)
		return
	}
	if info, err := os.Stat(a.older); err == nil && info.IsDir() {
		os.RemoveAll(a.path) // no directory that has something in it can be replaced
	}
	_ = os.Rename(a.older, a.path)
	a.older = ""
}

// discard removes what is there of the artefact, and the directories made for
// it. After a commit it does nothing.
func (a *artefact) discard() {
	if a.file != nil {
		a.file.Close()
		a.file = nil
	}
	if a.temp != "" {
		os.RemoveAll(a.temp)
		a.temp = ""
	}
	a.unlock()
	for i := len(a.dirs) - 1; i >= 0; i-- {
		os.Remove(a.dirs[i]) // stays when something else is in it
	}
	a.dirs = nil
}

// syncDir makes a rename durable, where the system can. The file is complete
// either way, so a failure is no reason to fail.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}

// outputError classes an error that came from writing a result.
func outputError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.NoSpace, err, "free some space there, or choose another place with --output, --cache or TMPDIR")
	}
	if fault.ClassOf(err) == fault.Output && fault.HintOf(err) != "" {
		return err
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fault.New(fault.Output, err, "choose a directory you may write to with --output")
	}
	return fault.Default(fault.Output, err)
}
