package accounts

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/tree"
)

// home is what has to be done to a user's home directory.
type home struct {
	problem          Problem
	uid, gid, oldGID uint32
	path             string // as passwd(5) has it
	create           bool   // if it is missing
	given            bool   // by the configuration
	existing         bool   // the user is one of the image
	keys             []string
	mailbox          string // the user that gets a mail spool, or ""
}

// rootMode is the mode of root's home, which systemd's provision.conf makes so.
const rootMode = 0o700

// plan checks that a home can be made, and remembers it.
func (s *state) plan(h home) {
	field := "home"
	if !h.given && len(h.keys) > 0 {
		field = "key"
	}
	dir := s.sys.Lookup(h.path)
	switch {
	case dir != nil && !dir.IsDir():
		s.add(h.problem, field, fmt.Errorf("%s is not a directory", h.path))
		return
	case dir == nil && h.create:
		if err := s.writable(h.path); err != nil {
			// The home of many a system account does not exist, and need not.
			if !h.existing || h.given || len(h.keys) > 0 {
				s.add(h.problem, field, err)
			}
			return
		}
	case dir == nil && len(h.keys) > 0:
		s.add(h.problem, "key", fmt.Errorf("there is no home directory %s for it", h.path))
		return
	case dir != nil && (h.given || !h.existing):
		if err := s.writable(h.path); err != nil {
			s.add(h.problem, field, err)
			return
		}
		if !h.existing {
			s.warn(h.problem, "home", fmt.Errorf("%s exists already; it is not changed and gets no files of %s", h.path, s.useradd.skel))
		}
	}
	s.planKeys(h, dir)
	s.homes = append(s.homes, h)
}

// writable tells whether a directory can be made or changed at a path.
func (s *state) writable(p string) error {
	real, err := s.sys.RealPath(p)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%q is not an absolute path", p)
	}
	if !strings.HasPrefix(real, "/var/") {
		return fmt.Errorf("%s is not below /var, the only place for homes that stay", p)
	}
	for at := real; at != "/"; at = path.Dir(at) {
		if i := s.sys.Lookup(at); i != nil && !i.IsDir() {
			return fmt.Errorf("%s is not a directory", at)
		} else if i == nil && !tree.ValidName(path.Base(at)) {
			return fmt.Errorf("%q: no file can have this name", at)
		}
	}
	return nil
}

// planKeys checks that sshd will take the keys: with StrictModes it wants the home,
// .ssh and the file to be written by nobody but the user and root.
func (s *state) planKeys(h home, dir *tree.Inode) {
	if len(h.keys) == 0 {
		return
	}
	ssh := path.Join(h.path, ".ssh")
	if err := s.writable(ssh); err != nil {
		s.add(h.problem, "key", err)
		return
	}
	if f := s.sys.Lookup(path.Join(ssh, "authorized_keys")); f != nil && !f.IsFile() {
		s.add(h.problem, "key", fmt.Errorf("%s/authorized_keys is not a regular file", ssh))
		return
	}
	mode, owner := s.homeMode(h.uid), h.uid
	if dir != nil {
		mode, owner = dir.Perm(), dir.UID
	}
	if mode&0o022 != 0 || owner != 0 && owner != h.uid {
		s.warn(h.problem, "key", fmt.Errorf("sshd will ignore the key: %s is writable by others (owner %d, mode %04o)", h.path, owner, mode))
	}
}

// homeMode returns the mode of a new home.
func (s *state) homeMode(uid uint32) uint32 {
	if uid == 0 {
		return rootMode
	}
	umask := s.defs.number("UMASK", -1, 0o022)
	return uint32(s.defs.number("HOME_MODE", -1, 0o777&^umask)) & tree.PermMask
}

// make makes the directory, its files, the keys and the mail spool.
func (h *home) make(s *state) error {
	dir := s.sys.Lookup(h.path)
	if dir == nil && h.create {
		if _, err := s.sys.Put(h.path, func(*tree.Inode) (*tree.Inode, error) {
			dir = tree.NewDir(s.homeMode(h.uid))
			dir.UID, dir.GID = h.uid, h.gid
			if h.uid != 0 {
				return dir, s.copySkel(h, dir)
			}
			return dir, nil
		}); err != nil {
			return err
		}
	} else if dir != nil && h.existing && h.oldGID != h.gid && dir.UID == h.uid && s.writable(h.path) == nil {
		chgrp(dir, h.oldGID, h.gid)
	}
	if len(h.keys) > 0 {
		if err := h.writeKeys(s); err != nil {
			return err
		}
	}
	if h.mailbox == "" {
		return nil
	}
	return h.makeMailbox(s)
}

// chgrp does what usermod does to the files of a user whose group changes.
func chgrp(i *tree.Inode, from, to uint32) {
	if i.IsDir() {
		for _, e := range i.Entries() {
			chgrp(e.Inode, from, to)
		}
	}
	if i.GID == from {
		i.GID, i.Object = to, tree.Sum{}
	}
}

