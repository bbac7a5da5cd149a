package accounts

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/tree"
)

var update = flag.Bool("update", false, "write the golden files anew")

// today is 2026-11-18, day 20775.
const today = 20775 * 86400

func ptr[T any](v T) *T { return &v }

const (
	someHash = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
	someKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQICAwQEBQUGBgcHCAgJCQoKCwsMDA0NDg4PDw/ user@example.com"
	otherKey = `from="192.0.2.0/24",command="/bin/echo \"hi there\"" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwECAw== second`
)

// fedora are files of an image with nss-altfiles, userdb and sysusers.d, as those
// of Fedora and CentOS are.
func fedora() map[string]string {
	return map[string]string{
		"etc/passwd":              "root:x:0:0:Super User:/root:/bin/bash\n",
		"etc/shadow":              "root:!locked::0:99999:7:::\n",
		"etc/group":               "root:x:0:\n",
		"etc/gshadow":             "root:::\n",
		"etc/subuid":              "",
		"etc/subgid":              "",
		"etc/nsswitch.conf":       "passwd: files altfiles systemd # a comment\ngroup:  files [SUCCESS=merge] altfiles [SUCCESS=merge] systemd\nshadow: files\n",
		"etc/login.defs":          "# comment\nMAIL_DIR /var/spool/mail\nUMASK 022\nHOME_MODE 0700\nPASS_MAX_DAYS 99999\nPASS_MIN_DAYS 0\nPASS_WARN_AGE 7\nUID_MIN 1000\nUID_MAX 60000\nSYS_UID_MIN 201\nSYS_UID_MAX 999\nGID_MIN 1000\nGID_MAX 60000\nSYS_GID_MIN 201\nSYS_GID_MAX 999\nSUB_UID_MIN 524288\nSUB_GID_MIN 524288\nENCRYPT_METHOD YESCRYPT\nUSERGROUPS_ENAB yes\nCREATE_HOME yes\n",
		"etc/default/useradd":     "GROUP=100\nHOME=/var/home\nINACTIVE=-1\nEXPIRE=\nSHELL=/bin/bash\nSKEL=/etc/skel\nCREATE_MAIL_SPOOL=yes\n",
		"etc/skel/.bashrc":        "# .bashrc\n",
		"usr/lib/os-release":      "ID=fedora\n",
		"usr/lib/passwd":          "bin:x:1:1:bin:/bin:/usr/sbin/nologin\nmail:x:8:12:mail:/var/spool/mail:/usr/sbin/nologin\noperator:x:11:0:operator:/root:/usr/sbin/nologin\n",
		"usr/lib/group":           "bin:x:1:\nwheel:x:10:core\nmail:x:12:\nusers:x:100:\nat1000:x:1000:\n",
		"usr/lib/userdb/box.user": `{"userName":"box","uid":4000,"gid":4000,"disposition":"system"}`,
		"etc/userdb/crew.group":   `{"groupName":"crew","gid":4100,"members":["box"]}`,
		"usr/lib/userdb/bad.user": `{"userName":`,
		"usr/lib/sysusers.d/a.conf": "# comment\nu db 26 \"Data \\\"base\\\"\" /var/lib/db /bin/bash\ng libvirt -\nu! late - 'Late one'\nu grouped 410:libvirt -\nu other 411:500\n" +
			"m db libvirt\nr - 500-900\ng five 555\n",
		"usr/lib/sysusers.d/masked.conf": "g masked 777\n",
		"usr/bin/bash":                   "#!",
		"usr/bin/zsh":                    "#!",
		"usr/bin/data":                   "",
		"usr/sbin/nologin":               "",
	}
}

