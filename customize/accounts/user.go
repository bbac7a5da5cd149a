package accounts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"imgbuild/customize/crypt"
)

// user adds or changes one user. Problems are collected; an error is one of the
// image's files.
func (s *state) user(i int, u *User) error {
	p := inUser(i, u)
	password := s.password(p, u)
	s.checkShell(p, u.Shell)
	s.checkDates(p, u)
	if s.passwd.find(u.Name) != nil || s.known.users[u.Name] != nil {
		return s.modify(p, u, password)
	}
	return s.create(p, u, password)
}

// password returns the field of shadow(5), or "" where none is given.
func (s *state) password(p Problem, u *User) string {
	if u.Password == nil || *u.Password == "" {
		return ""
	}
	if kind, _ := crypt.Classify(*u.Password); kind != crypt.Plain {
		return *u.Password
	}
	method, cost := s.method()
	if name := s.defs["ENCRYPT_METHOD"]; name != "" && name != string(method) {
		s.warn(p, "password", fmt.Errorf("hashed with %s: ENCRYPT_METHOD %s of /etc/login.defs is not safe any more", method, shorten(name)))
	}
	hash, err := crypt.Hash(method, cost, *u.Password, s.sys.Seed("password of "+u.Name))
	if err != nil {
		s.add(p, "password", fmt.Errorf("%w, by /etc/login.defs; give a hash instead", err))
	}
	return hash
}

// method returns how login.defs has passwords hashed, and at which cost. Where it
// names a range of rounds, from which shadow takes one by chance, the highest is
// taken.
func (s *state) method() (crypt.Method, int) {
	rounds := func(kind string) int {
		return int(max(s.defs.number(kind+"_MIN_ROUNDS", -1, -1), s.defs.number(kind+"_MAX_ROUNDS", -1, -1)))
	}
	switch m := crypt.Method(s.defs["ENCRYPT_METHOD"]); m {
	case crypt.Yescrypt:
		return m, int(s.defs.number("YESCRYPT_COST_FACTOR", -1, -1))
	case crypt.SHA256:
		return m, rounds("SHA_CRYPT")
	case crypt.Bcrypt:
		return m, rounds("BCRYPT")
	}
	return crypt.SHA512, rounds("SHA_CRYPT")
}

// checkShell wants a shell that is given to be a program of the image. That of
// accounts nobody logs in to need not be there.
func (s *state) checkShell(p Problem, shell *string) {
	if shell == nil || *shell == "" || *shell == "/sbin/nologin" || *shell == "/usr/sbin/nologin" {
		return
	}
	f := s.sys.Lookup(*shell)
	switch {
	case f == nil:
		s.add(p, "shell", fmt.Errorf("the image has no %s", *shell))
	case !f.IsFile() || f.Perm()&0o111 == 0:
		s.add(p, "shell", fmt.Errorf("%s is not a program", *shell))
	}
}

// checkDates warns of an account that cannot be used.
func (s *state) checkDates(p Problem, u *User) {
	if d := u.ExpireDate; d != nil && *d >= 0 && *d <= s.sys.Time()/86400 {
		s.warn(p, "expiredate", fmt.Errorf("day %d (%s) is over: the account has expired", *d, time.Unix(*d*86400, 0).UTC().Format(time.DateOnly)))
	}
	if u.ForcePasswordReset && (u.Password == nil || *u.Password == "") && len(u.Keys) > 0 {
		s.warn(p, "force_password_reset", errors.New("there is no password to log in with and to change; logging in with a key will fail as well"))
	}
}

