package accounts

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"imgbuild/customize"
)

// account is a user that the system has besides those of /etc/passwd, or will
// have once it runs.
type account struct {
	source            string // the file that says so
	name              string
	uid, gid          uint32
	gecos, home, sh   string
	fixed, fixedGroup bool   // uid and gid are known; sysusers.d may leave them open
	group             string // the primary group by name, of sysusers.d
	locked            bool   // "u!" of sysusers.d
	immutable         bool   // of userdb: no line of /etc/passwd can stand for it
}

// group is a group that the system has besides those of /etc/group.
type group struct {
	source  string
	name    string
	gid     uint32
	fixed   bool
	late    bool // of sysusers.d: it comes to exist when the system starts
	members []string
}

// known are the users and groups that stand in no file of /etc, in the order of
// their precedence: nss-altfiles, userdb, sysusers.d.
type known struct {
	users  map[string]*account
	groups map[string]*group
	uids   map[uint32]string // names of the numbers that are taken
	gids   map[uint32]string
}

func (k *known) addUser(a *account) {
	if k.users[a.name] != nil || checkName(a.name) != nil {
		return
	}
	k.users[a.name] = a
	if a.fixed && k.uids[a.uid] == "" {
		k.uids[a.uid] = a.name
	}
}

func (k *known) addGroup(g *group) {
	if k.groups[g.name] != nil || checkName(g.name) != nil {
		return
	}
	g.members = slices.DeleteFunc(g.members, func(m string) bool { return checkName(m) != nil })
	k.groups[g.name] = g
	if g.fixed && k.gids[g.gid] == "" {
		k.gids[g.gid] = g.name
	}
}

// readKnown reads everything that stands in no file of /etc.
func readKnown(sys *customize.System) (*known, error) {
	k := &known{users: map[string]*account{}, groups: map[string]*group{}, uids: map[uint32]string{}, gids: map[uint32]string{}}
	text, err := readText(sys, "/etc/nsswitch.conf", maxSettings)
	if err != nil {
		return nil, err
	}
	services := parseSwitch(text)
	for _, db := range []string{"passwd", "group"} {
		for _, s := range services[db] {
			switch s {
			case "altfiles":
				err = k.readAltfiles(sys, db)
			case "systemd":
				err = k.readUserdb(sys, db)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return k, k.readSysusers(sys)
}

// readAltfiles reads /usr/lib/passwd or /usr/lib/group of nss-altfiles.
func (k *known) readAltfiles(sys *customize.System, db string) error {
	file := "/usr/lib/" + db
	valid := validPasswd
	if db == "group" {
		valid = validGroup
	}
	t, err := readTable(sys, file, 0, valid)
	if err != nil {
		return err
	}
	for _, l := range t.lines {
		f := l.fields
		if f == nil {
			continue
		}
		if db == "group" {
			gid, _ := parseID(f[grGID])
			k.addGroup(&group{source: file, name: f[grName], gid: gid, fixed: true, members: members(f[grMembers])})
			continue
		}
		uid, _ := parseID(f[pwUID])
		gid, _ := parseID(f[pwGID])
		k.addUser(&account{source: file, name: f[pwName], uid: uid, gid: gid, gecos: f[pwGecos], home: f[pwHome], sh: f[pwShell], fixed: true, fixedGroup: true})
	}
	return nil
}

// maxRecord and maxRecords bound what is read of userdb and sysusers.d.
const (
	maxRecord  = 1 << 20
	maxRecords = 10000
)

// readUserdb reads the JSON records that nss-systemd serves without systemd's
// help (nss-systemd(8), "CONFIGURATION OF STATIC USERS").
func (k *known) readUserdb(sys *customize.System, db string) error {
	suffix := ".user"
	if db == "group" {
		suffix = ".group"
	}
	files, err := dropIns(sys, suffix, "/etc/userdb", "/usr/local/lib/userdb", "/usr/lib/userdb")
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := sys.ReadFile(file, maxRecord)
		if err != nil {
			continue // a link that leads nowhere, or to /dev/null
		}
		var r struct {
			UserName, GroupName, RealName, HomeDirectory, Shell string
			UID, GID                                            *uint32
			Members                                             []string
		}
		if json.Unmarshal(text, &r) != nil {
			continue // systemd skips it as well
		}
		switch {
		case db == "group" && r.GroupName != "" && r.GID != nil:
			k.addGroup(&group{source: file, name: r.GroupName, gid: *r.GID, fixed: true, members: r.Members})
		case db == "passwd" && r.UserName != "" && r.UID != nil:
			a := &account{source: file, name: r.UserName, uid: *r.UID, gecos: r.RealName, home: r.HomeDirectory, sh: r.Shell, fixed: true, immutable: true}
			if r.GID != nil {
				a.gid, a.fixedGroup = *r.GID, true
			}
			k.addUser(a)
		}
	}
	return nil
}

// dropIns returns the files of directories, sorted by name; of equal names the
// one in the first directory. Names that are numbers are links to the others.
func dropIns(sys *customize.System, suffix string, dirs ...string) ([]string, error) {
	found := map[string]string{}
	for _, dir := range dirs {
		d := sys.Lookup(dir)
		if d == nil || !d.IsDir() {
			continue
		}
		if d.Len() > maxRecords {
			return nil, fmt.Errorf("%s has %d files, more than %d", dir, d.Len(), maxRecords)
		}
		for _, e := range d.Entries() {
			stem, ok := strings.CutSuffix(e.Name, suffix)
			if _, err := strconv.Atoi(stem); !ok || err == nil || found[e.Name] != "" {
				continue
			}
			found[e.Name] = path.Join(dir, e.Name)
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = found[name]
	}
	return names, nil
}