// system makes a system of files, and of changes of them ("" removes one).
func system(t testing.TB, changes map[string]string) *customize.System {
	t.Helper()
	files := fedora()
	for name, text := range changes {
		files[name] = text
		if text == "-" {
			delete(files, name)
		}
	}
	os, etc, vars := tree.NewDir(0o755), tree.NewDir(0o755), tree.NewDir(0o755)
	for name, target := range map[string]string{"home": "var/home", "root": "var/roothome", "bin": "usr/bin", "sbin": "usr/sbin", "srv": "var/srv"} {
		os.Set(name, tree.NewLink(target))
	}
	for name, text := range files {
		mode := uint32(0o644)
		if strings.Contains(name, "bin/") && !strings.HasSuffix(name, "data") {
			mode = 0o755
		}
		if strings.HasSuffix(name, "shadow") {
			mode = 0
		}
		f := tree.NewFile(mode, content.String(text))
		root, p := os, name
		if rest, ok := strings.CutPrefix(name, "etc/"); ok {
			root, p = etc, rest
		} else if rest, ok := strings.CutPrefix(name, "var/"); ok {
			root, p = vars, rest
		}
		if strings.HasSuffix(name, "/") {
			f = tree.NewDir(0o755)
			if text == "open" {
				f.Mode, f.UID = tree.TypeDir|0o777, 5
			}
			p = strings.TrimSuffix(p, "/")
		}
		if err := tree.Put(root, p, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := tree.Put(etc, "sysusers.d/masked.conf", tree.NewLink("/dev/null")); err != nil {
		t.Fatal(err)
	}
	return customize.New(os, etc, vars, today, func(p string) []byte { return fmt.Appendf(nil, "%-32.32s", p) })
}

// listing returns what differs from the system as it was: the files with their
// metadata, and the warnings.
func listing(t *testing.T, sys, before *customize.System, warnings Problems) string {
	t.Helper()
	var b strings.Builder
	old := map[string]string{}
	line := func(p string, i *tree.Inode) string {
		p = filepath.ToSlash(filepath.Clean(p))
		s := strings.TrimRight(fmt.Sprintf("== %s %06o %d:%d %s", p, i.Mode, i.UID, i.GID, i.Target), " ")
		if i.IsFile() {
			text, err := i.Content.ReadAll(32 << 20)
			if err != nil {
				t.Fatal(err)
			}
			s += "\n" + string(text)
		}
		return s
	}
	for _, dir := range []string{"etc", "var"} {
		_ = tree.Walk(before.Lookup("/"+dir), func(p string, i *tree.Inode) error {
			old[dir+"/"+p] = line(dir+"/"+p, i)
			return nil
		})
		_ = tree.Walk(sys.Lookup("/"+dir), func(p string, i *tree.Inode) error {
			if s := line(dir+"/"+p, i); s != old[dir+"/"+p] {
				b.WriteString(strings.TrimRight(s, "\n") + "\n")
			}
			return nil
		})
	}
	for _, w := range warnings {
		fmt.Fprintf(&b, "warning: %v\n", w)
	}
	return b.String()
}

// What an image in the style of Fedora becomes. The golden files of Debian's are
// made by the real tools on the spot, in test/installed.
func TestApply(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes map[string]string
		groups  []Group
		users   []User
	}{
		{name: "user", users: []User{{Name: "alice", Groups: []string{"wheel"}, Password: ptr(someHash), Keys: []string{someKey, otherKey}}}},
		{name: "groups from elsewhere", groups: []Group{{Name: "users"}, {Name: "wheel", GID: ptr[int64](10)}, {Name: "libvirt", GID: ptr[int64](900)}, {Name: "new"}},
			users: []User{{Name: "alice", Groups: []string{"wheel", "libvirt", "five", "crew", "new", "12"}}, {Name: "bob", GID: ptr[int64](555)}}},
		{name: "groups of the next boot", users: []User{{Name: "alice", Groups: []string{"libvirt", "late"}}}},
		{name: "users from elsewhere", users: []User{
			{Name: "mail", Shell: ptr("/bin/bash")}, {Name: "db", Keys: []string{someKey}}, {Name: "late", Description: ptr("now")},
			{Name: "grouped", Password: ptr(someHash)}, {Name: "other", Password: ptr("")},
		}},
		{name: "root", users: []User{{Name: "root", Password: ptr(someHash), Keys: []string{someKey}}}},
		{name: "plain text", users: []User{{Name: "alice", Password: ptr("secret")}}},
		{name: "old methods", changes: map[string]string{"etc/login.defs": "ENCRYPT_METHOD DES\n"}, users: []User{{Name: "alice", Password: ptr("secret")}}},
		{name: "keys beside others", changes: map[string]string{"var/home/alice/.ssh/authorized_keys": someKey + "\nold"},
			users: []User{{Name: "alice", Keys: []string{"  " + someKey + "\r\n", otherKey}}}},
		{name: "open homes", changes: map[string]string{"etc/login.defs": "UMASK 002\n", "etc/nsswitch.conf": "-"}, users: []User{{Name: "alice", GID: ptr[int64](0), Keys: []string{someKey}}}},
		{name: "nearly empty image", changes: map[string]string{
			"etc/login.defs": "-", "etc/default/useradd": "-", "etc/shadow": "-", "etc/gshadow": "-", "etc/subuid": "-", "etc/subgid": "-", "etc/nsswitch.conf": "-", "etc/skel/.bashrc": "-",
		}, groups: []Group{{Name: "team"}}, users: []User{{Name: "alice", Groups: []string{"team"}, Password: ptr(someHash)}}},
		{name: "unwise", changes: map[string]string{"etc/shadow-maint/useradd-pre.d/script": "#!", "usr/bin/bash": "-"}, users: []User{
			{Name: "alice", UID: ptr[int64](70000), ExpireDate: ptr[int64](20775), ForcePasswordReset: true, Keys: []string{someKey}, Password: ptr("")},
			{Name: "bob", Password: ptr("$1$salt$" + strings.Repeat("a", 22)), Shell: ptr("/sbin/nologin")},
		}},
		{name: "current useradd", changes: map[string]string{"usr/sbin/useradd": "SUB_UID_STORE_BY_UID", "etc/subuid": "alice:1:1\n"}, users: []User{{Name: "alice"}}},
		{name: "old useradd", changes: map[string]string{"usr/sbin/useradd": "attr_copy_fd", "etc/subuid": "alice:1:1\n"}, users: []User{{Name: "alice"}}},
		{name: "odd files", changes: map[string]string{
			"etc/passwd": "root:x:0:0:::\n# comment\nbob:x:01005:01005::/home/bob:/bin/bash\n+@net\n", "etc/group": "root:x:0:\nbob:x:1005:\n-x\n+", "etc/gshadow": "root:::\nbob:!:,a:b,\n",
			"etc/shadow": "root:*:1:2:3\nbob:" + someHash + ":007::-1::::\n", "etc/subuid": "z:700000:65536\nnone\ny:524288:10\nw:600000:0\nx:589834:65536\n",
		}, users: []User{{Name: "alice", Groups: []string{"bob"}}, {Name: "bob", Password: ptr("")}, {Name: "root", ExpireDate: ptr[int64](30000)}}},
		{name: "open directory of keys", changes: map[string]string{"var/home/alice/.ssh/": "open"}, users: []User{{Name: "alice", Keys: []string{someKey}}}},
		{name: "mail spool without group", changes: map[string]string{"var/spool/mail/": "", "usr/lib/group": ""}, users: []User{{Name: "alice"}}},
		{name: "mail spool", changes: map[string]string{"var/spool/mail/": ""}, users: []User{{Name: "alice"}}},
		{name: "leaves groups", changes: map[string]string{"etc/group": "root:x:0:\na:x:2000:alice,bob\nb:x:2001:bob,alice\nalice:x:1001:\n", "etc/passwd": "alice:x:1001:1001::/home/alice:/bin/bash\n"},
			users: []User{{Name: "alice", Groups: []string{"a", "wheel"}}}},
		{name: "default groups", changes: map[string]string{"etc/default/useradd": "GROUPS=root,none,0\nGROUP=100\n", "etc/login.defs": "USERGROUPS_ENAB no\n"}, users: []User{{Name: "alice"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sys := system(t, tc.changes)
			warnings, err := Apply(sys, tc.users, tc.groups)
			if err != nil {
				t.Fatal(err)
			}
			got := listing(t, sys, system(t, tc.changes), warnings)
			again := system(t, tc.changes)
			if warnings, err = Apply(again, tc.users, tc.groups); err != nil || listing(t, again, system(t, tc.changes), warnings) != got {
				t.Errorf("another time the result is another one, %v", err)
			}
			golden := filepath.Join("testdata", strings.ReplaceAll(tc.name, " ", "-")+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// Problems that need no image, all of them in one report.
func TestValidate(t *testing.T) {
	long := strings.Repeat("x", 10<<20)
	for _, tc := range []struct {
		name   string
		groups []Group
		users  []User
		want   []string
	}{
		{name: "nothing"},
		{
			name: "groups",
			groups: []Group{
				{Name: "a", GID: ptr[int64](5)}, {Name: "a"}, {Name: "b", GID: ptr[int64](5)}, {Name: "ü"}, {Name: ""}, {Name: "1000"}, {Name: "-x"},
				{Name: "a b"}, {Name: "c", GID: ptr[int64](-1)}, {Name: "d", GID: ptr[int64](65535)}, {Name: "e", GID: ptr[int64](1 << 32)}, {Name: "."}, {Name: long},
			},
			want: []string{
				`group "a": name: the same name as group 1`, `group "b": gid: 5 is the gid of group "a" as well`, `group "ü": name: 'ü' is not allowed: letters of ASCII, digits, and _ . - are`,
				`group "": name: missing`, `group "1000": name: a number is no name`, `group "-x": name: begins with a hyphen`, `group "a b": name: ' ' is not allowed: letters of ASCII, digits, and _ . - are`,
				`group "c": gid: -1 is not allowed: 0 to 4294967294, but not 65535, is`, `group "d": gid: 65535 is not allowed: 0 to 4294967294, but not 65535, is`,
				`group "e": gid: 4294967296 is not allowed: 0 to 4294967294, but not 65535, is`, `group ".": name: not a name`, `group "` + long[:61] + `...": name: longer than 32 characters`,
			},
		},
		{
			name: "users",
			users: []User{
				{Name: "a", UID: ptr[int64](1)}, {Name: "a", UID: ptr[int64](1)}, {Name: "x$y"},
				{
					Name: "b", UID: ptr[int64](-5), GID: ptr[int64](1 << 40), Description: ptr("a:b"), Password: ptr("$6$x"), Home: ptr("home/x"), Shell: ptr("/bin/../sh"),
					Groups: []string{"ok", "no way", "ok", "12"}, ExpireDate: ptr[int64](-2), Keys: []string{someKey, "ssh-rsa AAAA\nssh-rsa BBBB", ""},
				},
				{Name: "c", Description: ptr("a\nb"), Password: ptr("a\nb"), Home: ptr("/var/home//x"), Keys: []string{"-----BEGIN OPENSSH PRIVATE KEY-----\nx", "# no", "hello world", `command="x ssh-rsa AAAA`}},
				{Name: "d", Description: ptr(long), Password: ptr(long), Home: ptr("/" + long), Shell: ptr("/" + long), Keys: []string{long}},
				{Name: "e", Description: ptr("\xff"), Password: ptr("$6$" + long), ExpireDate: ptr[int64](1 << 40)},
			},
			want: []string{
				`user "a": name: the same name as user 1`, `user "a": uid: 1 is the uid of user "a" as well`, `user "x$y": name: '$' is not allowed: letters of ASCII, digits, and _ . - are`,
				`user "b": uid: -5 is not allowed: 0 to 4294967294, but not 65535, is`, `user "b": description: ':' is not allowed in a field of /etc/passwd`,
				`user "b": password: not a valid hash of sha512crypt`, `user "b": key: has a line break; give every key an entry of its own`, `user "b": key: empty`,
				`user "b": home: "home/x" is not an absolute path`, `user "b": shell: "/bin/../sh" is not written plainly: "/sh" is`,
				`user "b": groups: "no way": ' ' is not allowed: letters of ASCII, digits, and _ . - are`, `user "b": groups: "ok" is there twice`,
				`user "b": gid: 1099511627776 is not allowed: 0 to 4294967294, but not 65535, is`, `user "b": expiredate: -2 is no number of days since 1970-01-01`,
				`user "c": description: '\n' is not allowed in a field of /etc/passwd`, `user "c": password: a line break or NUL cannot be typed`,
				`user "c": key: is a private key; the public one, of the .pub file, belongs here`, `user "c": key: is a comment, not a key`,
				`user "c": key: is not a public key as a .pub file has it: type, base 64, comment`, `user "c": key: has a quote that is not closed in its options`,
				`user "c": home: "/var/home//x" is not written plainly: "/var/home/x" is`,
				`user "d": description: longer than 1024 bytes`, `user "d": password: longer than 511 bytes`, `user "d": key: longer than 16384 bytes`,
				`user "d": home: longer than 1024 bytes`, `user "d": shell: longer than 1024 bytes`,
				`user "e": description: not UTF-8`, `user "e": password: longer than 1024 bytes`, `user "e": expiredate: 1099511627776 is no number of days since 1970-01-01`,
			},
		},
		{name: "many", groups: make([]Group, 1001), users: make([]User, 1001), want: []string{`group "": name: more than 1000 groups`, `user "": name: more than 1000 users`}},
		{
			name:  "many things",
			users: []User{{Name: "a", Keys: make([]string, 1001), Groups: make([]string, 65537)}},
			want:  []string{`user "a": key: more than 1000 keys`, `user "a": groups: more than 65536 groups`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Validate(tc.users, tc.groups)
			compareProblems(t, got, tc.want)
			if _, err := Apply(system(t, nil), tc.users, tc.groups); (err != nil) != (len(tc.want) > 0) {
				t.Errorf("Apply: %v", err)
			}
		})
	}
}

// Every problem says where it is.
func TestProblemPlaces(t *testing.T) {
	p := Validate([]User{{Name: "a"}, {Name: "b", Keys: []string{someKey, "x"}, Groups: []string{"g", "g"}}}, []Group{{Name: "ok"}, {Name: "?"}})
	var got []string
	for _, x := range p {
		got = append(got, fmt.Sprint(x.Subject, x.Index, x.Field, x.Item))
	}
	if d := cmp.Diff([]string{"group1name-1", "user1key1", "user1groups1"}, got); d != "" {
		t.Error(d)
	}
	var err error = p
	if one := (Problem{}); !errors.As(err, &one) || one.Index != 1 || one.Subject != InGroup {
		t.Errorf("the first of them is %+v", one)
	}
}

// Problems that only the image shows, all of them in one report, after which the
// system is as it was.
func TestApplyProblems(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes map[string]string
		groups  []Group
		users   []User
		want    []string
	}{
		{
			name: "much at once",
			groups: []Group{
				{Name: "root", GID: ptr[int64](7)}, {Name: "wheel", GID: ptr[int64](11)}, {Name: "new", GID: ptr[int64](10)}, {Name: "newer", GID: ptr[int64](4100)}, {Name: "alice"},
			},
			users: []User{
				{Name: "alice", UID: ptr[int64](26), Groups: []string{"nowhere", "new", "777", "root"}, Shell: ptr("/bin/nosuch")},
				{Name: "alice2", UID: ptr[int64](1), GID: ptr[int64](2222), Shell: ptr("/usr/bin/data")},
				{Name: "root", UID: ptr[int64](5), Home: ptr("/usr/root")},
				{Name: "box", Description: ptr("x")},
				{Name: "carol", Home: ptr("/opt/carol")},
				{Name: "dave", Home: ptr("/var/../usr/x")},
				{Name: "erin", Home: ptr("/srv/erin"), Shell: ptr("/usr/bin")},
			},
			want: []string{`user "dave": home: "/var/../usr/x" is not written plainly: "/usr/x" is`},
		},
		{
			name: "much of the image",
			groups: []Group{
				{Name: "root", GID: ptr[int64](7)}, {Name: "wheel", GID: ptr[int64](11)}, {Name: "new", GID: ptr[int64](10)}, {Name: "newer", GID: ptr[int64](4100)}, {Name: "alice"},
			},
			users: []User{
				{Name: "alice", UID: ptr[int64](26), Groups: []string{"nowhere", "new", "777", "root"}, Shell: ptr("/bin/nosuch")},
				{Name: "alice2", UID: ptr[int64](1), GID: ptr[int64](2222), Shell: ptr("/usr/bin/data")},
				{Name: "root", UID: ptr[int64](5), Home: ptr("/usr/root")},
				{Name: "box", Description: ptr("x")},
				{Name: "carol", Home: ptr("/opt/carol")},
				{Name: "erin", Home: ptr("/srv/erin"), Shell: ptr("/usr/bin")},
				{Name: "libvirt"},
				{Name: "frank", Home: ptr(""), Keys: []string{someKey}},
				{Name: "bin", Keys: []string{someKey}},
			},
			want: []string{
				`group "root": gid: the image has this group with gid 0, which cannot be changed`, `group "wheel": gid: the image has this group with gid 10, which cannot be changed`,
				`group "new": gid: 10 is the gid of group "wheel" of the image`, `group "newer": gid: 4100 is the gid of group "crew" of the image`,
				`user "alice": shell: the image has no /bin/nosuch`, `user "alice": uid: 26 is the uid of user "db"`,
				`user "alice": gid: there is a group "alice" already, so that the user can have none of its own; gid = 1001 makes it the primary group`,
				`user "alice": groups: "nowhere": no such group, in the image or among those to be made`, `user "alice": groups: gid 777: no such group, in the image or among those to be made`,
				`user "alice2": shell: /usr/bin/data is not a program`, `user "alice2": uid: 1 is the uid of user "bin"`,
				`user "alice2": gid: there is no group with gid 2222, in the image or among those to be made`,
				`user "root": uid: the image has this user with uid 0, which cannot be changed`, `user "root": home: /usr/root is not below /var, the only place for homes that stay`,
				`user "box": name: /usr/lib/userdb/box.user defines this user, and only that file can change it`,
				`user "carol": home: /opt/carol is not below /var, the only place for homes that stay`, `user "erin": shell: /usr/bin is not a program`,
				`user "libvirt": gid: /usr/lib/sysusers.d/a.conf has a group "libvirt", so that the user can have none of its own`,
				`user "frank": key: there is no home directory /var/home/frank for it`, `user "bin": key: /bin/.ssh is not below /var, the only place for homes that stay`,
			},
		},
		{
			name:    "used up",
			changes: map[string]string{"etc/login.defs": "UID_MIN 1000\nUID_MAX 1000\nGID_MIN 1000\nGID_MAX 1001\nSUB_UID_MAX 100\nUSERGROUPS_ENAB yes\n"},
			groups:  []Group{{Name: "a"}, {Name: "b"}},
			users:   []User{{Name: "c", GID: ptr[int64](0)}, {Name: "d"}},
			want: []string{
				`group "b": gid: no gid is free between GID_MIN and GID_MAX of /etc/login.defs`,
				`user "c": uid: /etc/subuid: no range is free between the limits of /etc/login.defs`,
				`user "d": uid: none is free between UID_MIN and UID_MAX of /etc/login.defs`, `user "d": gid: none is free between GID_MIN and GID_MAX of /etc/login.defs`,
			},
		},
		{
			name:    "things in the way",
			changes: map[string]string{"var/home": "a file", "var/srv/x/.ssh/authorized_keys/": "", "var/srv/y/.ssh": "a file", "var/srv/f": "a file"},
			users: []User{
				{Name: "a"}, {Name: "b", Home: ptr("/srv/x"), Keys: []string{someKey}}, {Name: "c", Home: ptr("/srv/y"), Keys: []string{someKey}},
				{Name: "d", Home: ptr("/srv/f")}, {Name: "e", Home: ptr("/srv/f/g")},
			},
			want: []string{
				`user "a": home: resolve /var/home/a: home: not a directory`, `user "b": key: /srv/x/.ssh/authorized_keys is not a regular file`,
				`user "c": key: /var/srv/y/.ssh is not a directory`, `user "d": home: /srv/f is not a directory`, `user "e": home: resolve /srv/f/g: f: not a directory`,
			},
		},
		{
			name:    "dear hashes",
			changes: map[string]string{"etc/login.defs": "ENCRYPT_METHOD YESCRYPT\nYESCRYPT_COST_FACTOR 11\n"},
			users:   []User{{Name: "a", GID: ptr[int64](0), Password: ptr("x")}},
			want:    []string{`user "a": password: yescrypt with cost factor 11: costs too much, by /etc/login.defs; give a hash instead`},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sys := system(t, tc.changes)
			_, err := Apply(sys, tc.users, tc.groups)
			var p Problems
			if !errors.As(err, &p) {
				t.Fatalf("%v", err)
			}
			compareProblems(t, p, tc.want)
			if got := listing(t, sys, system(t, tc.changes), nil); got != "" {
				t.Errorf("changed all the same:\n%s", got)
			}
		})
	}
}

func compareProblems(t *testing.T, got Problems, want []string) {
	t.Helper()
	var lines []string
	for _, p := range got {
		lines = append(lines, p.Error())
		if !strings.HasPrefix(p.Error(), string(p.Subject)) || p.Field == "" || p.Err == nil {
			t.Errorf("incomplete: %+v", p)
		}
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// What is wrong with the image's own files is an error, not one of the
// configuration.
func TestImageErrors(t *testing.T) {
	for name, changes := range map[string]map[string]string{
		"two entries": {"etc/group": "root:x:0:\nusers:x:100:\nusers:x:100:\n"},
		"split":       {"etc/login.defs": "MAX_MEMBERS_PER_GROUP 10\n"},
		"tcb":         {"etc/login.defs": "USE_TCB yes\n"},
		"directory":   {"etc/passwd": "-", "etc/passwd/": ""},
		"large":       {"etc/shadow": strings.Repeat("x", maxTable+1)},
		"no place":    {"etc/passwd": "alice:x:1:1:::\n", "etc/shadow": "-"},
	} {
		sys := system(t, changes)
		_, err := Apply(sys, []User{{Name: "alice", ExpireDate: ptr[int64](30000), Groups: []string{"users"}}}, nil)
		if err == nil || errors.As(err, new(Problems)) {
			t.Errorf("%s: %v", name, err)
		}
		if got := listing(t, sys, system(t, changes), nil); got != "" {
			t.Errorf("%s: changed all the same:\n%s", name, got)
		}
	}
}

// Nothing asked for is nothing done, whatever the image.
func TestNothing(t *testing.T) {
	if w, err := Apply(system(t, map[string]string{"etc/login.defs": "USE_TCB yes\n"}), nil, nil); w != nil || err != nil {
		t.Error(w, err)
	}
}
