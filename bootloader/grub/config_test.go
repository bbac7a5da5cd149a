package grub

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/bootloader/bls"
)

// GRUB's own parser takes what we write.
func TestConfig(t *testing.T) {
	check, err := exec.LookPath("grub-script-check")
	if err != nil {
		t.Fatal("no grub-script-check: install the package grub-common")
	}
	for _, c := range []struct {
		o     ConfigOptions
		has   []string
		hasNo string
	}{
		{ConfigOptions{BootUUID: "1-2"}, []string{"search.fs_uuid 1-2 root\n", "\nblscfg\n"}, "function options"},
		{ConfigOptions{BootUUID: "1-2", Upstream: true}, []string{"\nblscfg\n"}, "--path"},
		{ConfigOptions{BootUUID: "1-2", Upstream: true, Dir: "/boot"}, []string{"\nblscfg --path /boot/loader/entries --enable-fallback\n"}, "function options"},
		{ConfigOptions{BootUUID: "1-2", Dir: "/boot"}, []string{"\nblscfg\n"}, "--path"},
		{ConfigOptions{BootUUID: "1-2", Script: true}, []string{"set dir=($boot)/ostree/$name-$checksum\n", "in ($boot)/loader/entries/ostree-$number.conf "}, "blscfg"},
		{ConfigOptions{BootUUID: "1-2", Script: true, Dir: "/boot"}, []string{"set dir=($boot)/boot/ostree/$name-$checksum\n", " ($boot)/boot/loader/entries/ostree-$number-*.conf;"}, "blscfg"},
	} {
		text := Config(c.o)
		for _, want := range c.has {
			if !strings.Contains(string(text), want) {
				t.Errorf("%+v: no %q in\n%s", c.o, want, text)
			}
		}
		if strings.Contains(string(text), c.hasNo) || strings.Contains(string(text), "@") && !c.o.Script {
			t.Errorf("%+v: %q in\n%s", c.o, c.hasNo, text)
		}
		file := filepath.Join(t.TempDir(), "grub.cfg")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(check, file).CombinedOutput(); err != nil {
			t.Errorf("%+v: %v\n%s", c.o, err, out)
		}
	}
}

// CheckScript agrees with GRUB's parser about what is one command, and is
// stricter where a command would expand something.
func TestCheckScript(t *testing.T) {
	check, err := exec.LookPath("grub-script-check")
	if err != nil {
		t.Fatal("no grub-script-check: install the package grub-common")
	}
	const deployment = " ostree=/ostree/boot.0/default/0123/0"
	for options, want := range map[string]bool{
		"root=UUID=1 rw quiet":    true,
		`a="b c" d='e f' g=\"`:    true,
		`a='$x;{}|&<>' b`:         true,
		`a="b;{}|&<> c"`:          true,
		"a#b c=#":                 true,
		"a #b":                    false,
		"a;b":                     false,
		"a|b":                     false,
		"a&b":                     false,
		"a<b":                     false,
		"a>b":                     false,
		"a{b}":                    false,
		"a}":                      false,
		"a=$b":                    false,
		`a="$b"`:                  false,
		`a="b`:                    false,
		"a='b":                    false,
		`a=\`:                     true, // escapes the blank behind it
		"a=(b) [c] ! d=e:f@g%h,i": true,
	} {
		err := CheckScript(bls.Entry{Title: "x", Linux: "/x", Options: options + deployment})
		if (err == nil) != want {
			t.Errorf("%q: %v", options, err)
		}
		if !want {
			continue
		}
		file := filepath.Join(t.TempDir(), "entry")
		if err := os.WriteFile(file, []byte("options "+options+deployment+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(check, file).CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", options, err, out)
		}
	}
	if err := CheckScript(bls.Entry{Title: "x", Linux: "/x", Options: "root=UUID=1"}); err == nil {
		t.Error("no deployment is needed")
	}
	if err := CheckScript(bls.Entry{Title: `x\`, Linux: "/x", Options: deployment[1:]}); err == nil {
		t.Error("the title may continue on the next line")
	}
}

func FuzzCheckScript(f *testing.F) {
	f.Add("Debian GNU/Linux (ostree:0)", `a="b" ostree=/ostree/boot.0/default/0/0`)
	f.Add("", "\\")
	f.Fuzz(func(t *testing.T, title, options string) {
		if CheckScript(bls.Entry{Title: title, Options: options}) != nil {
			return
		}
		// What is fine is one command without a condition.
		if strings.ContainsAny(title+options, "\n\r\t") {
			return // an entry has no such values
		}
		if c := Commands([]byte("options " + options)); len(c) != 1 || c[0].Name != "options" {
			t.Errorf("%q: %+v", options, c)
		}
	})
}