// create does what useradd(8) does, with --create-home unless the home is "".
func (s *state) create(p Problem, u *User, password string) error {
	for _, dir := range []string{"/etc/shadow-maint/useradd-pre.d", "/etc/shadow-maint/useradd-post.d"} {
		if d := s.sys.Lookup(dir); d != nil && d.IsDir() && d.Len() > 0 {
			s.warn(p, "name", fmt.Errorf("the scripts in %s are not run", dir))
		}
	}
	uid, okUID := s.pickUID(p, u)
	gid, own, okGID := s.pickGID(p, u, uid)
	groups, err := s.supplementary(p, u.Groups)
	if err != nil {
		return err
	}
	if !okUID || !okGID {
		return nil
	}
	if own {
		lock := "x"
		if !s.gshadow.present {
			lock = "!"
		}
		if err := s.newGroup(u.Name, lock, "!", gid, nil); err != nil {
			return err
		}
	}
	if err := s.addSubIDs(u.Name, uid); err != nil {
		s.add(p, "uid", err)
	}
	dir := s.useradd.home + "/" + u.Name
	if u.Home != nil && *u.Home != "" {
		dir = trimHome(*u.Home)
	}
	shell := s.useradd.shell
	if u.Shell != nil && *u.Shell != "" {
		shell = *u.Shell
	} else if s.sys.Lookup(shell) == nil {
		s.warn(p, "shell", fmt.Errorf("the default is %s, which the image does not have", shell))
	}
	if password == "" {
		password = "!"
	}
	if err := s.newUser(p, u, uid, gid, password, dir, shell); err != nil {
		return err
	}
	if groups == nil && s.useradd.groups != "" && len(u.Groups) == 0 {
		if groups, err = s.defaultGroups(); err != nil {
			return err
		}
	}
	if err := s.join(u.Name, groups); err != nil {
		return err
	}
	h := home{problem: p, uid: uid, gid: gid, path: dir, create: u.Home == nil || *u.Home != "", keys: u.Keys, given: u.Home != nil, mailbox: u.Name}
	s.plan(h)
	return nil
}

// newUser adds the lines of passwd(5) and shadow(5).
func (s *state) newUser(p Problem, u *User, uid, gid uint32, password, dir, shell string) error {
	field, gecos := "x", ""
	if !s.shadow.present {
		field = password
		if u.Password != nil && *u.Password != "" {
			s.warn(p, "password", errors.New("the image has no /etc/shadow, so that everybody can read the hash in /etc/passwd"))
		}
	}
	if u.Description != nil {
		gecos = *u.Description
	}
	if err := s.passwd.update([]string{u.Name, field, id(uid), id(gid), gecos, dir, shell}); err != nil {
		return err
	}
	s.uids[uid] = u.Name
	if !s.shadow.present {
		return nil
	}
	f := s.newShadow(u.Name, password)
	f[spInactive], f[spExpire] = s.useradd.inactive, day(s.useradd.expire)
	if u.ExpireDate != nil {
		f[spExpire] = days(*u.ExpireDate)
	}
	if u.ForcePasswordReset {
		f[spChanged] = "0"
	}
	return s.shadow.update(f)
}

// newShadow returns an entry of shadow(5) with the aging of login.defs.
func (s *state) newShadow(name, password string) []string {
	f := make([]string, spFields)
	f[spName], f[spPassword], f[spChanged] = name, password, s.today
	f[spMax] = days(s.defs.number("PASS_MAX_DAYS", -1, -1))
	f[spWarn] = days(s.defs.number("PASS_WARN_AGE", -1, -1))
	if !s.version.current {
		f[spMin] = days(s.defs.number("PASS_MIN_DAYS", -1, -1))
	}
	return f
}

