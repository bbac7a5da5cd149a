package qemu

import (
	"regexp"
	"testing"
)

// What the kernel says within a line does not hide it.
func TestSpoken(t *testing.T) {
	const log = "[    0.000000] Linux version 7.2\nSAMPLE-[   12.345678] EXT4-fs (vda2): mounted\n[   12.400000][  T123] x\nBOOT-OK\n[  OK  ] Mounted \x1b[0;1;39mva[   13.000001] y\nr.mount\n[   14.0000"
	s := spoken([]byte(log))
	if want := "SAMPLE-BOOT-OK\n[  OK  ] Mounted \x1b[0;1;39mvar.mount\n[   14.0000"; string(s.text) != want {
		t.Errorf("%q, want %q", s.text, want)
	}
	for text, rest := range map[string]string{"": "[    0.0", "SAMPLE-": "[   12.3", "SAMPLE-B": "OOT-OK\n", "BOOT-OK": "\n[  OK", "39mvar.": "mount\n[ "} {
		at := regexp.MustCompile(regexp.QuoteMeta(text)).FindIndex(s.text)
		if got := log[s.logged(at[1]):]; len(got) < len(rest) || got[:len(rest)] != rest {
			t.Errorf("after %q comes %.20q, want %q", text, got, rest)
		}
	}
	if got := lines([]byte("a\r\nb[    1.000000] c\r\n")); string(got) != "a\n" {
		t.Errorf("%q", got)
	}
}
