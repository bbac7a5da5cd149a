// Package files puts files and directories of the configuration into the system,
// under the path policy of image-builder for ostree and bootc
// (OstreeCustomFilesPolicies, OstreeCustomDirectoriesPolicies).
package files

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// Config is the tables "files" and "directories".
type Config struct {
	Files       []File
	Directories []Directory
}

// Owner is a user or group, by name or by number. The zero value leaves it to the
// default: root, or what a directory has.
type Owner struct {
	Name string
	ID   *int64
}

// Directory is one directory to make, or to change where the system has it.
type Directory struct {
	Path        string
	User, Group Owner
	// Mode is the permissions in octal, or "" for 0755 or what a directory has.
	Mode string
	// EnsureParents makes missing parents.
	EnsureParents bool
}

// File is one file to write, in place of a file or symbolic link that is there.
type File struct {
	Path        string
	User, Group Owner
	// Mode is the permissions in octal, or "" for 0644, or those of a local source.
	Mode string
	// Data is the content, unless there is a URI.
	Data string
	// URI is where the content is: file:// or https://.
	URI string
	// SHA256 is the digest of the content in hexadecimal digits, required for
	// https.
	SHA256 string
}

// Options widen what may be written.
type Options struct {
	// Allow are paths at or below which files and directories may be written as
	// well, as far as they lead into /etc or /var.
	Allow []string
}

// Source gives the content of URIs.
type Source interface {
	// Fetch returns the content, whose digest is sha256 unless that is "", and
	// the permissions of a local file, 0 where there are none.
	Fetch(ctx context.Context, uri, sha256 string) (content.Ref, uint32, error)
}

// Apply makes the directories, then writes the files, each in the order of the
// paths. It comes after users and groups, whose names it looks up. src may be nil
// where no file has a URI. The error is customize.Problems where configuration and
// image do not fit; the system is to be given up after any error.
func Apply(ctx context.Context, sys *customize.System, c Config, o Options, src Source) (warnings customize.Problems, err error) {
	if p := Validate(c, o); len(p) > 0 {
		return nil, p
	}
	a := applier{sys: sys, users: users(), groups: groups(), real: map[string]string{},
		denied: map[bool]policy{true: directoryPolicy().allow(o.Allow), false: filePolicy().allow(o.Allow)}}
	for _, i := range byPath(len(c.Directories), func(i int) string { return c.Directories[i].Path }) {
		a.directory(fmt.Sprintf("directories[%d]", i), c.Directories[i])
	}
	for _, i := range byPath(len(c.Files), func(i int) string { return c.Files[i].Path }) {
		if err := a.file(ctx, fmt.Sprintf("files[%d]", i), c.Files[i], src); err != nil {
			return nil, err
		}
	}
	return nil, a.problems.Err()
}

type applier struct {
	sys           *customize.System
	users, groups *names
	real          map[string]string // items by path without symbolic links
	denied        map[bool]policy   // of directories (true) and files
	problems      customize.Problems
}

// problem records what is wrong with a field of an item.
func (a *applier) problem(field string, err error) {
	switch {
	case errors.Is(err, customize.ErrReadOnly):
		err = fault.New(fault.Unsupported, err, "put it into the image: COPY FILE PATH in the Containerfile")
	default:
		err = fault.Default(fault.Usage, err)
	}
	a.problems.Add(field, err)
}

// resolve returns the path that a path of the configuration leads to, the last
// component not followed unless it is a directory's, or "" after a problem.
func (a *applier) resolve(at, p string, isDir bool) string {
	dir, err := a.sys.RealPath(path.Dir(p))
	if err != nil {
		a.problem(at+".path", err)
		return ""
	}
	real := path.Join(dir, path.Base(p))
	if isDir {
		if real, err = a.sys.RealPath(real); err != nil {
			a.problem(at+".path", err)
			return ""
		}
	}
	switch ok, entry := a.denied[isDir].allows(real); {
	case !strings.HasPrefix(real, "/etc/") && !strings.HasPrefix(real, "/var/") && real != "/etc" && real != "/var":
		if real != p {
			p += ", which is " + real + ","
		}
		a.problem(at+".path", fmt.Errorf("%s is %w", p, customize.ErrReadOnly))
		return ""
	case !ok && entry != "/":
		a.problem(at+".path", fault.New(fault.Usage, fmt.Errorf("%s leads to %s, which may not be written", p, real), widen))
		return ""
	}
	if other := a.real[real]; other != "" {
		a.problem(at+".path", fmt.Errorf("%s is %s, as is %s", p, real, other))
		return ""
	}
	a.real[real] = at
	return real
}

