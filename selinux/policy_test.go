package selinux

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// image returns an OS tree with a policy made of the named files.
func image(t *testing.T, etc string, files map[string]string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	put := func(path, text string) {
		if err := tree.Put(root, path, tree.NewFile(0o644, content.String(text))); err != nil {
			t.Fatal(err)
		}
	}
	put(etc+"/selinux/config", "# comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")
	for name, text := range files {
		put(etc+"/selinux/targeted/contexts/files/"+name, text)
	}
	return root
}

const contexts = `
# a comment
/.*			system_u:object_r:default_t:s0
/	-d	system_u:object_r:root_t:s0
/usr(/.*)?		system_u:object_r:usr_t:s0
/usr/(.*/)?bin(/.*)?		system_u:object_r:bin_t:s0
/usr/bin/mount	--	system_u:object_r:mount_exec_t:s0
/usr/bin/moun.	--	system_u:object_r:later_t:s0
/usr/lib(64)?/.*\.so(\.[^/]*)*	--	system_u:object_r:lib_t:s0
/etc(/.*)?		system_u:object_r:etc_t:s0
/etc/shadow.*	--	system_u:object_r:shadow_t:s0
/home/[^/]+	-d	system_u:object_r:user_home_dir_t:s0
/root(/.*)?		system_u:object_r:admin_home_t:s0
/tmp/.*		<<none>>
/a\.b		system_u:object_r:escaped_t:s0
/x|/y		system_u:object_r:xy_t:s0
/colou?r		system_u:object_r:color_t:s0
`

func TestLookup(t *testing.T) {
	for _, etc := range []string{"etc", "usr/etc"} {
		p, err := Load(image(t, etc, map[string]string{
			"file_contexts":           contexts,
			"file_contexts.local":     "/etc/local	--	system_u:object_r:local_t:s0\n",
			"file_contexts.homedirs":  "/home/.*	system_u:object_r:user_home_t:s0\n",
			"file_contexts.subs":      "/var/site /srv/site\n",
			"file_contexts.subs_dist": "/var/home /home\n/var/roothome /root\n/sysroot/tree /\n/srv/site /usr\n",
			"file_contexts.bin":       "\x00\x01",
		}))
		if err != nil {
			t.Fatal(err)
		}
		if p.Type() != "targeted" {
			t.Errorf("type %q", p.Type())
		}
		for _, tc := range []struct {
			path string
			mode uint32
			want string
		}{
			{"/", tree.TypeDir, "root_t"},
			{"/", tree.TypeFile, "default_t"},
			{"/usr", tree.TypeDir, "usr_t"},
			{"/usr/", tree.TypeDir, "usr_t"},
			{"/usr//share", tree.TypeDir, "usr_t"},
			{"/usr/local/bin/x", tree.TypeFile, "bin_t"},
			{"/usr/bin/mount", tree.TypeFile, "mount_exec_t"},
			{"/usr/bin/mount", tree.TypeLink, "bin_t"},
			{"/usr/bin/mount", 0, "mount_exec_t"},
			{"/usr/bin/mounx", tree.TypeFile, "later_t"},
			{"/usr/lib/a.so.1", tree.TypeFile, "lib_t"},
			{"/usr/lib64/a.so", tree.TypeFile, "lib_t"},
			{"/usr/lib/a.so", tree.TypeLink, "usr_t"},
			{"/etc/shadow-", tree.TypeFile, "shadow_t"},
			{"/etc/local", tree.TypeFile, "local_t"},
			{"/var/home/u", tree.TypeDir, "user_home_t"},
			{"/var/homes", tree.TypeDir, "default_t"},
			{"/var/roothome", tree.TypeDir, "admin_home_t"},
			{"/sysroot/tree/usr", tree.TypeDir, "usr_t"},
			{"/var/site/x", tree.TypeFile, "usr_t"},
			{"/tmp/x", tree.TypeFile, ""},
			{"/a.b", tree.TypeFile, "escaped_t"},
			{"/axb", tree.TypeFile, "default_t"},
			{"/y", tree.TypeFile, "xy_t"},
			{"/color", tree.TypeFile, "color_t"},
			{"/usr/line\nbreak", tree.TypeFile, "usr_t"},
		} {
			label, ok := p.Lookup(tc.path, tc.mode)
			want := ""
			if tc.want != "" {
				want = "system_u:object_r:" + tc.want + ":s0"
			}
			if label != want || ok != (want != "") {
				t.Errorf("%s %o: %q, %v, want %q", tc.path, tc.mode, label, ok, want)
			}
		}
	}
}

