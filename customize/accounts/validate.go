package accounts

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"imgbuild/customize/crypt"
)

// The limits of what a configuration may ask for.
const (
	maxEntries     = 1000  // users, and groups
	maxName        = 32    // of shadow before 4.15, and of utmp(5)
	maxDescription = 1024  // shadow's limit of a whole line is 32 KiB
	maxHome        = 1024  // a quarter of PATH_MAX, so that there is room for files
	maxKey         = 16384 // SSH_MAX_PUBKEY_BYTES of OpenSSH
	maxKeys        = 1000
	maxGroups      = 65536 // NGROUPS_MAX of Linux
	maxDate        = math.MaxInt32
)

// validator collects problems.
type validator struct {
	problems Problems
}

func (v *validator) add(p Problem, field string, err error) {
	v.item(p, field, -1, err)
}

func (v *validator) item(p Problem, field string, item int, err error) {
	p.Field, p.Item, p.Err = field, item, err
	v.problems = append(v.problems, p)
}

func inUser(i int, u *User) Problem { return Problem{Subject: InUser, Index: i, Name: shorten(u.Name)} }
func inGroup(i int, g *Group) Problem {
	return Problem{Subject: InGroup, Index: i, Name: shorten(g.Name)}
}

// shorten keeps a name of ten megabytes out of messages.
func shorten(s string) string {
	if len(s) <= 64 {
		return s
	}
	return strings.ToValidUTF8(s[:61], "") + "..."
}

func (v *validator) groups(groups []Group) {
	if len(groups) > maxEntries {
		v.add(inGroup(maxEntries, &groups[maxEntries]), "name", fmt.Errorf("more than %d groups", maxEntries))
		return
	}
	names, gids := map[string]int{}, map[int64]int{}
	for i := range groups {
		g := &groups[i]
		if err := checkName(g.Name); err != nil {
			v.add(inGroup(i, g), "name", err)
		} else if first, twice := names[g.Name]; twice {
			v.add(inGroup(i, g), "name", fmt.Errorf("the same name as group %d", first+1))
		} else {
			names[g.Name] = i
		}
		if g.GID == nil {
			continue
		}
		if err := checkID(*g.GID); err != nil {
			v.add(inGroup(i, g), "gid", err)
		} else if first, twice := gids[*g.GID]; twice {
			v.add(inGroup(i, g), "gid", fmt.Errorf("%d is the gid of group %q as well", *g.GID, groups[first].Name))
		} else {
			gids[*g.GID] = i
		}
	}
}

func (v *validator) users(users []User) {
	if len(users) > maxEntries {
		v.add(inUser(maxEntries, &users[maxEntries]), "name", fmt.Errorf("more than %d users", maxEntries))
		return
	}
	names, uids := map[string]int{}, map[int64]int{}
	for i := range users {
		u := &users[i]
		if err := checkName(u.Name); err != nil {
			v.add(inUser(i, u), "name", err)
		} else if first, twice := names[u.Name]; twice {
			v.add(inUser(i, u), "name", fmt.Errorf("the same name as user %d", first+1))
		} else {
			names[u.Name] = i
		}
		if u.UID != nil {
			if err := checkID(*u.UID); err != nil {
				v.add(inUser(i, u), "uid", err)
			} else if first, twice := uids[*u.UID]; twice {
				v.add(inUser(i, u), "uid", fmt.Errorf("%d is the uid of user %q as well", *u.UID, users[first].Name))
			} else {
				uids[*u.UID] = i
			}
		}
		v.user(i, u)
	}
}

// user checks what one user alone can have wrong.
func (v *validator) user(i int, u *User) {
	p := inUser(i, u)
	if u.Description != nil {
		if err := checkText(*u.Description, maxDescription); err != nil {
			v.add(p, "description", err)
		}
	}
	if u.Password != nil {
		if err := checkPassword(*u.Password); err != nil {
			v.add(p, "password", err)
		}
	}
	if len(u.Keys) > maxKeys {
		v.add(p, "key", fmt.Errorf("more than %d keys", maxKeys))
	} else {
		for k, key := range u.Keys {
			if err := checkKey(key); err != nil {
				v.item(p, "key", k, err)
			}
		}
	}
	if u.Home != nil && *u.Home != "" {
		if err := checkPath(*u.Home); err != nil {
			v.add(p, "home", err)
		}
	}
	if u.Shell != nil && *u.Shell != "" {
		if err := checkPath(*u.Shell); err != nil {
			v.add(p, "shell", err)
		}
	}
	v.memberships(p, u)
	if u.GID != nil {
		if err := checkID(*u.GID); err != nil {
			v.add(p, "gid", err)
		}
	}
	if d := u.ExpireDate; d != nil && (*d < -1 || *d > maxDate) {
		v.add(p, "expiredate", fmt.Errorf("%d is no number of days since 1970-01-01", *d))
	}
}