// owners looks up the owners of an item.
func (a *applier) owners(at string, user, group Owner) (uid, gid uint32, ok bool) {
	uid, uErr := a.users.lookup(a.sys, user)
	if uErr != nil {
		a.problem(at+".user", uErr)
	}
	gid, gErr := a.groups.lookup(a.sys, group)
	if gErr != nil {
		a.problem(at+".group", gErr)
	}
	return uid, gid, uErr == nil && gErr == nil
}

// parents makes sure that the parent directory of a path is there. Those that
// systems of ostree make at boot, since the image has links to them, are made as
// they are there.
func (a *applier) parents(at, real string, ensure bool) bool {
	var missing []string
	for dir := path.Dir(real); ; dir = path.Dir(dir) {
		i := a.sys.Lookup(dir)
		if i != nil {
			if !i.IsDir() {
				a.problem(at+".path", fmt.Errorf("%s is not a directory", dir))
				return false
			}
			break
		}
		missing = append(missing, dir)
	}
	for k := len(missing) - 1; k >= 0; k-- {
		dir := missing[k]
		mode, known := bootDirectories[dir]
		if !known {
			if !ensure {
				a.problem(at+".path", fault.New(fault.Usage, fmt.Errorf("there is no directory %s", dir),
					fmt.Sprintf("add it: [[customizations.directories]] with path = %q", dir)))
				return false
			}
			mode = 0o755
		}
		if _, err := a.sys.Put(dir, func(*tree.Inode) (*tree.Inode, error) { return tree.NewDir(mode), nil }); err != nil {
			a.problem(at+".path", err)
			return false
		}
	}
	return true
}

// bootDirectories are the directories in /var of rpm-ostree-0-integration.conf and
// of bootc's base images, with their permissions.
var bootDirectories = map[string]uint32{
	"/var/home": 0o755, "/var/opt": 0o755, "/var/srv": 0o755, "/var/mnt": 0o755, "/var/roothome": 0o700,
	"/var/usrlocal": 0o755, "/var/usrlocal/bin": 0o755, "/var/usrlocal/etc": 0o755, "/var/usrlocal/games": 0o755,
	"/var/usrlocal/include": 0o755, "/var/usrlocal/lib": 0o755, "/var/usrlocal/man": 0o755, "/var/usrlocal/sbin": 0o755,
	"/var/usrlocal/share": 0o755, "/var/usrlocal/src": 0o755,
}

func (a *applier) directory(at string, d Directory) {
	uid, gid, ok := a.owners(at, d.User, d.Group)
	real := a.resolve(at, d.Path, true)
	if real == "" || real != "/etc" && real != "/var" && !a.parents(at, real, d.EnsureParents) || !ok {
		return
	}
	change := func(i *tree.Inode) {
		if d.Mode != "" {
			i.Mode = tree.TypeDir | permissions(d.Mode, 0)
		}
		if d.User.given() {
			i.UID = uid
		}
		if d.Group.given() {
			i.GID = gid
		}
	}
	if old := a.sys.Lookup(real); old != nil {
		// It stays the same inode, as it has its entries.
		if !old.IsDir() {
			a.problem(at+".path", fmt.Errorf("%s is there and not a directory", d.Path))
			return
		}
		change(old)
		return
	}
	mode, known := bootDirectories[real]
	if !known {
		mode = 0o755
	}
	if _, err := a.sys.Put(real, func(*tree.Inode) (*tree.Inode, error) {
		i := tree.NewDir(mode)
		change(i)
		return i, nil
	}); err != nil {
		a.problem(at+".path", err)
	}
}

func (a *applier) file(ctx context.Context, at string, f File, src Source) error {
	uid, gid, ok := a.owners(at, f.User, f.Group)
	real := a.resolve(at, f.Path, false)
	if real == "" || !a.parents(at, real, false) || !ok {
		return nil
	}
	text, mode := content.String(f.Data), uint32(0o644)
	if f.URI != "" {
		if src == nil {
			return fmt.Errorf("%s: no source for %s", at, f.URI)
		}
		got, perm, err := src.Fetch(ctx, f.URI, f.SHA256)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			a.problem(at+".uri", err)
			return nil
		}
		text = got
		if perm != 0 {
			mode = perm & 0o777
		}
	}
	// A link is replaced and not followed.
	if _, err := a.sys.Remove(real); err != nil {
		a.problem(at+".path", err)
		return nil
	}
	if _, err := a.sys.Put(real, func(*tree.Inode) (*tree.Inode, error) {
		i := tree.NewFile(permissions(f.Mode, mode), text)
		i.UID, i.GID = uid, gid
		return i, nil
	}); err != nil {
		a.problem(at+".path", err)
	}
	return nil
}
