package scripts

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/selinux"
	"imgbuild/tree"
)

// xattrSELinux is where Linux keeps the label; its value ends in a NUL.
const xattrSELinux = "security.selinux"

// maxPolicy bounds each file of the policy that is read.
const maxPolicy = 16 << 20

// relabel labels what has no label in /etc and /var of a system that has labels.
func relabel(root string) error {
	etc := filepath.Join(root, "etc")
	if n, err := unix.Lgetxattr(etc, xattrSELinux, nil); err != nil || n == 0 {
		return nil
	}
	policy, err := load(etc)
	if err != nil || policy == nil {
		return err
	}
	for _, dir := range []string{"/etc", "/var"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if n, err := unix.Lgetxattr(p, xattrSELinux, nil); err == nil && n > 0 {
				return nil
			}
			var st unix.Stat_t
			if err := unix.Lstat(p, &st); err != nil {
				return &fs.PathError{Op: "lstat", Path: p, Err: err}
			}
			label, ok := policy.Lookup(strings.TrimPrefix(p, root), st.Mode)
			if !ok {
				return nil
			}
			// A file system such as FAT has no labels, and one that is not there takes none.
			err = unix.Lsetxattr(p, xattrSELinux, []byte(label+"\x00"), 0)
			if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EROFS) {
				return &fs.PathError{Op: "label", Path: p, Err: err}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// load reads the policy of an /etc, nil where it has none.
func load(etc string) (*selinux.Policy, error) {
	root := tree.NewDir(0o755)
	err := filepath.WalkDir(filepath.Join(etc, "selinux"), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, etc+"/")
		if !d.Type().IsRegular() || d.Name() != "config" && !strings.Contains(name, "/contexts/files/") {
			return nil
		}
		i, err := d.Info()
		if err != nil || i.Size() > maxPolicy {
			return err
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return tree.Put(root, "etc/"+name, tree.NewFile(0o644, content.Bytes(text)))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return selinux.Load(root)
}
