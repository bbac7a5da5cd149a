package accounts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// modify does what usermod(8) does to a user that exists, and makes the home that
// is missing.
func (s *state) modify(p Problem, u *User, password string) error {
	if a := s.known.users[u.Name]; s.passwd.find(u.Name) == nil {
		if err := s.localUser(a); err != nil {
			s.add(p, "name", err)
			return nil
		}
	}
	f := slices.Clone(s.passwd.find(u.Name))
	uid, _ := parseID(f[pwUID])
	gid, _ := parseID(f[pwGID])
	if u.UID != nil && *u.UID != int64(uid) {
		s.add(p, "uid", fmt.Errorf("the image has this user with uid %d, which cannot be changed", uid))
	}
	groups, err := s.supplementary(p, u.Groups)
	if err != nil {
		return err
	}
	changed := false
	set := func(field int, value *string) {
		if value != nil && *value != f[field] {
			f[field], changed = *value, true
		}
	}
	set(pwGecos, u.Description)
	if u.Shell != nil && *u.Shell != "" {
		set(pwShell, u.Shell)
	}
	if u.Home != nil && *u.Home != "" {
		dir := trimHome(*u.Home)
		set(pwHome, &dir)
	}
	newGID := gid
	if u.GID != nil && s.checkGID(p, *u.GID) && uint32(*u.GID) != gid {
		newGID = uint32(*u.GID)
		changed = true
	}
	inShadow, err := s.modifyShadow(u, f, password)
	if err != nil {
		return err
	}
	if changed || inShadow {
		f[pwGID] = id(newGID)
		if err := s.passwd.update(f); err != nil {
			return err
		}
	}
	if len(groups) > 0 {
		if err := s.leave(p, u.Name, groups); err != nil {
			return err
		}
		if err := s.join(u.Name, groups); err != nil {
			return err
		}
	}
	s.plan(home{
		problem: p, uid: uid, gid: newGID, oldGID: gid, path: f[pwHome], keys: u.Keys, given: u.Home != nil, existing: true,
		create: u.Home != nil && *u.Home != "" || len(u.Keys) > 0 || uid == 0 || uid >= s.defs.id("UID_MIN", defaultMin),
	})
	return nil
}

// modifyShadow changes the password, the day of expiry and the day of the last
// change, in the entry f of passwd(5) too where the password stands there. It
// reports whether f has to be written again.
func (s *state) modifyShadow(u *User, f []string, password string) (bool, error) {
	lock := u.Password != nil && *u.Password == ""
	if password == "" && !lock && u.ExpireDate == nil && !u.ForcePasswordReset {
		return false, nil
	}
	renew := func(old string) string {
		switch {
		case lock && !strings.HasPrefix(old, "!"):
			return "!" + old
		case password != "":
			return password
		}
		return old
	}
	if !s.shadow.present {
		if u.ExpireDate != nil || u.ForcePasswordReset {
			return false, errors.New("/etc/shadow is missing, so that there is no place for dates")
		}
		f[pwPassword] = renew(f[pwPassword])
		return true, nil
	}
	inPasswd := f[pwPassword] != "x"
	if inPasswd {
		f[pwPassword] = renew(f[pwPassword])
	}
	sp := slices.Clone(s.shadow.find(u.Name))
	if sp == nil {
		sp = s.newShadow(u.Name, renew(f[pwPassword]))
		f[pwPassword], inPasswd = "x", true
	} else {
		sp = canonicalShadow(sp)
		sp[spPassword] = renew(sp[spPassword])
	}
	if password != "" {
		sp[spChanged] = s.today
	}
	if u.ExpireDate != nil {
		sp[spExpire] = days(*u.ExpireDate)
	}
	if u.ForcePasswordReset {
		sp[spChanged] = "0"
	}
	return inPasswd || password != "" || lock, s.shadow.update(sp)
}

// canonicalShadow returns an entry as putspent(3) writes it.
func canonicalShadow(f []string) []string {
	for len(f) < spFields {
		f = append(f, "")
	}
	for i := spChanged; i < spFlag; i++ {
		if n, err := strconv.ParseInt(f[i], 10, 64); err == nil {
			f[i] = days(n)
		}
	}
	return f
}

// leave takes a user out of the groups that are not in the list, and warns of it.
func (s *state) leave(p Problem, user string, groups []string) error {
	var left []string
	for _, t := range []struct {
		table *table
		field int
	}{{s.group, grMembers}, {s.gshadow, sgMembers}} {
		for _, l := range t.table.lines {
			if l.fields == nil || slices.Contains(groups, l.fields[0]) {
				continue
			}
			list := members(l.fields[t.field])
			if !slices.Contains(list, user) {
				continue
			}
			list = slices.DeleteFunc(list, func(m string) bool { return m == user })
			if err := t.table.setMembers(l.fields, t.field, list); err != nil {
				return err
			}
			if t.table == s.group {
				left = append(left, l.fields[grName])
			}
		}
	}
	if left != nil {
		s.warn(p, "groups", fmt.Errorf("the user leaves the groups it is in and that are not listed: %s", strings.Join(left, ", ")))
	}
	return nil
}

// localUser puts a user that exists elsewhere into /etc/passwd and /etc/shadow,
// and where sysusers.d defines it makes it as systemd-sysusers would.
func (s *state) localUser(a *account) error {
	if a.immutable {
		return fmt.Errorf("%s defines this user, and only that file can change it", a.source)
	}
	uid, gid := a.uid, a.gid
	if !a.fixedGroup {
		var err error
		if gid, err = s.localGroup(orDefault(a.group, a.name)); err != nil {
			return fmt.Errorf("primary group of this user of %s: %w", a.source, err)
		}
	} else if name := s.gidOwner(gid); name != "" && s.known.groups[name] != nil && s.known.groups[name].late {
		if _, err := s.localGroup(name); err != nil {
			return err
		}
	}
	if !a.fixed {
		if uid = gid; s.uidOwner(uid) != "" {
			var ok bool
			if uid, ok = s.systemID("UID"); !ok {
				return fmt.Errorf("no uid is free for this user of %s", a.source)
			}
		}
	} else if owner := s.uids[uid]; owner != "" {
		return fmt.Errorf("%s gives this user uid %d, which is that of user %q", a.source, uid, owner)
	}
	if err := s.passwd.update([]string{a.name, "x", id(uid), id(gid), a.gecos, a.home, a.sh}); err != nil {
		return err
	}
	s.uids[uid] = a.name
	if !s.shadow.present || s.shadow.find(a.name) != nil {
		return nil
	}
	f := make([]string, spFields)
	f[spName], f[spPassword], f[spChanged] = a.name, "!*", s.today
	if a.locked {
		f[spExpire] = "1"
	}
	return s.shadow.update(f)
}
