package units

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// build makes an image of lines "path", "path/", "path -> target" and
// "path: content", where "|" stands for a line break.
func build(t testing.TB, lines []string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	for _, dir := range []string{"etc/systemd/system", "var", "usr/lib/systemd/system", "usr/local"} {
		if _, err := tree.MkdirAll(root, dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range lines {
		p, text, isFile := strings.Cut(line, ": ")
		var err error
		switch q, target, isLink := strings.Cut(line, " -> "); {
		case isFile:
			err = tree.Put(root, p, tree.NewFile(0o644, content.String(strings.ReplaceAll(text, "|", "\n"))))
		case isLink:
			err = tree.Put(root, q, tree.NewLink(target))
		case strings.HasSuffix(line, "/"):
			_, err = tree.MkdirAll(root, line)
		default:
			err = tree.Put(root, line, tree.NewFile(0o644, content.Ref{}))
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return root
}

// system returns the system that runs from the tree, whose etc and var change.
func system(root *tree.Inode) *customize.System {
	return customize.New(root, root.Child("etc"), root.Child("var"), 0, func(string) []byte { return make([]byte, 32) })
}

// listing describes what is below a directory.
func listing(root *tree.Inode) string {
	var b strings.Builder
	_ = tree.Walk(root, func(p string, i *tree.Inode) error {
		fmt.Fprintf(&b, "%s %o %s\n", p, i.Type(), i.Target)
		return nil
	})
	return b.String()
}

// write writes a tree to a directory.
func write(t testing.TB, root *tree.Inode, dir string) {
	t.Helper()
	if err := tree.Walk(root, func(p string, i *tree.Inode) error {
		at := filepath.Join(dir, p)
		switch {
		case i.IsDir():
			return os.MkdirAll(at, 0o755)
		case i.IsLink():
			return os.Symlink(i.Target, at)
		}
		text, err := i.Content.ReadAll(1 << 20)
		if err != nil {
			return err
		}
		return os.WriteFile(at, text, 0o644)
	}); err != nil {
		t.Fatal(err)
	}
}

// listDir describes a directory as listing does.
func listDir(t testing.TB, dir string) string {
	t.Helper()
	var read func(string) *tree.Inode
	read = func(at string) *tree.Inode {
		entries, err := os.ReadDir(at)
		if err != nil {
			t.Fatal(err)
		}
		d := tree.NewDir(0o755)
		for _, e := range entries {
			p := filepath.Join(at, e.Name())
			switch {
			case e.IsDir():
				d.Set(e.Name(), read(p))
			case e.Type()&os.ModeSymlink != 0:
				target, err := os.Readlink(p)
				if err != nil {
					t.Fatal(err)
				}
				d.Set(e.Name(), tree.NewLink(target))
			default:
				d.Set(e.Name(), tree.NewFile(0o644, content.Ref{}))
			}
		}
		return d
	}
	return listing(read(dir))
}

// verdict is how a call ended: "ok", "quiet" where nothing was said at all, or
// "failed".
type verdict struct {
	ok   bool
	said string
}

// needSystemctl makes sure that systemctl is one whose rules these are: that of
// make tools, rather than an older one of the machine.
func needSystemctl(t testing.TB) {
	t.Helper()
	out, err := exec.Command("systemctl", "--version").Output()
	var version int
	if _, scanErr := fmt.Sscanf(string(out), "systemd %d", &version); err != nil || scanErr != nil || version < 258 {
		t.Fatalf("no systemctl of systemd 258 or later: %q, %v; put .cache/tools/bin of make tools first in PATH", out, err)
	}
}

// real does the calls with systemctl.
func real(t testing.TB, root *tree.Inode, c Config) (etc string, v verdict) {
	t.Helper()
	dir := t.TempDir()
	write(t, root, dir)
	v.ok = true
	for _, l := range c.lists() {
		for _, name := range l.names {
			cmd := exec.Command("systemctl", "--root="+dir, strings.TrimSuffix(l.key, "d"), "--", name)
			if l.key != "masked" {
				cmd.Args[2] = strings.TrimSuffix(l.key, "d")
			} else {
				cmd.Args[2] = "mask"
			}
			cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=info", "SYSTEMD_COLORS=0")
			before := links(t, filepath.Join(dir, configPath))
			out, err := cmd.CombinedOutput()
			if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
				t.Fatal(err)
			}
			if err != nil {
				v.ok = false
			}
			v.said += string(out)
			if l.key == "disabled" {
				forgotten(t, dir, before)
			}
		}
	}
	return listDir(t, filepath.Join(dir, "etc")), v
}

// links returns the paths of the symbolic links below a directory.
func links(t testing.TB, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	if err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink != 0 {
			found[p] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// forgotten removes the links that lead to removed links, which systemctl finds or
// not by the order in which a directory is read.
func forgotten(t testing.TB, dir string, before map[string]bool) {
	t.Helper()
	for again := true; again; {
		again = false
		now := links(t, filepath.Join(dir, configPath))
		for p := range now {
			target, err := os.Readlink(p)
			if err != nil {
				t.Fatal(err)
			}
			to := filepath.Join(filepath.Dir(p), target)
			if filepath.IsAbs(target) {
				to = filepath.Join(dir, target)
			}
			if before[to] && !now[to] {
				again = true
				if err := os.Remove(p); err != nil {
					t.Fatal(err)
				}
				for d := filepath.Dir(p); d != filepath.Join(dir, configPath) && os.Remove(d) == nil; d = filepath.Dir(d) {
				}
			}
		}
	}
}

// ours does them with this package.
func ours(root *tree.Inode, c Config) (etc string, warnings customize.Problems, err error) {
	warnings, err = Apply(system(root), c)
	return listing(root.Child("etc")), warnings, err
}

const service = "[Service]|ExecStart=/bin/true|"

type situation struct {
	name  string
	image []string
	c     Config
	fails string // a part of the error
	warns string // a part of a warning
	added string // a line of the listing that must be there
}

func enable(names ...string) Config { return Config{Enabled: names} }

func situations() []situation {
	lib := "usr/lib/systemd/system/"
	etc := "etc/systemd/system/"
	multi := lib + "multi-user.target: [Unit]|"
	wanted := service + "[Install]|WantedBy=multi-user.target|"
	return []situation{
		{name: "wanted", image: []string{multi, lib + "a.service: " + wanted}, c: enable("a"), added: etc + "multi-user.target.wants/a.service"},
		{name: "with the suffix", image: []string{multi, lib + "a.service: " + wanted}, c: enable("a.service")},
		{name: "required and upheld", image: []string{lib + "a.service: " + service + "[Install]|RequiredBy=x.target y.target|UpheldBy=z.service|"}, c: enable("a"), warns: "x.target, which does not exist"},
		{name: "twice", image: []string{multi, lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service"}, c: enable("a")},
		{name: "already by a relative link", image: []string{multi, lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service -> ../../../../usr/lib/systemd/system/a.service"}, c: enable("a")},
		{name: "link to elsewhere is replaced", image: []string{multi, lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service -> /opt/a.service"}, c: enable("a")},
		{name: "static", image: []string{lib + "a.service: " + service}, c: enable("a"), warns: "no [Install]"},
		{name: "missing", c: enable("a"), fails: "does not exist"},
		{name: "empty Install", image: []string{lib + "a.service: " + service + "[Install]|"}, c: enable("a"), warns: "no [Install]"},
		{name: "alias", image: []string{multi, lib + "a.service: " + wanted + "Alias=b.service c.service|"}, c: enable("a"), added: etc + "b.service"},
		{name: "alias is the unit", image: []string{lib + "a.service: " + service + "[Install]|Alias=a.service|"}, c: enable("a"), warns: "no [Install]"},
		{name: "alias of another type", image: []string{multi, lib + "a.service: " + wanted + "Alias=b.socket|"}, c: enable("a"), fails: "cannot have the alias"},
		{name: "alias taken by a file", image: []string{lib + "a.service: " + service + "[Install]|Alias=b.service|", etc + "b.service: " + service}, c: enable("a"), fails: "no symbolic link"},
		{name: "alias taken by another unit", image: []string{lib + "a.service: " + service + "[Install]|Alias=b.service|", lib + "c.service: " + service, etc + "b.service -> /usr/lib/systemd/system/c.service"}, c: enable("a"), fails: "is a link to"},
		{name: "alias is a dangling link", image: []string{lib + "a.service: " + service + "[Install]|Alias=b.service|", etc + "b.service -> /usr/lib/systemd/system/gone.service"}, c: enable("a")},
		{name: "alias as a path", image: []string{lib + "a.service: " + service + "[Install]|Alias=x.target.wants/a.service|"}, c: enable("a"), added: etc + "x.target.wants/a.service"},
		{name: "alias as a wrong path", image: []string{lib + "a.service: " + service + "[Install]|Alias=x.target.wants/b.service|"}, c: enable("a"), fails: "cannot have the alias"},
		{name: "mount has no aliases", image: []string{lib + "a.mount: [Mount]|What=x|Where=/a|[Install]|WantedBy=x.mount|Alias=b.mount|", lib + "x.mount: [Mount]|"}, c: enable("a.mount"), warns: "not allowed"},
		{name: "alias in /usr", image: []string{multi, lib + "a.service: " + wanted, lib + "b.service -> a.service"}, c: enable("b"), added: etc + "multi-user.target.wants/a.service"},
		{name: "alias in /etc", image: []string{multi, lib + "a.service: " + wanted, etc + "b.service -> /usr/lib/systemd/system/a.service"}, c: enable("b"), fails: "is an alias or a linked unit"},
		{name: "alias of nothing", image: []string{lib + "b.service -> a.service"}, c: enable("b"), fails: "alias of a unit that does not exist"},
		{name: "alias to another type", image: []string{lib + "b.service -> a.socket", lib + "a.socket: [Socket]|"}, c: enable("b"), fails: "not an alias"},
		{name: "loop of aliases", image: []string{lib + "a.service -> b.service", lib + "b.service -> a.service"}, c: enable("a"), fails: ""},
		{name: "also", image: []string{multi, lib + "a.service: " + wanted + "Also=a.socket|", lib + "a.socket: [Socket]|[Install]|WantedBy=sockets.target|", lib + "sockets.target: [Unit]|"}, c: enable("a"), added: etc + "sockets.target.wants/a.socket"},
		{name: "also only", image: []string{lib + "a.service: " + service + "[Install]|Also=a.socket|", lib + "a.socket: [Socket]|[Install]|WantedBy=sockets.target|", lib + "sockets.target: [Unit]|"}, c: enable("a")},
		{name: "also missing", image: []string{multi, lib + "a.service: " + wanted + "Also=gone.socket|"}, c: enable("a"), warns: "gone.socket"},
		{name: "also masked", image: []string{multi, lib + "a.service: " + wanted + "Also=b.service|", etc + "b.service -> /dev/null"}, c: enable("a"), warns: "masked"},
		{name: "also each other", image: []string{multi, lib + "a.service: " + wanted + "Also=b.service|", lib + "b.service: " + wanted + "Also=a.service|"}, c: enable("a")},
		{name: "also no name", image: []string{multi, lib + "a.service: " + wanted + "Also=b|"}, c: enable("a"), fails: "Also="},
		{name: "template without an instance", image: []string{multi, lib + "a@.service: " + wanted}, c: enable("a@"), fails: "needs an instance"},
		{name: "template with an instance", image: []string{multi, lib + "a@.service: " + wanted}, c: enable("a@x"), added: etc + "multi-user.target.wants/a@x.service"},
		{name: "default instance", image: []string{multi, lib + "a@.service: " + wanted + "DefaultInstance=tty1|"}, c: enable("a@"), added: etc + "multi-user.target.wants/a@tty1.service"},
		{name: "default instance and another", image: []string{multi, lib + "a@.service: " + wanted + "DefaultInstance=tty1|"}, c: enable("a@tty2.service")},
		{name: "default instance masked", image: []string{multi, lib + "a@.service: " + wanted + "DefaultInstance=tty1|", etc + "a@tty1.service -> /dev/null"}, c: enable("a@.service"), fails: "masked"},
		{name: "bad default instance", image: []string{multi, lib + "a@.service: " + wanted + "DefaultInstance=tty 1|"}, c: enable("a@"), fails: "is not an instance"},
		{name: "default instance of a plain unit", image: []string{multi, lib + "a.service: " + wanted + "DefaultInstance=1|"}, c: enable("a"), warns: "only makes sense"},
		{name: "template wanted by a template", image: []string{lib + "a@.service: " + service + "[Install]|WantedBy=b@.target|", lib + "b@.target: [Unit]|"}, c: enable("a@")},
		{name: "alias of a template", image: []string{lib + "a@.service: " + service + "[Install]|Alias=b@.service|"}, c: enable("a@x"), added: etc + "b@x.service"},
		{name: "own file of an instance", image: []string{multi, lib + "a@.service: " + wanted, lib + "a@x.service: " + service}, c: enable("a@x"), warns: "no [Install]"},
		{name: "mount template", image: []string{lib + "a@.mount: [Mount]|"}, c: enable("a@x.mount"), fails: "no templates"},
		{name: "specifiers", image: []string{lib + "a-b@.service: " + service + "[Install]|WantedBy=p-%p-%i.target n-%N.target j-%j.target %%.target|Alias=%p-x@%i.service|"}, c: enable("a-b@1"), fails: "%.target"},
		{name: "more specifiers", image: []string{lib + "a-b@.service: " + service + "[Install]|WantedBy=p-%p-%i.target n-%N.target j-%j.target u%U%u%g%G.target|Also=%p-c@%i.service|", lib + "a-b-c@.service: " + service + "[Install]|WantedBy=%n|"}, c: enable("a-b@1")},
		{name: "specifiers of the image", image: []string{"etc/os-release: ID=fedora|VERSION_ID=42|VARIANT_ID=\"x\"|", lib + "a.service: " + service + "[Install]|WantedBy=%o-%w-%W%M.target|"}, c: enable("a"), added: etc + "fedora-42-x.target.wants/a.service"},
		{name: "unknown specifier", image: []string{lib + "a.service: " + service + "[Install]|WantedBy=%Q.target|"}, c: enable("a"), fails: "%Q"},
		{name: "wanted by no name", image: []string{lib + "a.service: " + service + "[Install]|WantedBy=x y.target|"}, c: enable("a"), fails: "not the name of a unit"},
		{name: "error behind an alias", image: []string{lib + "a.service: " + service + "[Install]|Alias=b.service|WantedBy=x|"}, c: enable("a"), fails: "not the name of a unit"},
		{name: "lists are reset", image: []string{multi, lib + "a.service: " + service + "[Install]|WantedBy=x.target|WantedBy=|WantedBy=multi-user.target|"}, c: enable("a")},
		{name: "drop-in", image: []string{multi, lib + "a.service: " + service, lib + "a.service.d/10.conf: [Install]|WantedBy=multi-user.target|"}, c: enable("a"), added: etc + "multi-user.target.wants/a.service"},
		{name: "drop-ins of several directories", image: []string{multi, lib + "a.service: " + wanted, lib + "a.service.d/10.conf: [Install]|WantedBy=|", etc + "a.service.d/10.conf: [Install]|WantedBy=x.target|", "usr/local/lib/systemd/system/a.service.d/20.conf: [Install]|RequiredBy=y.target|", lib + "a.service.d/30.txt: [Install]|WantedBy=no.target|"}, c: enable("a")},
		{name: "drop-in of a template", image: []string{multi, lib + "a@.service: " + service, lib + "a@.service.d/10.conf: [Install]|WantedBy=t.target|", lib + "a@x.service.d/20.conf: [Install]|WantedBy=i.target|"}, c: enable("a@x")},
		{name: "masked drop-in", image: []string{multi, lib + "a.service: " + wanted, lib + "a.service.d/10.conf: [Install]|WantedBy=|", etc + "a.service.d/10.conf -> /dev/null", "dev/null"}, c: enable("a")},
		{name: "order of the directories", image: []string{multi, lib + "a.service: " + service + "[Install]|WantedBy=lib.target|", "usr/local/lib/systemd/system/a.service: " + service + "[Install]|WantedBy=local.target|"}, c: enable("a"), added: etc + "local.target.wants/a.service"},
		{name: "unit of the administrator", image: []string{multi, lib + "a.service: " + service, etc + "a.service: " + wanted}, c: enable("a"), added: etc + "multi-user.target.wants/a.service"},
		{name: "masked", image: []string{lib + "a.service: " + wanted, etc + "a.service -> /dev/null"}, c: enable("a"), fails: "is masked"},
		{name: "masked by an empty file", image: []string{lib + "a.service: " + wanted, etc + "a.service"}, c: enable("a"), fails: "is masked"},
		{name: "masked by a link to an empty file", image: []string{lib + "a.service: " + wanted, etc + "a.service -> ../../empty", "etc/empty"}, c: enable("a"), fails: "is masked"},
		{name: "linked", image: []string{multi, "etc/x/a.service: " + wanted, etc + "a.service -> /etc/x/a.service"}, c: enable("a"), added: etc + "multi-user.target.wants/a.service"},
		{name: "linked under another name", image: []string{multi, "etc/x/b.service: " + wanted, etc + "a.service -> /etc/x/b.service"}, c: enable("a")},
		{name: "path", image: []string{multi, "etc/x/a.service: " + wanted}, c: enable("/etc/x/a.service"), added: etc + "a.service"},
		{name: "path in the search path", image: []string{multi, lib + "a.service: " + wanted}, c: enable("/usr/lib/systemd/system/a.service")},
		{name: "path of nothing", c: enable("/etc/x/a.service"), fails: "does not exist"},
		{name: "path of a static unit", image: []string{"etc/x/a.service: " + service}, c: enable("/etc/x/a.service"), warns: "no [Install]"},
		{name: "directory", image: []string{lib + "a.service/"}, c: enable("a"), fails: "not a regular file"},
		{name: "bad section", image: []string{lib + "a.service: [Unit|[Install]|WantedBy=x.target|"}, c: enable("a"), fails: "invalid section header"},
		{name: "comments, continuations, quotes", image: []string{multi, lib + "a.service: \ufeff# c|  [Install]  | WantedBy = \"x.target\"  'y.target' \\|; comment||z.target|#WantedBy=no.target|Alias=\"b.service\"c|junk|=x|[Unknown]|WantedBy=no.target|"}, c: enable("a"), fails: "b.servicec"},
		{name: "continued", image: []string{lib + "a.service: [Install]|WantedBy=x.target \\|# comment|  y.target \\||z.target|WantedBy=end.target\\|"}, c: enable("a")},
		{name: "continued without a blank", image: []string{lib + "a.service: [Install]|WantedBy=x.target\\|y.target|"}, c: enable("a"), added: etc + "y.target.wants/a.service"},
		{name: "unclosed quote", image: []string{lib + "a.service: [Install]|WantedBy=\"x.target|RequiredBy=y.target|"}, c: enable("a"), warns: "quote"},
		{name: "carriage returns", image: []string{lib + "a.service: [Install]\r|WantedBy=x.target\r|"}, c: enable("a")},
		{name: "directory of links is a file", image: []string{multi, lib + "a.service: " + wanted, etc + "multi-user.target.wants: x"}, c: enable("a"), fails: "not a directory"},
		{name: "link taken by a file", image: []string{multi, lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service: x"}, c: enable("a"), fails: "no symbolic link"},

		{name: "disable", image: []string{lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service", etc + "other.target.requires/a.service -> ../../../../usr/lib/systemd/system/a.service", etc + "keep.target.wants/b.service -> /usr/lib/systemd/system/b.service"}, c: Config{Disabled: []string{"a"}}},
		{name: "disable keeps the directory", image: []string{lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service", etc + "multi-user.target.wants/b.service -> /usr/lib/systemd/system/b.service"}, c: Config{Disabled: []string{"a"}}},
		{name: "disable removes aliases", image: []string{lib + "a.service: " + wanted + "Alias=b.service|", etc + "b.service -> /usr/lib/systemd/system/a.service", etc + "x.target.wants/b.service -> /etc/systemd/system/b.service", etc + "y.target.wants/c.service -> ../b.service"}, c: Config{Disabled: []string{"a"}}},
		{name: "disable an alias", image: []string{lib + "a.service: " + wanted, lib + "b.service -> a.service", etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service"}, c: Config{Disabled: []string{"b"}}},
		{name: "disable an alias in /etc", image: []string{lib + "a.service: " + wanted, etc + "b.service -> /usr/lib/systemd/system/a.service", etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service"}, c: Config{Disabled: []string{"b"}}},
		{name: "disable a template", image: []string{lib + "a@.service: " + wanted, etc + "multi-user.target.wants/a@x.service -> /usr/lib/systemd/system/a@.service", etc + "multi-user.target.wants/a@y.service -> /usr/lib/systemd/system/a@.service"}, c: Config{Disabled: []string{"a@"}}},
		{name: "disable a template by the names of links", image: []string{lib + "a@.service: " + wanted, lib + "b.service: " + service, etc + "multi-user.target.wants/a@x.service -> /usr/lib/systemd/system/b.service"}, c: Config{Disabled: []string{"a@"}}},
		{name: "disable an instance", image: []string{lib + "a@.service: " + wanted, etc + "multi-user.target.wants/a@x.service -> /usr/lib/systemd/system/a@.service", etc + "multi-user.target.wants/a@y.service -> /usr/lib/systemd/system/a@.service"}, c: Config{Disabled: []string{"a@x"}}},
		{name: "disable with also", image: []string{lib + "a.service: " + wanted + "Also=a.socket gone.socket|", lib + "a.socket: [Socket]|[Install]|WantedBy=sockets.target|", etc + "sockets.target.wants/a.socket -> /usr/lib/systemd/system/a.socket", etc + "sockets.target.wants/gone.socket -> /usr/lib/systemd/system/gone.socket"}, c: Config{Disabled: []string{"a"}}},
		{name: "disable a linked unit", image: []string{"etc/x/a.service: " + wanted, etc + "a.service -> /etc/x/a.service", etc + "multi-user.target.wants/a.service -> /etc/x/a.service"}, c: Config{Disabled: []string{"a"}}},
		{name: "disable what is missing", image: []string{etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service"}, c: Config{Disabled: []string{"a"}}, fails: "does not exist"},
		{name: "disable what is masked", image: []string{lib + "a.service: " + wanted, etc + "a.service -> /dev/null"}, c: Config{Disabled: []string{"a"}}, warns: "masked"},
		{name: "disable what is static", image: []string{lib + "a.service: " + service}, c: Config{Disabled: []string{"a"}}, warns: "nothing to disable"},
		{name: "disable what is not enabled", image: []string{lib + "a.service: " + wanted}, c: Config{Disabled: []string{"a"}}},
		{name: "disable with links in /usr", image: []string{lib + "a.service: " + wanted, lib + "multi-user.target.wants/a.service -> ../a.service"}, c: Config{Disabled: []string{"a"}}},
		{name: "disable with a loop of links", image: []string{lib + "a.service: " + wanted, etc + "l.service -> l.service", etc + "x.target.wants/a.service -> /usr/lib/systemd/system/a.service"}, c: Config{Disabled: []string{"a"}}, fails: "links"},

		{name: "mask", image: []string{lib + "a.service: " + wanted}, c: Config{Masked: []string{"a"}}, added: etc + "a.service"},
		{name: "mask what is missing", c: Config{Masked: []string{"gone.timer"}}, added: etc + "gone.timer"},
		{name: "mask twice", image: []string{etc + "a.service -> /dev/null"}, c: Config{Masked: []string{"a"}}},
		{name: "mask an own unit", image: []string{etc + "a.service: " + wanted}, c: Config{Masked: []string{"a"}}, fails: "no symbolic link"},
		{name: "mask an alias", image: []string{lib + "a.service: " + wanted, etc + "b.service -> /usr/lib/systemd/system/a.service"}, c: Config{Masked: []string{"b"}}, fails: "is a link"},
		{name: "mask an instance", c: Config{Masked: []string{"getty@tty1"}}},
		{name: "disable and mask", image: []string{lib + "a.service: " + wanted, etc + "multi-user.target.wants/a.service -> /usr/lib/systemd/system/a.service"}, c: Config{Disabled: []string{"a"}, Masked: []string{"a"}}, added: etc + "a.service"},
		{name: "all three", image: []string{multi, lib + "a.service: " + wanted, lib + "b.service: " + wanted, etc + "multi-user.target.wants/b.service -> /usr/lib/systemd/system/b.service"}, c: Config{Enabled: []string{"a"}, Disabled: []string{"b"}, Masked: []string{"c"}}},
	}
}

func TestSituations(t *testing.T) {
	needSystemctl(t)
	for _, s := range situations() {
		t.Run(s.name, func(t *testing.T) {
			want, v := real(t, build(t, s.image), s.c)
			root := build(t, s.image)
			got, warnings, err := ours(root, s.c)
			if (err == nil) != v.ok {
				t.Errorf("systemctl: %+v; this: %v", v, err)
			}
			if got != want && err == nil {
				t.Errorf("got\n%s\nwant\n%s\n%s", got, want, v.said)
			}
			if err != nil && !strings.Contains(err.Error(), s.fails) || err == nil && s.fails != "" {
				t.Errorf("error %v, want %s\n%s", err, s.fails, v.said)
			}
			if s.warns == "" && len(warnings) > 0 && err == nil && !strings.Contains(warnings.Error(), "does not exist in the image") || !strings.Contains(warnings.Error(), s.warns) {
				t.Errorf("warnings %v, want %q\n%s", warnings, s.warns, v.said)
			}
			if s.added != "" && tree.Lookup(root, s.added) == nil {
				t.Errorf("no %s", s.added)
			}
		})
	}
}

// TestGenerated compares with systemctl on random trees of units.
func TestGenerated(t *testing.T) {
	needSystemctl(t)
	n := 150
	if testing.Short() {
		n = 20
	}
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 7))
		image, c := generate(rng)
		want, v := real(t, build(t, image), c)
		got, _, err := ours(build(t, image), c)
		if (err == nil) != v.ok || err == nil && got != want {
			t.Fatalf("seed %d: %+v\n%s\nsystemctl %+v\n%s\nthis: %v\n%s", seed, c, strings.Join(image, "\n"), v, want, err, got)
		}
	}
}

func pick[T any](rng *rand.Rand, s []T) T { return s[rng.IntN(len(s))] }

// generate makes up units, links between them and what to do with them.
func generate(rng *rand.Rand) (image []string, c Config) {
	names := []string{"a.service", "b.service", "c-d.service", "a.socket", "t@.service", "t@x.service", "u@.service", "t@.target", "m.target", "n.target", "a.timer", "p.mount"}
	dirs := []string{"usr/lib/systemd/system/", "usr/lib/systemd/system/", "usr/local/lib/systemd/system/", "etc/systemd/system/", "etc/x/"}
	words := []string{"a.service", "b.service", "m.target", "n.target", "t@.target", "t@x.service", "t@.service", "%p-x.target", "%i.target", "t@%i.service", "x-%n", "gone.target", "bad", "u@.service", "%j.socket"}
	have := map[string]bool{}
	put := func(line string) {
		p, _, _ := strings.Cut(line, " -> ")
		p, _, _ = strings.Cut(p, ": ")
		if !have[p] {
			have[p] = true
			image = append(image, line)
		}
	}
	for range 3 + rng.IntN(8) {
		name, dir := pick(rng, names), pick(rng, dirs)
		if rng.IntN(6) == 0 {
			put(dir + name + ".d/" + pick(rng, []string{"1.conf", "2.conf", "3"}) + ": " + install(rng, words))
			continue
		}
		switch rng.IntN(8) {
		case 0:
			put(dir + name + " -> " + pick(rng, []string{"/dev/null", pick(rng, names), "/usr/lib/systemd/system/" + pick(rng, names), "/etc/x/" + pick(rng, names)}))
		case 1:
			put(dir + name)
		default:
			put(dir + name + ": " + service + install(rng, words))
		}
	}
	for range rng.IntN(8) {
		wants := pick(rng, []string{"m.target.wants/", "n.target.requires/", "n.target.upholds/", ""})
		put("etc/systemd/system/" + wants + pick(rng, names) + " -> " + pick(rng, []string{"/usr/lib/systemd/system/", "../", "/etc/systemd/system/", "../../../../usr/local/lib/systemd/system/"}) + pick(rng, names))
	}
	some := func(max int) (list []string) {
		for range rng.IntN(max) {
			if n := pick(rng, append(names, "t@y.service")); !slices.Contains(c.Enabled, n) && !slices.Contains(c.Disabled, n) && !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
		return list
	}
	c.Enabled = some(3)
	c.Disabled = some(3)
	c.Masked = some(2)
	return image, c
}

// install makes up an [Install] section.
func install(rng *rand.Rand, words []string) string {
	s := "[Install]|"
	for range rng.IntN(4) {
		key := pick(rng, []string{"WantedBy", "WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also", "DefaultInstance"})
		value := pick(rng, words)
		if key == "DefaultInstance" {
			value = pick(rng, []string{"x", "1", "", "a b"})
		} else if rng.IntN(3) == 0 {
			value += " " + pick(rng, words)
		}
		s += key + "=" + value + "|"
	}
	return s
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{Enabled: []string{"sshd", "a@b.timer", "/etc/x/a.service"}, Disabled: []string{"b"}, Masked: []string{"b"}}, ""},
		{Config{Enabled: []string{""}}, "services.enabled[0]: the name is empty"},
		{Config{Enabled: []string{"a", "a.service"}}, "services.enabled[1]: a.service is in the list twice"},
		{Config{Enabled: []string{"a"}, Disabled: []string{"a"}}, "services.disabled[0]: a is in services.enabled as well"},
		{Config{Enabled: []string{"a"}, Masked: []string{"x", "a"}}, "services.masked[1]: a is in services.enabled as well"},
		{Config{Disabled: []string{"/etc/a.service"}}, `services.disabled[0]: "/etc/a.service" is not the name of a unit`},
		{Config{Disabled: []string{"a*"}}, "patterns are not supported"},
		{Config{Masked: []string{"a b", "ä", "@.service", strings.Repeat("x", 250)}}, "services.masked[3]"},
		{Config{Enabled: []string{"/etc/../a.service"}}, "not the path of a unit file"},
		{Config{Enabled: []string{"/etc/a"}}, "not the path of a unit file"},
	} {
		p := Validate(tc.c)
		if (len(p) == 0) != (tc.want == "") || !strings.Contains(p.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.c, p, tc.want)
		}
		for _, q := range p {
			if fault.ClassOf(q.Err) != fault.Usage {
				t.Errorf("%v: class %d", q, fault.ClassOf(q.Err))
			}
		}
	}
}

func TestSysV(t *testing.T) {
	_, _, err := ours(build(t, []string{"etc/init.d/old: #!/bin/sh|"}), enable("old"))
	if fault.ClassOf(err.(customize.Problems)[0].Err) != fault.Unsupported || !strings.Contains(err.Error(), "SysV") {
		t.Errorf("%v", err)
	}
}

// Several problems are reported at once, each with its place.
func TestCollected(t *testing.T) {
	_, _, err := ours(build(t, nil), Config{Enabled: []string{"a", "b"}, Disabled: []string{"c"}})
	p, ok := err.(customize.Problems)
	if !ok || len(p) != 3 || p[1].Field != "services.enabled[1]" || p[2].Field != "services.disabled[0]" {
		t.Errorf("%v", err)
	}
}

func FuzzParseInstall(f *testing.F) {
	f.Add([]byte("[Unit]\nDescription=x\n[Install]\nWantedBy=a.target \\\n# c\n b.target\nAlias='x y' \"z\"\n"))
	f.Add([]byte("\ufeff[Install]\r\nAlso=a\\ b\r\n[x"))
	f.Add([]byte("[Install]\nWantedBy=x\\"))
	f.Fuzz(func(t *testing.T, text []byte) {
		assignments, err := parseInstall(text)
		if err != nil {
			return
		}
		for _, a := range assignments {
			quotedWords(a.value)
			plainWords(a.value)
			in := &installer{sys: system(build(t, nil)), known: map[string]*info{}}
			if s, err := in.expand(&info{name: "a@b.service"}, a.value); err == nil && len(s) > len(a.value)+maxName {
				t.Errorf("%q expands to %d bytes", a.value, len(s))
			}
		}
	})
}
