package main

import (
	"encoding/binary"
	"strings"
	"testing"
)

// policyModule returns a module package with the sections.
func policyModule(sections ...string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, packageMagic)
	b = binary.LittleEndian.AppendUint32(b, 1)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sections)))
	at := len(b) + 4*len(sections)
	for _, s := range sections {
		b = binary.LittleEndian.AppendUint32(b, uint32(at))
		at += len(s)
	}
	return append(b, strings.Join(sections, "")...)
}

func TestModuleContexts(t *testing.T) {
	contexts := "\x90\xff\x7c\xf9/a\tx\n"
	for _, c := range []struct {
		module []byte
		want   string
		bad    bool
	}{
		{policyModule("\x8d\xff\x7c\xf9policy", contexts), "/a\tx\n", false},
		{policyModule("\x8d\xff\x7c\xf9policy", contexts, "\x91\xff\x7c\xf9more"), "/a\tx\n", false},
		{policyModule("\x8d\xff\x7c\xf9policy"), "", false},
		{policyModule(), "", false},
		{policyModule("ab", contexts), "", true},
		{policyModule(contexts)[:12], "", true},
		{nil, "", true},
		{[]byte("\x8d\xff\x7c\xf9"), "", true},
	} {
		got, err := moduleContexts(c.module)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%q: %q, %v, want %q", c.module, got, err, c.want)
		}
	}
}

func TestSplitContexts(t *testing.T) {
	contexts, homedirs := splitContexts(strings.Split(`
/etc/passwd	--	p
/usr/(x)?y	1
/usr/.*		2
/.*		3
# comment
/usr/\.z.*	4
/usr/.*	-d	5
/etc/.*\.d	6
HOME_DIR/.*	system_u:object_r:home:s0
HOME_ROOT	-d	system_u:object_r:root:s0
/tmp/USER/x	system_u:object_r:tmp:s0
`, "\n"))
	want := "/.*\t3\n/usr/.*\t2\n/usr/.*\t-d\t5\n/etc/.*\\.d\t6\n/usr/(x)?y\t1\n/usr/\\.z.*\t4\n/etc/passwd\t--\tp\n"
	if contexts != want {
		t.Errorf("contexts\n%swant\n%s", contexts, want)
	}
	want = "/home/[^/]+/.*\tuser_u:object_r:home:s0\n/home\t-d\tuser_u:object_r:root:s0\n/tmp/[^/]+/x\tuser_u:object_r:tmp:s0\n/root/.*\troot:object_r:home:s0\n"
	if homedirs != want {
		t.Errorf("home directories\n%swant\n%s", homedirs, want)
	}
}
