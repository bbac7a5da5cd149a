package bootc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKargs(t *testing.T) {
	root := []string{"root=UUID=r", "rw"}
	defaults := []string{"rw", "console=tty0", "console=ttyS0"}
	tests := []struct {
		name string
		spec KargSpec
		want string
	}{
		{"nothing", KargSpec{}, ""},
		{"order", KargSpec{
			Root: []string{"root=UUID=r", "rootflags=subvol=x", "rw"}, Boot: []string{"boot=UUID=b"}, CLI: []string{"cli"},
			SELinuxOff: true, Install: []string{"install1 install2"}, KargsD: []string{"d"},
		}, "root=UUID=r rootflags=subvol=x rw boot=UUID=b cli selinux=0 install1 install2 d"},
		{"to-filesystem", KargSpec{
			Root: root, CLI: []string{"cli"}, SELinuxOff: true, Install: []string{"install"}, KargsD: []string{"d"}, CLILast: true,
		}, "root=UUID=r rw selinux=0 install d cli"},
		{"duplicates", KargSpec{Root: root, CLI: []string{"rw", "a=1", "a=2"}, Install: []string{"a=1", "a"}, KargsD: []string{"a=", "A=1"}},
			"root=UUID=r rw a=1 a=2 a a= A=1"},
		{"dash and underscore", KargSpec{Install: []string{"foo-bar=a-b"}, KargsD: []string{"foo_bar=a-b", "foo_bar=a_b"}}, "foo-bar=a-b foo_bar=a_b"},
		{"quotes", KargSpec{Install: []string{`a="x y" b`}, KargsD: []string{`"a=x y"`, `c="1"`, "c=1"}}, `a="x y" b c="1"`},
		{"white space", KargSpec{Install: []string{"  a\t b\n\r c ", ""}}, "a b c"},
		{"delete by key", KargSpec{Root: root, Install: []string{"a=1", "a=2", "a", "ab=1"}, Deletes: []string{"a"}}, "root=UUID=r rw ab=1"},
		{"delete by value", KargSpec{Install: []string{"a-x=1", "a-x=2", "a-x"}, CLIDeletes: []string{"a_x=1"}}, "a-x=2 a-x"},
		{"delete the root", KargSpec{Root: root, Deletes: []string{"rw"}, CLIDeletes: []string{"root"}}, ""},
		{"only the first of a deletion", KargSpec{Install: []string{"a b"}, Deletes: []string{"a b"}}, "b"},
		{"empty deletion", KargSpec{Install: []string{"a"}, Deletes: []string{"", " "}}, "a"},
		{"CLI survives", KargSpec{CLI: []string{"a=1"}, Install: []string{"a=1", "a=2", "b"}, Deletes: []string{"a"}, CLIDeletes: []string{"a"}}, "b a=1"},
		{"defaults", KargSpec{Root: root, Boot: []string{"boot=UUID=b"}, CLI: []string{"cli"}, Install: []string{"i"}, Defaults: defaults},
			"root=UUID=r rw boot=UUID=b console=tty0 console=ttyS0 cli i"},
		{"defaults to-filesystem", KargSpec{Root: root, CLI: []string{"cli"}, Install: []string{"i"}, Defaults: defaults, CLILast: true},
			"root=UUID=r rw i console=tty0 console=ttyS0 cli"},
		{"console of the image", KargSpec{Root: root, KargsD: []string{"console=ttyAMA0"}, Defaults: defaults}, "root=UUID=r rw console=ttyAMA0"},
		{"console of the user", KargSpec{CLI: []string{"quiet console=hvc0"}, Defaults: defaults}, "rw quiet console=hvc0"},
		{"console deleted", KargSpec{CLIDeletes: []string{"console=ttyS0"}, Defaults: defaults}, "rw"},
		{"default deleted", KargSpec{Deletes: []string{"rw"}, Root: root, Defaults: defaults}, "root=UUID=r console=tty0 console=ttyS0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, strings.Join(Kargs(tt.spec), " ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCheckKarg(t *testing.T) {
	for _, s := range []string{"a", "a=b c", `a="b c"`, "é=1"} {
		if err := CheckKarg(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", " ", "a\nb", "a\tb", `a="b`, "a\x7f", "a\xff"} {
		if err := CheckKarg(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}
