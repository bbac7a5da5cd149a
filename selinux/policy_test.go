package selinux

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// image returns an OS tree with a policy made of the named files.
func image(t testing.TB, etc string, files map[string]string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	put(t, root, etc+"/selinux/config", "# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
	for name, text := range files {
		put(t, root, etc+"/selinux/targeted/contexts/files/"+name, text)
	}
	return root
}

func put(t testing.TB, root *tree.Inode, path, text string) {
	t.Helper()
	if err := tree.Put(root, path, tree.NewFile(0o644, content.String(text))); err != nil {
		t.Fatal(err)
	}
}

// rules is a policy with every rule that decides between its lines.
func rules() map[string]string {
	return map[string]string{
		"file_contexts": `
# A comment, and lines with other white space, more fields and none.
/.*			u:r:default:s0
  /			-d	u:r:root:s0	ignored  fields
/usr(/.*)?		u:r:usr:s0
/usr/(.*/)?bin(/.*)?	u:r:bin:s0` + "\r\n\v\f\n" + `/usr/bin/mount	--	u:r:mount:s0
/usr/bin/moun.		--	u:r:later:s0
/usr/lib(64)?/.*\.so(\.[^/]*)*	--	u:r:lib:s0
/etc(/.*)?		u:r:etc:s0
/etc/shadow.*	--	u:r:shadow:s0
/etc/shadow.x	--	not-a-context
/home/[^/]+	-d	u:r:home_dir:s0
/root(/.*)?		u:r:admin:s0
/tmp/.*			<<none>>
/a\.b\-c\_d\,e		u:r:escaped:s0
/a\:b			u:r:regex:s0
/a:.			u:r:regex_later:s0
/dup		-d	u:r:dup_dir:s0
/dup		-l	u:r:dup_link:s0
/dup			u:r:dup_any:s0
/none			<<none>>
/none		-d	u:r:none_dir:s0
/x|/y			u:r:xy:s0
/deep/a/b|/deep/c/d	u:r:deep:s0
/opt/?slash		u:r:slash:s0
/opt/sub/?slash		u:r:slash:s0
/st\-em/.*		u:r:stem:s0
/s1/s2/.*		<<none>>
/s1/.*\.late		u:r:late:s0
/s1/s2/s3/s4/s5/.*	u:r:five:s0
/s1//s2/s3/x.*		u:r:double:s0
/t1/t2/t3/.*		<<none>>
/t1/t2/t3/t4/.*		<<none>>
/t1/t2/.*\.late		u:r:late:s0
/t1/t2/t3/.*\.later	u:r:later:s0
/lit\-a\_b\,c		u:r:literal:s0
/lit.a.b.c		u:r:literal_later:s0
/colou?r		u:r:color:s0
/proc		-d	<<none>>
/mnt(/[^/]*)?	-d	u:r:mnt:s0
/dev/.*		-c	u:r:dev:s0
/dev/sd.	-b	u:r:disk:s0
/run/.*		-s	u:r:sock:s0
/run/.*		-p	u:r:fifo:s0
/brace}			u:r:brace:s0
/brace.			u:r:brace_later:s0
no/slash/.*		u:r:relative:s0
/nul	u:r:nul:s0` + "\x00" + ` -- x
/last			u:r:last:s0`,
		"file_contexts.homedirs": "/home/[^/]+/.*	u:r:user_home:s0\n/dup	--	u:r:dup_home:s0\n",
		"file_contexts.local": "/etc/local	--	u:r:local:s0\n/.*\\.cfg	u:r:cfg:s0\n/none	-l	u:r:none_local:s0\n" +
			"/usr/bin/mount	u:r:local_mount:s0\n",
		"file_contexts.subs": "/var/site /srv/site\n#/etc /x\n  /etc/alias   /etc/shadow  more\n/one\n\n/srv /usr/bin\n/srv/site /usr\n/root2/ /x\n/chain /mid\n/mid2 /etc",
		"file_contexts.subs_dist": "/var/home /home\n/var/roothome /root\n/sysroot/tree /\n/run /var/run\n/run/lock /etc\n" +
			"/slashes /usr/\n/mid /usr/bin\n/chain2 /mid2\n" + strings.Repeat("y", maxSubstitution) + "/long /etc\n/nul\x00 /etc\n",
		"file_contexts.bin": "\x8a\xff\x7c\xf9",
	}
}

// paths that the rules decide about.
func rulePaths() []string {
	return strings.Fields(`/ // /usr /usr/ /usr//share /usr/local/bin/x /usr/bin/mount /usr/bin/mounx /usr/lib/a.so.1 /usr/lib64/a.so
		/etc /etc/shadow- /etc/shadow.x /etc/local /etc/x.cfg /etc/alias /etc/alias/x /etc/aliasx /home /home/u /home/u/ /home/u/x /homes
		/root /root/x /root2 /root2/x /var/site/x /var/site /srv/site /srv/site/x /srv/x /var/home/u /var/homes /var/roothome /sysroot/tree
		/sysroot/tree/ /sysroot/tree/usr /sysroot/tree/etc/shadow /tmp /tmp/x /tmp/x.cfg /a.b-c_d,e /axb-c_d,e /a:b /a:c /dup /none
		/x /xz /y /z/y /deep/a/b /deep/a/bz /deep/c/d /z/deep/c/d /optslash /opt/slash /optsub/slash /opt/subslash /opt/sub/slash
		/t1/t2/t3/x.late /t1/t2/x.late /t1/t2/t3/t4/x.late /t1/t2/t3/t4/x.later /lit-a_b,c /litxaxbxc /chain/x /mid/x /mid2/x /chain2/x
		/st-em/x /st\-em/x /s1/s2/x /s1/s2/x.late /s1/x.late /s1/s2/s3/s4/s5/x /s1/s2/s3/x /s1/s2/s3/s4/s5/x.late /color /colour /colouur
		/mnt /mnt/x /mnt/x/y /dev/sda /dev/null /run/x /run/lock/x /run /brace} /brace) no/slash/x /slashes/x /slashes /nul /nul/x
		/last /unknown/x.cfg //usr///bin//mount/ /long yyy/long`)
}

func TestRules(t *testing.T) {
	p, err := Load(image(t, "usr/etc", rules()))
	if err != nil {
		t.Fatal(err)
	}
	if p.Type() != "targeted" {
		t.Errorf("type %q", p.Type())
	}
	for _, c := range []struct {
		path string
		mode uint32
		want string
	}{
		{"/", tree.TypeDir | 0o755, "root"},
		{"/", tree.TypeFile, "default"},
		{"/usr/local/bin/x", tree.TypeFile, "bin"},
		{"/usr/bin/mount", tree.TypeFile | 0o4755, "local_mount"},
		{"/usr/bin/mounx", tree.TypeFile, "later"},
		{"/usr/bin/mounx", tree.TypeLink, "bin"},
		{"/usr/bin/mounx", 0, "later"},
		{"/etc/shadow.x", tree.TypeFile, "not-a-context"},
		{"/etc/x.cfg", tree.TypeFile, "cfg"},
		{"/home/u/x", tree.TypeFile, "user_home"},
		{"/tmp/x", tree.TypeFile, ""},
		{"/none", tree.TypeDir, ""},
		{"/none", tree.TypeLink, "none_local"},
		{"/dup", tree.TypeFile, "dup_home"},
		{"/dup", tree.TypeDir, "dup_dir"},
		{"/dup", tree.TypeSock, "dup_any"},
		{"/s1/s2/x.late", tree.TypeFile, ""},
		{"/srv/site/x.so", tree.TypeFile, "usr"},
		{"/run/lock/x", tree.TypeFile, "etc"},
		{"/dev/sda", tree.TypeBlock, "disk"},
		{"/dev/sda", tree.TypeChar, "dev"},
		{"/proc", tree.TypeDir, "mnt"},
		{"/proc/", tree.TypeDir, ""},
		{"/mnt", tree.TypeDir, "mnt"},
		{"", tree.TypeDir, ""},
	} {
		label, ok := p.Lookup(c.path, c.mode)
		want := c.want
		if want != "" && want != "not-a-context" {
			want = "u:r:" + want + ":s0"
		}
		if label != want || ok != (want != "") {
			t.Errorf("%s %o: %q, %v, want %q", c.path, c.mode, label, ok, want)
		}
	}
}

// libselinux follows the same rules.
func TestRulesLikeTool(t *testing.T) {
	dir := t.TempDir()
	for name, text := range rules() {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The text, not the broken compiled form.
	if err := os.Remove(filepath.Join(dir, "file_contexts.bin")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file_contexts")
	p := loadFile(t, file, "targeted")
	for _, k := range fileKinds() {
		compare(t, p, file, k, rulePaths())
	}
}

func TestLoadWhere(t *testing.T) {
	contexts := map[string]string{"file_contexts": "/.* u:r:usr_etc:s0"}
	root := image(t, "usr/etc", contexts)
	check := func(want string) {
		t.Helper()
		p, err := Load(root)
		if err != nil {
			t.Fatal(err)
		}
		if label, _ := p.Lookup("/x", 0); label != want {
			t.Errorf("label %q, want %q", label, want)
		}
	}
	check("u:r:usr_etc:s0")
	// libostree looks into /etc if there is anything.
	put(t, root, "etc/selinux/config", "SELINUX=permissive\nSELINUXTYPE=other\nSELINUXTYPE= mine \n")
	put(t, root, "etc/selinux/mine/contexts/files/file_contexts", "/.* u:r:etc:s0")
	check("u:r:etc:s0")
	if err := tree.Put(root, "etc/selinux/mine/contexts/files/file_contexts", tree.NewLink("../../../targeted")); err != nil {
		t.Fatal(err)
	}
	put(t, root, "etc/selinux/targeted", "/.* u:r:link:s0")
	check("u:r:link:s0")
}

func TestLoadNone(t *testing.T) {
	if p, err := Load(tree.NewDir(0o755)); p != nil || err != nil {
		t.Errorf("no config: %v, %v", p, err)
	}
	for _, config := range []string{"", "SELINUXTYPE=targeted\n", "SELINUX=disabled\nSELINUXTYPE=targeted\n", " SELINUX=enforcing\n", "SELINUX= enforcing\n"} {
		root := tree.NewDir(0o755)
		put(t, root, "etc/selinux/config", config)
		if p, err := Load(root); p != nil || err != nil {
			t.Errorf("%q: %v, %v", config, p, err)
		}
	}
}

func TestLoadConfig(t *testing.T) {
	for config, want := range map[string]string{
		"SELINUX=Enforcing # x\r\nSELINUXTYPE=\ttargeted\r\n":                       "targeted",
		"SELINUX=permissive\nSELINUX=disabled\nSELINUXTYPE=a\nSELINUXTYPE=targeted": "targeted",
		"SELINUX=enforcing\n":                  "SELINUXTYPE \"\" is not",
		"SELINUX=enforcing\nSELINUXTYPE=..\n":  "SELINUXTYPE \"..\" is not",
		"SELINUX=enforcing\nSELINUXTYPE=a/b\n": "SELINUXTYPE \"a/b\" is not",
		"SELINUX=enforcing\nSELINUXTYPE=x\n":   "etc/selinux/x/contexts/files/file_contexts",
	} {
		root := image(t, "etc", map[string]string{"file_contexts": "/.* u:r:t:s0\n"})
		put(t, root, "etc/selinux/config", config)
		p, err := Load(root)
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.BadImage {
				t.Errorf("%q: error %v, want %q", config, err, want)
			}
		case p == nil || p.Type() != want:
			t.Errorf("%q: %+v", config, p)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	const all = "/.* u:r:t:s0\n"
	for _, c := range []struct {
		files map[string]string
		want  string
		class fault.Class
	}{
		{map[string]string{}, "file_contexts", fault.BadImage},
		{map[string]string{"file_contexts.bin": ""}, "file_contexts: only the compiled form", fault.BadImage},
		{map[string]string{"file_contexts": all, "file_contexts.local.bin": ""}, "file_contexts.local: only the compiled form", fault.BadImage},
		{map[string]string{"file_contexts": "/usr/.* u:r:t:s0\n"}, "no label for /", fault.BadImage},
		{map[string]string{"file_contexts": "/ <<none>>\n"}, "no label for /", fault.BadImage},
		{map[string]string{"file_contexts": "/a"}, "/etc/selinux/targeted/contexts/files/file_contexts:1: \"/a\" without", fault.BadImage},
		{map[string]string{"file_contexts": all, "file_contexts.homedirs": "#\n\n/a -x u:r:t:s0"}, "file_contexts.homedirs:3: unknown file type", fault.BadImage},
		{map[string]string{"file_contexts": all + "/a u:r:t:s0 more"}, ":2: unknown file type \"u:r:t:s0\"", fault.BadImage},
		{map[string]string{"file_contexts": all + "/é u:r:t:s0"}, ":2: \"/é\": not ASCII", fault.BadImage},
		{map[string]string{"file_contexts": all + "/a -- u:r:ö:s0"}, "not ASCII", fault.BadImage},
		{map[string]string{"file_contexts": all + "/[ u:r:t:s0"}, `:2: pattern "/[": missing ]`, fault.BadImage},
		{map[string]string{"file_contexts": all + `/(a)\1 u:r:t:s0`}, `:2: pattern "/(a)\\1": back reference \1: not supported`, fault.Unsupported},
		{map[string]string{"file_contexts": all + "/" + strings.Repeat("a", maxEntry) + " u:r:t:s0"}, "longer than 65534 bytes", fault.BadImage},
		{map[string]string{"file_contexts": all + strings.Repeat("/b.{60000} u:r:t:s0\n", 40)}, "instructions in all", fault.BadImage},
		{map[string]string{"file_contexts": all + "/b(.{60000}){2} u:r:t:s0\n"}, "more than 65536 instructions", fault.BadImage},
		{map[string]string{"file_contexts": strings.Repeat("/ x\n", maxSpecs+1)}, "more than 262144 lines", fault.BadImage},
		{map[string]string{"file_contexts": all + strings.Repeat("#", maxFile)}, "file_contexts", fault.BadImage},
		{map[string]string{"file_contexts": all, "file_contexts.subs": strings.Repeat("#", maxFile+1)}, "file_contexts.subs", fault.BadImage},
	} {
		_, err := Load(image(t, "etc", c.files))
		if err == nil || !strings.Contains(err.Error(), c.want) || fault.ClassOf(err) != c.class {
			t.Errorf("error %v (%d), want %q", err, fault.ClassOf(err), c.want)
		}
	}
}

// Lines that libselinux refuses are refused, and those that it takes are taken.
func TestLinesLikeTool(t *testing.T) {
	for _, line := range []string{"/a", "/a ", "/a\tx", "/a -- x", "/a -x x", "/a - x", "/a --- x", "/a x y", "/a -- x y z", "#", " # /a", "", " \v ", "/a\r",
		"/a x\r", "/é x", "/a é", "# é", "/a x é", "/a -- x é", "\x00/a", "/a\x00 x", "/a x\x00é", "/a \xa0x", "/a\xa0x y", "a b", "/ -d <<none>>x"} {
		file := filepath.Join(t.TempDir(), "file_contexts")
		if err := os.WriteFile(file, []byte("/ x\n"+line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(policyTree(t, file, "x"))
		if tool := opens(t, file); tool != (err == nil) {
			t.Errorf("%q: error %v, libselinux takes it: %v", line, err, tool)
		}
	}
}

// Many look-ups at the same time give what one at a time does.
func TestConcurrent(t *testing.T) {
	p, err := Load(image(t, "etc", rules()))
	if err != nil {
		t.Fatal(err)
	}
	answers := func() string {
		var b strings.Builder
		for _, path := range rulePaths() {
			label, ok := p.Lookup(path, tree.TypeFile)
			fmt.Fprintln(&b, path, label, ok)
		}
		return b.String()
	}
	want := answers()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := answers(); got != want {
					t.Error("other answers")
					return
				}
			}
		})
	}
	wg.Wait()
}
