package bootc

import (
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// inspectWith inspects the minimal image with one more file. Whatever the file
// says, the error, if any, names it and is the image's fault.
func inspectWith(t *testing.T, p, text string) *Image {
	root := makeTree(t, minimal())
	if err := tree.Put(root, p, tree.NewFile(0o644, content.String(text))); err != nil {
		t.Fatal(err)
	}
	image, err := Inspect(root, "amd64")
	if err != nil {
		if c := fault.ClassOf(err); c != fault.BadImage || !strings.Contains(err.Error(), p) {
			t.Errorf("class %d: %v", c, err)
		}
		return nil
	}
	return image
}

func FuzzInstallConfig(f *testing.F) {
	f.Add("[install]\nroot-fs-type = \"xfs\"\nkargs = [\"a=1\"]\nmatch-architectures=[\"x86_64\"]\n")
	f.Add("[install.filesystem.root]\ntype='btrfs'\n[install.ostree]\nbls-append-except-default='x'\n[install.bootupd]\nskip-boot-uuid=false\n")
	f.Add("install = {block = [\"direct\"], stateroot = \"s\", root-mount-spec = \"\"}")
	f.Fuzz(func(t *testing.T, text string) {
		image := inspectWith(t, "usr/lib/bootc/install/fuzz.toml", text)
		if image == nil {
			return
		}
		c := image.Install
		if !validStateroot(c.Stateroot) {
			t.Errorf("stateroot %q", c.Stateroot)
		}
		for _, a := range append(c.Kargs, c.KargDeletes...) {
			if err := CheckKarg(a); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzKargsD(f *testing.F) {
	f.Add("kargs = [\"console=ttyS0\", 'a=\"b c\"']\nmatch-architectures = [\"x86_64\"]\n")
	f.Add("kargs=[]\n[x]\ny=1")
	f.Fuzz(func(t *testing.T, text string) {
		if image := inspectWith(t, "usr/lib/bootc/kargs.d/fuzz.toml", text); image != nil {
			for _, a := range image.Kargs {
				if err := CheckKarg(a); err != nil || len(SplitKargs(a)) != 1 {
					t.Errorf("%q: %v", a, err)
				}
			}
		}
	})
}

func FuzzOSRelease(f *testing.F) {
	f.Add("NAME=\"Fedora Linux\"\nID=fedora\nPRETTY_NAME='x \\'\n# c\n")
	f.Add("A=\"\\\"\\$\\`\\\\\"\nB=\\a'b'\"c\"")
	f.Fuzz(func(t *testing.T, text string) {
		for k, v := range parseOSRelease(text) {
			if strings.Contains(k, "=") || hasControl(v) {
				t.Errorf("%q=%q", k, v)
			}
		}
	})
}

func FuzzPrepareRoot(f *testing.F) {
	f.Add("[composefs]\nenabled = yes\n[root]\ntransient = false\n[sysroot]\nreadonly=true\n")
	f.Add("# c\n\n[etc]\ntransient=1\n=\n[]")
	f.Fuzz(func(t *testing.T, text string) {
		if image := inspectWith(t, "etc/ostree/prepare-root.conf", text); image != nil && image.Composefs == "" {
			t.Error("no composefs mode")
		}
	})
}

func FuzzBound(f *testing.F) {
	f.Add("[Image]\nImage=quay.io/a/b%%c:1\n")
	f.Add("[Image]\nImage=x\nAuthFile=y\n")
	f.Fuzz(func(t *testing.T, text string) {
		if ref, err := parseBound("image", text); err == nil && (ref == "" || hasControl(ref)) {
			t.Errorf("%q", ref)
		}
	})
}

// FuzzKargs checks what holds for every command line: no argument twice, all of
// the user's there, and the arguments stand when they are joined and split.
func FuzzKargs(f *testing.F) {
	f.Add("root=UUID=x rw", "a=1 console=x", "a", "b=\"c d\"")
	f.Add("a-b", "a_b", "a-b=", "\"a_b\"")
	f.Fuzz(func(t *testing.T, root, install, deletes, cli string) {
		for _, s := range []string{root, install, deletes, cli} {
			if CheckKarg(s) != nil {
				return
			}
		}
		got := Kargs(KargSpec{Root: []string{root}, Install: []string{install}, Deletes: []string{deletes}, CLI: []string{cli}})
		if again := SplitKargs(strings.Join(got, " ")); !slices.Equal(got, again) {
			t.Errorf("%q splits into %q", got, again)
		}
		for i, a := range got {
			if j := slices.IndexFunc(got, func(b string) bool { return parseKarg(a).equal(parseKarg(b)) }); j != i {
				t.Errorf("%q twice in %q", a, got)
			}
		}
		for _, a := range SplitKargs(cli) {
			if !slices.ContainsFunc(got, func(b string) bool { return parseKarg(a).equal(parseKarg(b)) }) {
				t.Errorf("%q is not in %q", a, got)
			}
		}
	})
}
