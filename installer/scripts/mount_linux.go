package scripts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts are what was mounted, in that order.
type mounts struct {
	list []string
	out  io.Writer
}

// target mounts an installed system and returns where its root directory is.
func (m *mounts) target(t *Target, dir string) (root string, err error) {
	image := filepath.Join(dir, Sysimage)
	root = filepath.Join(dir, Sysroot)
	for _, d := range []string{image, root} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	if len(t.Mounts) == 0 {
		return "", errors.New("no root file system")
	}
	if err := m.device(t.Mounts[0], image); err != nil {
		return "", err
	}
	deployment := filepath.Join(image, t.Deployment)
	if i, err := os.Lstat(deployment); err != nil {
		return "", fmt.Errorf("there is no deployment %s: %w", t.Deployment, err)
	} else if !i.IsDir() {
		return "", fmt.Errorf("the deployment %s is no directory", t.Deployment)
	}
	if err := m.bind(deployment, root, 0); err != nil {
		return "", err
	}
	// As the running system has it: nothing of the image can be changed.
	if err := m.readOnly(filepath.Join(root, "usr")); err != nil {
		return "", err
	}
	for _, b := range [][2]string{{image, "sysroot"}, {filepath.Join(image, t.Var), "var"}, {filepath.Join(image, "boot"), "boot"}} {
		if err := m.inside(root, b[1], func(at string) error { return m.bind(b[0], at, 0) }); err != nil {
			return "", err
		}
	}
	for _, f := range t.Mounts[1:] {
		err := m.inside(root, f.Where, func(at string) error {
			err := m.device(f, at)
			if !errors.Is(err, unix.ENODEV) {
				return err
			}
			// What a script writes there is to fail, not to end up elsewhere.
			fmt.Fprintf(m.out, "%s is not there: the installer's kernel has no %s\n", f.Where, f.Type)
			return m.mount("none", at, "tmpfs", unix.MS_RDONLY, "")
		})
		if err != nil {
			return "", err
		}
	}
	return root, m.kernel(root)
}

// kernel mounts what the kernel provides, and room for what is of the moment.
func (m *mounts) kernel(root string) error {
	for _, k := range []struct {
		where, typ, options string
		flags               uintptr
	}{
		{"proc", "proc", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sys", "sysfs", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"run", "tmpfs", "mode=755", unix.MS_NOSUID | unix.MS_NODEV},
		{"tmp", "tmpfs", "mode=1777", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		err := m.inside(root, k.where, func(at string) error { return m.mount(k.typ, at, k.typ, k.flags, k.options) })
		if err != nil {
			return err
		}
	}
	return m.inside(root, "dev", func(at string) error { return m.bind("/dev", at, unix.MS_REC) })
}

// inside calls mount with a directory of the system at root. Links are followed as
// the system has them. A directory that is missing where none can be made is left out.
func (m *mounts) inside(root, where string, mount func(at string) error) error {
	real, err := within(root, where)
	if err != nil {
		return err
	}
	at := filepath.Join(root, real)
	if i, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(at, 0o755); err != nil {
			fmt.Fprintf(m.out, "no directory for /%s: %v\n", strings.TrimPrefix(where, "/"), err)
			return nil
		}
	} else if err != nil {
		return err
	} else if !i.IsDir() {
		return fmt.Errorf("%s is not a directory", where)
	}
	return mount(at)
}

// device mounts a file system.
func (m *mounts) device(f Mount, at string) error {
	var flags uintptr
	var data []string
	for _, o := range strings.Split(f.Options, ",") {
		switch o {
		case "", "defaults", "rw", "ro": // scripts may write
		case "nodev":
			flags |= unix.MS_NODEV
		case "nosuid":
			flags |= unix.MS_NOSUID
		case "noatime":
			flags |= unix.MS_NOATIME
		default:
			data = append(data, o)
		}
	}
	return m.mount(f.Source, at, f.Type, flags, strings.Join(data, ","))
}

func (m *mounts) bind(source, at string, flags uintptr) error {
	if err := m.mount(source, at, "", unix.MS_BIND|flags, ""); err != nil {
		return err
	}
	// What is unmounted here stays mounted elsewhere.
	return unix.Mount("", at, "", unix.MS_PRIVATE|flags, "")
}

func (m *mounts) readOnly(at string) error {
	if err := m.bind(at, at, 0); err != nil {
		return err
	}
	return unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
}

func (m *mounts) mount(source, at, typ string, flags uintptr, options string) error {
	if err := unix.Mount(source, at, typ, flags, options); err != nil {
		return &fs.PathError{Op: "mount " + source + " at", Path: at, Err: err}
	}
	m.list = append(m.list, at)
	return nil
}

// unmount unmounts everything, the last first. What a process still uses is detached
// and written all the same.
func (m *mounts) unmount() error {
	unix.Sync()
	var errs []error
	for _, at := range slices.Backward(m.list) {
		if unix.Unmount(at, 0) == nil {
			continue
		}
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			errs = append(errs, &fs.PathError{Op: "unmount", Path: at, Err: err})
		}
	}
	m.list = nil
	return errors.Join(errs...)
}