// days returns a field of shadow(5), in which -1 is empty.
func days(n int64) string {
	if n < 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// day reads the EXPIRE of useradd's defaults: a number of days, or a date.
func day(s string) string {
	if n, ok := parseNumber(s); ok {
		return days(n)
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return ""
	}
	return days(t.Unix() / 86400)
}

// trimHome drops the slashes at the end, as image-builder and usermod do.
func trimHome(dir string) string { return dir[:1] + strings.TrimRight(dir[1:], "/") }

// pickUID returns the uid of a new user.
func (s *state) pickUID(p Problem, u *User) (uint32, bool) {
	if u.UID == nil {
		uid, ok := s.freeUID()
		if !ok {
			s.add(p, "uid", errors.New("none is free between UID_MIN and UID_MAX of /etc/login.defs"))
		}
		return uid, ok
	}
	uid := uint32(*u.UID)
	if owner := s.uidOwner(uid); owner != "" {
		s.add(p, "uid", fmt.Errorf("%d is the uid of user %q", uid, owner))
		return 0, false
	}
	if least, most := s.uidRange(); uid < least || uid > most {
		s.warn(p, "uid", fmt.Errorf("%d is outside the range of users, %d to %d: UID_MIN and UID_MAX of /etc/login.defs", uid, least, most))
	}
	return uid, true
}

// pickGID returns the primary group of a new user, and whether it is one of its
// own, which has to be made.
func (s *state) pickGID(p Problem, u *User, uid uint32) (gid uint32, own, ok bool) {
	if u.GID != nil {
		return uint32(*u.GID), false, s.checkGID(p, *u.GID)
	}
	if !s.defs.yes("USERGROUPS_ENAB") {
		return s.defaultGroup(), false, true
	}
	if have, fixed, exists := s.findGroup(u.Name); exists || s.failed[u.Name] {
		if fixed {
			s.add(p, "gid", fmt.Errorf("there is a group %q already, so that the user can have none of its own; gid = %d makes it the primary group", u.Name, have))
		} else if !s.failed[u.Name] {
			s.add(p, "gid", fmt.Errorf("%s has a group %q, so that the user can have none of its own", s.known.groups[u.Name].source, u.Name))
		}
		return 0, false, false
	}
	if gid, ok = s.userGID(uid); !ok {
		s.add(p, "gid", errors.New("none is free between GID_MIN and GID_MAX of /etc/login.defs"))
	}
	return gid, true, ok
}

// defaultGroup returns the GROUP of useradd's defaults, which counts only where
// there is such a group.
func (s *state) defaultGroup() uint32 {
	if n, ok := parseID(s.useradd.group); ok {
		return n
	}
	if gid, fixed, ok := s.findGroup(s.useradd.group); ok && fixed {
		return gid
	}
	n, _ := parseID(builtinDefaults(false).group)
	return n
}

// checkGID wants a group of that number. One of sysusers.d is made.
func (s *state) checkGID(p Problem, gid int64) bool {
	name := s.gidOwner(uint32(gid))
	if name == "" {
		s.add(p, "gid", fmt.Errorf("there is no group with gid %d, in the image or among those to be made", gid))
		return false
	}
	if g := s.known.groups[name]; g != nil && s.gids[uint32(gid)] == "" && g.late {
		if _, err := s.localGroup(name); err != nil {
			s.add(p, "gid", err)
			return false
		}
	}
	return true
}

// supplementary returns the names of groups, which are in /etc/group after it.
func (s *state) supplementary(p Problem, list []string) (names []string, err error) {
	for k, name := range list {
		if gid, ok := parseID(name); ok {
			if name = s.gidOwner(gid); name == "" {
				s.item(p, "groups", k, fmt.Errorf("gid %d: %w", gid, errUnknownGroup))
				continue
			}
		}
		if s.failed[name] {
			continue
		}
		switch _, err := s.localGroup(name); {
		case errors.Is(err, errUnknownGroup):
			s.item(p, "groups", k, fmt.Errorf("%q: %w", name, err))
		case err != nil:
			s.item(p, "groups", k, err)
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	return names, nil
}

// defaultGroups returns the GROUPS of useradd's defaults that /etc/group has.
func (s *state) defaultGroups() (names []string, err error) {
	for name := range strings.SplitSeq(s.useradd.groups, ",") {
		if gid, ok := parseID(name); ok {
			name = s.gids[gid]
		}
		if s.group.find(name) != nil {
			names = append(names, name)
		}
	}
	return names, nil
}

// join makes a user a member of groups: in group(5), and in gshadow(5) where there
// is an entry.
func (s *state) join(user string, groups []string) error {
	for _, t := range []struct {
		table *table
		field int
	}{{s.group, grMembers}, {s.gshadow, sgMembers}} {
		for _, name := range groups {
			f := t.table.find(name)
			if f == nil || !t.table.present {
				continue
			}
			list := members(f[t.field])
			if slices.Contains(list, user) {
				continue
			}
			if err := t.table.setMembers(f, t.field, append(list, user)); err != nil {
				return err
			}
		}
	}
	return nil
}