func (v *validator) memberships(p Problem, u *User) {
	if len(u.Groups) > maxGroups {
		v.add(p, "groups", fmt.Errorf("more than %d groups", maxGroups))
		return
	}
	seen := map[string]bool{}
	for k, g := range u.Groups {
		_, number := parseID(g)
		if err := checkName(g); err != nil && !number {
			v.item(p, "groups", k, fmt.Errorf("%q: %w", shorten(g), err))
		} else if seen[g] {
			v.item(p, "groups", k, fmt.Errorf("%q is there twice", g))
		}
		seen[g] = true
	}
}

// warnings adds what is allowed and unwise.
func (v *validator) warnings(i int, u *User) {
	if u.Password == nil || *u.Password == "" {
		return
	}
	switch kind, err := crypt.Classify(*u.Password); {
	case kind == crypt.Plain:
		v.add(inUser(i, u), "password", errors.New("is plain text; a hash (mkpasswd, openssl passwd -6) would keep it out of the configuration"))
	case kind == crypt.Hashed && err == nil && crypt.Weak(*u.Password) != "":
		v.add(inUser(i, u), "password", fmt.Errorf("%s can be broken", crypt.Weak(*u.Password)))
	}
}

// checkName takes the names of useradd(8): is_valid_name of shadow.
func checkName(s string) error {
	switch {
	case s == "":
		return errors.New("missing")
	case len(s) > maxName:
		return fmt.Errorf("longer than %d characters", maxName)
	case s == "." || s == "..":
		return errors.New("not a name")
	case strings.Trim(s, "0123456789") == "":
		return errors.New("a number is no name")
	case s[0] == '-':
		return errors.New("begins with a hyphen")
	}
	for i, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '-':
		case c == '$' && i > 0 && i == len(s)-1: // of a Samba machine
		default:
			return fmt.Errorf("%q is not allowed: letters of ASCII, digits, and _ . - are", c)
		}
	}
	return nil
}

// checkID takes the numbers of users and groups. 65535 and 4294967295 are -1 in 16
// and 32 bits, which stands for "no change" in system calls.
func checkID(id int64) error {
	if id < 0 || id >= math.MaxUint32 || id == math.MaxUint16 {
		return fmt.Errorf("%d is not allowed: 0 to 4294967294, but not 65535, is", id)
	}
	return nil
}

// checkText takes what can be a field of /etc/passwd.
func checkText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("longer than %d bytes", limit)
	}
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	for _, c := range s {
		if c == ':' || unicode.IsControl(c) {
			return fmt.Errorf("%q is not allowed in a field of /etc/passwd", c)
		}
	}
	return nil
}

// checkPath takes an absolute path that means the same with every program.
func checkPath(s string) error {
	if err := checkText(s, maxHome); err != nil {
		return err
	}
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q is not an absolute path", s)
	}
	if trimmed := strings.TrimRight(s, "/"); trimmed != "" && path.Clean(trimmed) != trimmed {
		return fmt.Errorf("%q is not written plainly: %q is", s, path.Clean(s))
	}
	return nil
}

func checkPassword(s string) error {
	if strings.HasPrefix(s, "$") && len(s) > maxDescription {
		return fmt.Errorf("longer than %d bytes", maxDescription)
	}
	kind, err := crypt.Classify(s)
	if err != nil {
		return err
	}
	if kind != crypt.Plain {
		return nil
	}
	if len(s) > crypt.MaxPassword {
		return fmt.Errorf("longer than %d bytes", crypt.MaxPassword)
	}
	if strings.ContainsAny(s, "\x00\n\r") {
		return errors.New("a line break or NUL cannot be typed")
	}
	return nil
}
