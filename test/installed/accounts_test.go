//go:build linux

package installed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/customize/accounts"
	"imgbuild/oci"
	"imgbuild/ostree"
	"imgbuild/tree"
)

// accountsTime is the day of the changes; shadow takes it from SOURCE_DATE_EPOCH.
const accountsTime = 1_795_000_000

// accountCase is a set of accounts, and what an administrator types for the same.
// The script runs in the image; the hash of user x is in $HASH_x.
type accountCase struct {
	name   string
	setup  string // run in the image before both
	groups []accounts.Group
	users  []accounts.User
	real   string
	finds  string // what pwck finds and the real tools cause as well
}

func ptr[T any](v T) *T { return &v }

// The example of crypt(5), and keys made for these tests.
const (
	exampleHash = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"
	exampleKey  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAQICAwQEBQUGBgcHCAgJCQoKCwsMDA0NDg4PDw/ user@example.com"
	exampleKey2 = `from="192.0.2.0/24",command="/bin/echo \"hi there\"",no-pty ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwECAw== second`
)

// addKeys is what image builders do with a key. $1 is the owner, $2 the home.
const addKeys = `keys() { [ -d $2/.ssh ] || { mkdir -m 700 $2/.ssh; chown $1 $2/.ssh; }; cat >>$2/.ssh/authorized_keys; chown $1 $2/.ssh/authorized_keys; chmod 600 $2/.ssh/authorized_keys; }
`