// copySkel copies the directories of useradd's defaults, as copy_tree of shadow
// does: everything belongs to the user, modes and times stay, a link to something
// in the directory leads to the copy. What is there already stays.
func (s *state) copySkel(h *home, dir *tree.Inode) error {
	for _, skel := range []string{s.useradd.skel, s.useradd.usrSkel} {
		from := s.sys.Lookup(skel)
		if from == nil || !from.IsDir() {
			continue
		}
		c := copier{skel: skel, home: h, xattrs: s.version.xattrs, done: map[*tree.Inode]*tree.Inode{}}
		if err := c.directory(from, dir); err != nil {
			return err
		}
	}
	return nil
}

// copier copies one directory of defaults.
type copier struct {
	skel   string
	home   *home
	xattrs bool
	done   map[*tree.Inode]*tree.Inode // so that hard links stay ones
	count  int
}

// maxSkel is the number of files that are copied for a user at most.
const maxSkel = 10000

func (c *copier) directory(from, to *tree.Inode) error {
	for _, e := range from.Entries() {
		if c.count++; c.count > maxSkel {
			return fmt.Errorf("%s has more than %d files", c.skel, maxSkel)
		}
		have := to.Child(e.Name)
		if e.Inode.IsDir() {
			if have == nil {
				have = c.copy(e.Inode)
				to.Set(e.Name, have)
			}
			if !have.IsDir() {
				continue
			}
			if err := c.directory(e.Inode, have); err != nil {
				return err
			}
		} else if have == nil {
			to.Set(e.Name, c.copy(e.Inode))
		}
	}
	return nil
}

// copy returns the user's copy of an inode. SELinux's label is that of the new
// place, which is given later.
func (c *copier) copy(from *tree.Inode) *tree.Inode {
	if i := c.done[from]; i != nil {
		return i
	}
	i := from.Copy()
	i.UID, i.GID, i.Object, i.Flags = c.home.uid, c.home.gid, tree.Sum{}, 0
	i.Xattrs = nil
	if !i.IsLink() {
		for _, x := range from.Xattrs {
			if x.Name == "system.posix_acl_access" || x.Name == "system.posix_acl_default" || c.xattrs && strings.HasPrefix(x.Name, "user.") {
				i.Xattrs = append(i.Xattrs, x)
			}
		}
	} else if rest, ok := strings.CutPrefix(i.Target, c.skel); ok {
		i.Target = c.home.path + rest
	}
	if !i.IsDir() {
		c.done[from] = i
	}
	return i
}

// writeKeys adds the keys to authorized_keys.
func (h *home) writeKeys(s *state) error {
	ssh := path.Join(h.path, ".ssh")
	if _, err := s.sys.Put(ssh, func(old *tree.Inode) (*tree.Inode, error) {
		if old == nil {
			old = tree.NewDir(0o700)
			old.UID, old.GID = h.uid, h.gid
			return old, nil
		}
		old.Mode &^= 0o022
		if old.UID != 0 {
			old.UID = h.uid
		}
		return old, nil
	}); err != nil {
		return err
	}
	_, err := s.sys.Put(path.Join(ssh, "authorized_keys"), func(old *tree.Inode) (*tree.Inode, error) {
		f := tree.NewFile(0o600, content.Ref{})
		var text []byte
		if old != nil {
			var err error
			if text, err = old.Content.ReadAll(maxTable); err != nil {
				return nil, err
			}
			f = old.Copy()
		}
		f.Mode = tree.TypeFile | 0o600
		f.UID, f.GID, f.Object = h.uid, h.gid, tree.Sum{}
		f.Content = content.Bytes(appendKeys(text, h.keys))
		return f, nil
	})
	return err
}

// makeMailbox makes an empty file in MAIL_DIR where useradd's defaults want one and
// the directory is there.
func (h *home) makeMailbox(s *state) error {
	dir := orDefault(s.defs["MAIL_DIR"], "/var/mail")
	if !s.useradd.mailSpool || s.defs["MAIL_DIR"] == "" && s.defs["MAIL_FILE"] != "" || s.lookupDir(dir) == nil {
		return nil
	}
	file := path.Join(dir, h.mailbox)
	if s.sys.Lookup(file) != nil || s.writable(file) != nil {
		return nil
	}
	gid, mode := h.gid, uint32(0o600)
	if mail, fixed, ok := s.findGroup("mail"); ok && fixed {
		gid, mode = mail, 0o660
	}
	_, err := s.sys.Put(file, func(old *tree.Inode) (*tree.Inode, error) {
		if old != nil {
			return nil, errors.New("exists")
		}
		f := tree.NewFile(mode, content.Ref{})
		f.UID, f.GID = h.uid, gid
		return f, nil
	})
	return err
}