func TestLoadNone(t *testing.T) {
	if p, err := Load(tree.NewDir(0o755)); p != nil || err != nil {
		t.Errorf("no config: %v, %v", p, err)
	}
	if p, err := Load(image(t, "etc", nil)); p != nil || err != nil {
		t.Errorf("no policy: %v, %v", p, err)
	}
	root := image(t, "etc", map[string]string{"file_contexts": contexts})
	_ = tree.Put(root, "etc/selinux/config", tree.NewFile(0o644, content.String("SELINUX=disabled\nSELINUXTYPE=targeted\n")))
	if p, err := Load(root); p != nil || err != nil {
		t.Errorf("disabled: %v, %v", p, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"/a":                                 "/etc/selinux/targeted/contexts/files/file_contexts line 1: 1 fields",
		"\n/a -x u:r:t:s0":                   "line 2: unknown file type",
		"/a nonsense":                        "not user:role:type",
		"/a(?!b).* u:r:t:s0":                 `pattern "/a(?!b).*"`,
		"/[ u:r:t:s0":                        `pattern "/["`,
		"/" + strings.Repeat("a", maxLine+1): "token too long",
	} {
		_, err := Load(image(t, "etc", map[string]string{"file_contexts": text}))
		if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%.40q: error %v, want %q", text, err, want)
		}
	}
}

// A real policy has some 6,000 lines. The index has to be far better than going
// through them, as 150,000 paths are looked up in a large image.
func TestLookupSpeed(t *testing.T) {
	var b strings.Builder
	b.WriteString(contexts)
	for i := range 6000 {
		fmt.Fprintf(&b, "/usr/share/pkg%d(/.*)?	system_u:object_r:pkg%d_t:s0\n", i, i%100)
		if i%20 == 0 {
			fmt.Fprintf(&b, "/usr/(s)?bin/tool%d	--	system_u:object_r:tool%d_exec_t:s0\n", i, i%100)
		}
	}
	specs, err := parseContexts("file_contexts", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	p := newPolicy(specs)
	const n = 300
	path := func(i int) string { return fmt.Sprintf("/usr/share/pkg%d/dir/file%d", i*19, i) }
	start := time.Now()
	for range 10 {
		for i := range n {
			if label, _ := p.Lookup(path(i), tree.TypeFile); label != fmt.Sprintf("system_u:object_r:pkg%d_t:s0", i*19%100) {
				t.Fatalf("%s: %s", path(i), label)
			}
		}
	}
	indexed := time.Since(start) / 10
	start = time.Now()
	for i := range n {
		for k := len(specs) - 1; k >= 0; k-- {
			if s := specs[k]; !s.literal && s.fits(tree.TypeFile) && s.re.MatchString(path(i)) {
				break
			}
		}
	}
	linear := time.Since(start)
	t.Logf("%v a look-up, %v without the index", indexed/n, linear/n)
	if linear < 20*indexed {
		t.Errorf("%d look-ups took %v, and %v without the index", n, indexed, linear)
	}
}

func FuzzParseContexts(f *testing.F) {
	f.Add(contexts, "/usr/bin/mount")
	f.Add("/a[b-c]* -- u:r:t:s0", "/ab")
	f.Fuzz(func(t *testing.T, text, path string) {
		specs, err := parseContexts("file_contexts", []byte(text))
		if err != nil {
			return
		}
		p := newPolicy(specs)
		label, ok := p.Lookup(path, tree.TypeFile)
		// The index must not lose a line: compare with going through all.
		want := ""
		for _, lit := range []bool{true, false} {
			for i := len(specs) - 1; i >= 0 && want == ""; i-- {
				s := specs[i]
				canonical := p.canonical(path)
				if s.literal == lit && s.fits(tree.TypeFile) && (lit && s.path == canonical || !lit && s.re.MatchString(canonical)) {
					want = s.label
					if want == noLabel {
						want = "<<none>>"
					}
				}
			}
		}
		if !ok {
			if want != "" && want != "<<none>>" {
				t.Fatalf("%q: no label, want %q", path, want)
			}
		} else if label != want {
			t.Fatalf("%q: %q, want %q", path, label, want)
		}
	})
}