func accountCases() []accountCase {
	user := func(u accounts.User) []accounts.User { return []accounts.User{u} }
	return []accountCase{
		{name: "plain user", users: user(accounts.User{Name: "alice"}), real: "useradd -m alice"},
		{
			name: "everything given",
			users: user(accounts.User{
				Name: "alice", Description: ptr("Alice Ä. Liddell, room 1"), Password: ptr(exampleHash), Home: ptr("/home/wonderland/alice/"),
				Shell: ptr("/bin/bash"), Groups: []string{"sudo", "users"}, UID: ptr[int64](1234), GID: ptr[int64](100), ExpireDate: ptr[int64](30000),
			}),
			real: "useradd -m -c 'Alice Ä. Liddell, room 1' -p '" + exampleHash + "' -d /home/wonderland/alice -s /bin/bash -G sudo,users -u 1234 -g 100 -e 30000 alice",
		},
		{
			name:  "several users in order",
			users: []accounts.User{{Name: "b"}, {Name: "a"}, {Name: "c", UID: ptr[int64](1010)}, {Name: "d"}},
			real:  "useradd -m b; useradd -m a; useradd -m -u 1010 c; useradd -m d",
		},
		{
			name:   "groups",
			groups: []accounts.Group{{Name: "first"}, {Name: "second", GID: ptr[int64](1500)}, {Name: "third"}, {Name: "low", GID: ptr[int64](300)}},
			real:   "groupadd first; groupadd -g 1500 second; groupadd third; groupadd -g 300 low",
		},
		{
			name:   "groups and members",
			groups: []accounts.Group{{Name: "web", GID: ptr[int64](1100)}, {Name: "ops"}},
			users:  []accounts.User{{Name: "alice", Groups: []string{"ops", "web"}}, {Name: "bob", GID: ptr[int64](1100), Groups: []string{"27", "ops"}}},
			real:   "groupadd -g 1100 web; groupadd ops; useradd -m -G ops,web alice; useradd -m -g 1100 -G 27,ops bob",
		},
		{
			name:  "private group whose gid is taken",
			setup: "groupadd -g 1000 taken",
			users: []accounts.User{{Name: "alice"}, {Name: "bob"}, {Name: "carol", UID: ptr[int64](1000 + 30)}},
			real:  "useradd -m alice; useradd -m bob; useradd -m -u 1030 carol",
		},
		{
			name:  "uid of the system",
			users: user(accounts.User{Name: "daemonic", UID: ptr[int64](555)}),
			real:  "useradd -m -u 555 daemonic",
		},
		{
			name:  "highest uid in use",
			setup: "useradd -u 60000 last; useradd -u 59999 before",
			users: []accounts.User{{Name: "a"}, {Name: "b"}},
			real:  "useradd -m a; useradd -m b",
		},
		{
			name:  "no range of subordinate ids for large uids",
			users: user(accounts.User{Name: "big", UID: ptr[int64](100000)}),
			real:  "useradd -m -u 100000 big",
		},
		{
			name:  "holes among subordinate ids",
			setup: "printf 'z:300000:65536\\ny:100000:10\\n# note\\nx:165546:65536\\nw:400000:0\\n' >/etc/subuid; printf 'alice:500000:5\\n' >/etc/subgid",
			users: []accounts.User{{Name: "alice"}, {Name: "bob"}},
			real:  "useradd -m alice; useradd -m bob",
		},
		{
			name:  "no files of subordinate ids",
			setup: "rm /etc/subuid /etc/subgid",
			users: user(accounts.User{Name: "alice"}),
			real:  "useradd -m alice",
		},
		{
			name:  "deterministic subordinate ids",
			setup: "printf 'SUB_UID_DETERMINISTIC yes\\nSUB_GID_DETERMINISTIC yes\\n' >>/etc/login.defs",
			users: []accounts.User{{Name: "alice", UID: ptr[int64](1003)}, {Name: "bob"}},
			real:  "useradd -m -u 1003 alice; useradd -m bob",
		},
		{
			name: "other settings",
			setup: `sed -i -e 's/^HOME_MODE.*/HOME_MODE 0751/' -e 's/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/' -e 's/^UID_MIN.*/UID_MIN "2000"/' \
				-e 's/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 0x10/' -e 's/^PASS_WARN_AGE.*/PASS_WARN_AGE nonsense/' -e 's/^SUB_UID_COUNT.*/SUB_UID_COUNT 1000/' /etc/login.defs
				printf 'SHELL=/bin/bash\nHOME=/var/home/people\nINACTIVE=14\nEXPIRE=2031-05-06\nSKEL=/etc/skel2\nGROUP=users\n' >/etc/default/useradd
				mkdir /etc/skel2; echo hello >/etc/skel2/greeting`,
			users: user(accounts.User{Name: "alice"}),
			real:  "useradd -m alice",
		},
		{
			name:  "umask instead of a mode",
			setup: "sed -i -e '/^HOME_MODE/d' -e '/^UMASK/d' /etc/login.defs; echo 'UMASK 027' >>/etc/login.defs",
			users: user(accounts.User{Name: "alice"}),
			real:  "useradd -m alice",
		},
		{
			name: "skeleton of all kinds",
			setup: `cd /etc/skel; mkdir -m 2750 dir; mkdir -m 700 dir/deep; echo x >dir/deep/x; ln dir/deep/x hard; ln -s /etc/skel/dir/deep/x link; ln -s ../y rel
				mkfifo pipe; echo s >setuid; chmod 4711 setuid; echo o >owned; chown 5:6 owned; touch -d 2001-02-03 owned dir/deep dir`,
			users: user(accounts.User{Name: "alice"}),
			real:  "useradd -m alice",
		},
		{
			name:  "home that exists",
			setup: "mkdir -p -m 711 /var/home/alice; echo keep >/var/home/alice/file",
			users: user(accounts.User{Name: "alice"}),
			real:  "useradd -m alice",
		},
		{
			name:  "no home",
			users: user(accounts.User{Name: "alice", Home: ptr("")}),
			real:  "useradd -M alice",
			finds: "user 'alice': directory '/home/alice' does not exist",
		},
		{
			name:  "mail spool",
			setup: "echo CREATE_MAIL_SPOOL=yes >>/etc/default/useradd; mkdir -p /var/mail; chmod 2775 /var/mail; chgrp mail /var/mail",
			users: user(accounts.User{Name: "alice"}),
			real:  "useradd -m alice",
		},
		{
			name:  "password in plain text",
			users: []accounts.User{{Name: "alice", Password: ptr("correct horse")}, {Name: "bob", Password: ptr("Grüße:$6$")}},
			real:  `useradd -m alice; echo "alice:$HASH_alice" | chpasswd -e; useradd -m -p "$HASH_bob" bob`,
		},
		{
			name:  "SHA-512 with rounds",
			setup: "sed -i 's/^ENCRYPT_METHOD.*/ENCRYPT_METHOD SHA512/' /etc/login.defs; echo 'SHA_CRYPT_MIN_ROUNDS 7000' >>/etc/login.defs",
			users: user(accounts.User{Name: "alice", Password: ptr("correct horse")}),
			real:  `useradd -m -p "$HASH_alice" alice`,
		},
		{
			name:  "password to be changed",
			users: user(accounts.User{Name: "alice", Password: ptr(exampleHash), ForcePasswordReset: true}),
			real:  "useradd -m -p '" + exampleHash + "' alice; passwd --expire alice",
		},
		{
			name:  "locked",
			users: []accounts.User{{Name: "a", Password: ptr("")}, {Name: "b", Password: ptr("!*")}, {Name: "c", Password: ptr("!" + exampleHash)}, {Name: "d", ExpireDate: ptr[int64](-1)}},
			real:  "useradd -m a; useradd -m -p '!*' b; useradd -m -p '!" + exampleHash + "' c; useradd -m -e -1 d",
		},
		{
			name:  "change everything of a user",
			setup: "useradd -m -G audio,video -c old -s /bin/sh alice; useradd -m -G audio bob; groupadd -g 1700 team; touch /var/home/alice/file; chown alice:alice /var/home/alice/file; touch /var/home/alice/other",
			users: user(accounts.User{
				Name: "alice", Description: ptr("new"), Password: ptr(exampleHash), Shell: ptr("/usr/bin/bash"), Groups: []string{"sudo", "audio"},
				UID: ptr[int64](1000), GID: ptr[int64](1700), ExpireDate: ptr[int64](25000),
			}),
			real: "usermod -c new -p '" + exampleHash + "' -s /usr/bin/bash -G sudo,audio -g 1700 -e 25000 alice",
		},
		{
			name:  "change nothing of a user",
			setup: "useradd -m -c same alice; sed -i 's/^alice:x:1000:/alice:x:01000:/' /etc/passwd",
			users: user(accounts.User{Name: "alice", Description: ptr("same"), Home: ptr("/home/alice")}),
			real:  "usermod -c same -d /home/alice alice",
		},
		{
			name:  "other home of a user",
			setup: "useradd -m alice",
			users: user(accounts.User{Name: "alice", Home: ptr("/var/home/elsewhere")}),
			real:  "usermod -d /var/home/elsewhere alice; install -d -m 700 -o alice -g alice /var/home/elsewhere; cd /etc/skel; cp --preserve=mode,timestamps .[a-z]* /var/home/elsewhere; chown -R alice:alice /var/home/elsewhere",
		},
		{
			name:  "reset, expiry and lock of users",
			setup: "useradd -m -p '" + exampleHash + "' alice; useradd -m bob; useradd -m -p '" + exampleHash + "' carol",
			users: []accounts.User{{Name: "alice", ForcePasswordReset: true}, {Name: "bob", ExpireDate: ptr[int64](40000)}, {Name: "carol", Password: ptr("")}},
			real:  "passwd --expire alice; usermod -e 40000 bob; usermod -L carol",
		},
		{
			name:  "user without an entry in shadow",
			setup: "useradd -m alice; sed -i '/^alice:/d' /etc/shadow; useradd -m bob; sed -i '/^bob:/d' /etc/shadow",
			users: []accounts.User{{Name: "alice", Password: ptr(exampleHash)}, {Name: "bob", ExpireDate: ptr[int64](30000)}},
			real:  "usermod -p '" + exampleHash + "' alice; usermod -e 30000 bob",
		},
		{
			name:  "password in passwd",
			setup: "useradd -m alice; sed -i 's/^alice:x:/alice:*:/' /etc/passwd",
			users: user(accounts.User{Name: "alice", Password: ptr(exampleHash)}),
			real:  "usermod -p '" + exampleHash + "' alice",
		},
		{
			name:  "root",
			users: user(accounts.User{Name: "root", Password: ptr(exampleHash), Keys: []string{exampleKey}}),
			real:  "usermod -p '" + exampleHash + "' root; mkdir -m 700 /var/roothome; echo '" + exampleKey + "' | keys root:root /root",
		},
		{
			name:  "keys",
			setup: "mkdir -m 700 /etc/skel/.ssh; printf 'ssh-rsa old' >/etc/skel/.ssh/authorized_keys",
			users: []accounts.User{{Name: "alice", Keys: []string{exampleKey + "\n", exampleKey2}}, {Name: "bob", GID: ptr[int64](100), Home: ptr("/var/home/b"), Keys: []string{exampleKey}}},
			real: "useradd -m alice; echo >>/var/home/alice/.ssh/authorized_keys; printf '%s\\n' '" + exampleKey + "' '" + exampleKey2 + "' | keys alice:alice /home/alice\n" +
				"useradd -m -g 100 -d /var/home/b bob; echo >>/var/home/b/.ssh/authorized_keys; echo '" + exampleKey + "' | keys bob:users /var/home/b",
		},
		{
			name:  "files with odd lines",
			setup: "printf '# comment\\nbad:line\\n\\n+@net::::::\\n+\\n' >>/etc/passwd; printf '+\\n' >>/etc/group; printf 'alice:old:1::::::\\n' >>/etc/shadow; sed -i 's/^sudo:x:27:/sudo:x:027:root,/' /etc/group",
			users: user(accounts.User{Name: "alice", Groups: []string{"sudo"}}),
			real:  "useradd -m -G sudo alice",
		},
		{
			name:   "no shadow files",
			setup:  "rm /etc/shadow /etc/gshadow",
			groups: []accounts.Group{{Name: "team"}},
			users:  user(accounts.User{Name: "alice", Password: ptr(exampleHash), Groups: []string{"team"}}),
			real:   "groupadd team; useradd -m -p '" + exampleHash + "' -G team alice",
		},
		{
			name:  "names of all kinds",
			users: []accounts.User{{Name: "Upper.Case"}, {Name: "9lives"}, {Name: "_under-score"}, {Name: "machine$"}, {Name: strings.Repeat("n", 32)}},
			real:  "useradd -m Upper.Case; useradd -m 9lives; useradd -m _under-score; useradd -m 'machine$'; useradd -m " + strings.Repeat("n", 32),
		},
	}
}

// Users and groups are what the shadow tools of the image itself make of them, and
// pwck and grpck find nothing that they did not find before.
func TestAccounts(t *testing.T) {
	needRoot(t)
	fixtures := os.Getenv("IMGBUILD_FIXTURES")
	if fixtures == "" {
		t.Skip("the fixtures are not part of this checkout; IMGBUILD_FIXTURES names their directory")
	}
	image := flattened(t, filepath.Join(fixtures, "full"))
	root := t.TempDir()
	materialise(t, image, root)
	pristine := filepath.Join(t.TempDir(), "pristine")
	run(t, "mkdir", pristine)
	run(t, "cp", "-a", filepath.Join(root, "usr/etc"), filepath.Join(pristine, "etc"))
	run(t, "cp", "-a", filepath.Join(root, "var"), pristine)
	run(t, "mkdir", "-p", filepath.Join(pristine, "var/home"))
	fresh := func(t *testing.T) {
		run(t, "rm", "-rf", filepath.Join(root, "etc"), filepath.Join(root, "var"))
		run(t, "cp", "-a", filepath.Join(pristine, "etc"), filepath.Join(pristine, "var"), root)
	}
	// The tools read it; none of them needs the device.
	if err := os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Run("method of passwords", func(t *testing.T) {
		fresh(t)
		samePasswordMethod(t, image, root)
	})
	for _, tc := range accountCases() {
		t.Run(tc.name, func(t *testing.T) {
			fresh(t)
			inside(t, root, nil, tc.setup)
			if owned := filepath.Join(root, "etc/skel/owned"); exists(owned) {
				run(t, "setfattr", "-n", "user.note", "-v", "1", owned)
			}
			before := inspect(t, root)

			etc, vars := read(t, filepath.Join(root, "etc")), read(t, filepath.Join(root, "var"))
			sys := customize.New(image, etc, vars, accountsTime, accountsSeed)
			warnings, err := accounts.Apply(sys, tc.users, tc.groups)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Log("warning:", w)
			}
			env := hashes(t, root, sys, tc.users)
			inside(t, root, env, addKeys+tc.real)
			differences(t, "etc", read(t, filepath.Join(root, "etc")), etc)
			differences(t, "var", read(t, filepath.Join(root, "var")), vars)

			for _, file := range []string{"passwd", "shadow", "group", "gshadow", "subuid", "subgid"} {
				if text, err := sys.ReadFile("/etc/"+file, 1<<20); err == nil {
					if err := os.WriteFile(filepath.Join(root, "etc", file), text, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			for line := range strings.Lines(inspect(t, root)) {
				if !strings.Contains(before, line) && !strings.Contains(line, "no changes") && (tc.finds == "" || !strings.Contains(line, tc.finds)) {
					t.Errorf("pwck or grpck: %s", line)
				}
			}
		})
	}
}

// samePasswordMethod checks that chpasswd of the image chooses the algorithm and the
// cost that imgbuild chooses.
func samePasswordMethod(t *testing.T, image *tree.Inode, root string) {
	inside(t, root, nil, "useradd real; echo 'real:correct horse' | chpasswd")
	sys := customize.New(image, read(t, filepath.Join(root, "etc")), tree.NewDir(0o755), accountsTime, accountsSeed)
	if _, err := accounts.Apply(sys, []accounts.User{{Name: "ours", Password: ptr("correct horse")}}, nil); err != nil {
		t.Fatal(err)
	}
	ours, theirs := shadowField(t, sys, "ours"), shadowField(t, sys, "real")
	setting := func(h string) string { return strings.Join(strings.SplitN(h, "$", 4)[:3], "$") }
	if setting(ours) != setting(theirs) || len(ours) != len(theirs) {
		t.Errorf("hash %s, chpasswd makes %s", ours, theirs)
	}
}

func accountsSeed(purpose string) []byte { return fmt.Appendf(nil, "%-32.32s", purpose) }

// flattened returns the tree of an image, as imgbuild flattens it.
func flattened(t *testing.T, layout string) *tree.Inode {
	t.Helper()
	ref, err := oci.ParseReference("oci:" + layout)
	if err != nil {
		t.Fatal(err)
	}
	image, err := oci.Open(context.Background(), ref, oci.Options{Arch: "amd64", Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	layers, err := image.Unpack(context.Background(), oci.UnpackOptions{TempDir: workDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	var trees []*tree.Inode
	for _, l := range layers {
		i, _, err := ostree.ImportLayer(l.Tree, ostree.ImportOptions{KeepTopLevel: true, StripSELinux: true})
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, i)
	}
	merged, err := ostree.Merge(trees...)
	if err != nil {
		t.Fatal(err)
	}
	return merged
}

// materialise writes a tree to disk, without what no tool of shadow needs.
func materialise(t *testing.T, root *tree.Inode, dir string) {
	t.Helper()
	err := tree.Walk(root, func(p string, i *tree.Inode) error {
		for _, skip := range []string{"usr/lib/modules/", "usr/lib/firmware/", "usr/share/doc/", "usr/share/fixture/", "usr/share/locale/"} {
			if strings.HasPrefix(strings.TrimPrefix(p, "/"), skip) {
				return nil
			}
		}
		path := filepath.Join(dir, p)
		switch i.Type() {
		case tree.TypeDir:
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
		case tree.TypeLink:
			if err := os.Symlink(i.Target, path); err != nil {
				return err
			}
			return os.Lchown(path, int(i.UID), int(i.GID))
		case tree.TypeFile:
			f, err := os.Create(path)
			if err != nil {
				return err
			}
			if _, err := io.Copy(f, i.Content.Reader()); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		default:
			return nil
		}
		if err := os.Lchown(path, int(i.UID), int(i.GID)); err != nil {
			return err
		}
		if err := unix.Chmod(path, i.Perm()); err != nil {
			return err
		}
		stamp := unix.NsecToTimespec(i.Mtime * 1e9)
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inside runs a shell script in the image.
func inside(t *testing.T, root string, env []string, script string) string {
	t.Helper()
	cmd := exec.Command("chroot", root, "/bin/sh", "-e", "-c", script)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", fmt.Sprint("SOURCE_DATE_EPOCH=", accountsTime)}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// inspect returns what pwck and grpck find.
func inspect(t *testing.T, root string) string {
	t.Helper()
	return inside(t, root, nil, "pwck -r </dev/null 2>&1 || :; grpck -r </dev/null 2>&1 || :")
}

// shadowField returns the password field of a user.
func shadowField(t *testing.T, sys *customize.System, user string) string {
	t.Helper()
	for _, file := range []string{"/etc/shadow", "/etc/passwd"} {
		text, _ := sys.ReadFile(file, 1<<20)
		for line := range strings.Lines(string(text)) {
			if f := strings.Split(line, ":"); f[0] == user {
				return f[1]
			}
		}
	}
	t.Fatalf("no user %s", user)
	return ""
}

// hashes returns the hashes of the users' passwords for the real tools, after
// crypt(3) of the image has found that they are those of the passwords.
func hashes(t *testing.T, root string, sys *customize.System, users []accounts.User) (env []string) {
	t.Helper()
	for _, u := range users {
		if u.Password == nil || *u.Password == "" || strings.HasPrefix(*u.Password, "!") || *u.Password == exampleHash {
			continue
		}
		hash := shadowField(t, sys, u.Name)
		env = append(env, "HASH_"+u.Name+"="+hash)
		got := inside(t, root, []string{"P=" + *u.Password, "H=" + hash}, `perl -e 'print crypt($ENV{P}, $ENV{H})'`)
		if got != hash {
			t.Errorf("hash of %q: %s, crypt(3) of the image makes %s", *u.Password, hash, got)
		}
	}
	return env
}

// read returns a directory on disk as a tree.
func read(t *testing.T, dir string) *tree.Inode {
	t.Helper()
	linked := map[uint64]*tree.Inode{}
	var inode func(path string) *tree.Inode
	inode = func(path string) *tree.Inode {
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		if i := linked[st.Ino]; i != nil {
			return i
		}
		var i *tree.Inode
		switch st.Mode & tree.TypeMask {
		case tree.TypeDir:
			i = tree.NewDir(0)
			entries, err := os.ReadDir(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				i.Set(e.Name(), inode(filepath.Join(path, e.Name())))
			}
		case tree.TypeLink:
			target, err := os.Readlink(path)
			if err != nil {
				t.Fatal(err)
			}
			i = tree.NewLink(target)
		case tree.TypeFile:
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			i = tree.NewFile(0, content.Bytes(b))
		default:
			i = &tree.Inode{}
		}
		i.Mode, i.UID, i.GID, i.Mtime = st.Mode, st.Uid, st.Gid, st.Mtim.Sec
		names := make([]byte, 1<<12)
		if n, err := unix.Llistxattr(path, names); err == nil {
			for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
				value := make([]byte, 1<<12)
				if n, err := unix.Lgetxattr(path, name, value); err == nil && name != "security.selinux" {
					i.SetXattr(name, string(value[:n]))
				}
			}
		}
		if st.Nlink > 1 && !i.IsDir() {
			linked[st.Ino] = i
		}
		return i
	}
	return inode(dir)
}

// differences reports where two trees differ, but for what is documented: the
// backups and the lock that the tools leave, and times of changes.
func differences(t *testing.T, name string, want, got *tree.Inode) {
	t.Helper()
	left := []string{"etc/.pwd.lock"}
	for _, f := range []string{"passwd", "shadow", "group", "gshadow", "subuid", "subgid"} {
		left = append(left, "etc/"+f+"-")
	}
	list := func(root *tree.Inode) map[string]string {
		all := map[string]string{}
		first := map[*tree.Inode]string{}
		_ = tree.Walk(root, func(p string, i *tree.Inode) error {
			p = strings.TrimSuffix(filepath.Join(name, p), "/.")
			var text []byte
			if i.IsFile() {
				text, _ = i.Content.ReadAll(64 << 20)
			}
			line := fmt.Sprintf("%06o %d:%d %q %q", i.Mode, i.UID, i.GID, i.Target, i.Xattrs)
			// The times of files that were copied stay; those of others are now.
			if i.Mtime < accountsTime-86400*30 && !i.IsDir() || i.IsDir() && i.Mtime == 981158400 {
				line += fmt.Sprint(" ", i.Mtime)
			}
			if other := first[i]; other != "" {
				line = "link to " + other
			} else if !i.IsDir() {
				first[i] = p
			}
			all[p] = line + "\n" + string(text)
			return nil
		})
		return all
	}
	w, g := list(want), list(got)
	for _, p := range slices.Sorted(maps.Keys(w)) {
		if g[p] == w[p] || slices.Contains(left, p) {
			continue
		}
		t.Errorf("%s\ngot  %s\nwant %s", p, clip(g[p], w[p]), clip(w[p], g[p]))
	}
	for _, p := range slices.Sorted(maps.Keys(g)) {
		if _, ok := w[p]; !ok {
			t.Errorf("%s\ngot  %s\nwant nothing", p, g[p])
		}
	}
}

// clip returns the lines of a that are not in b.
func clip(a, b string) string {
	var out bytes.Buffer
	for line := range strings.Lines(a) {
		if !strings.Contains(b, line) {
			out.WriteString(line)
		}
	}
	if out.Len() == 0 && a != "" {
		return "(the same lines in another order, or fewer)"
	}
	return out.String()
}
