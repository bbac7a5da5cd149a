package grub

import (
	"fmt"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	for script, want := range map[string]string{
		"blscfg":                                             "blscfg/0",
		"  set a=b c  # blscfg\nblscfg\n":                    "set/2 blscfg/0",
		"blscfg -p '(hd0) /x'; echo \"a ; b\"":               "blscfg/2 echo/1",
		"if [ x = y ]; then\n blscfg\nfi\necho":              "[/4 blscfg/0? echo/0",
		"if a; then b; elif c; then d; else e; fi; f":        "a/0 b/0? c/0 d/0? e/0? f/0",
		"for x in 1 2; do a; done; b":                        "a/0? b/0",
		"while a; do b; done":                                "a/0 b/0?",
		"function f {\n blscfg\n}\nf":                        "blscfg/0? f/0",
		"menuentry 'a b' --id \"c\" {\n linux $1 ${x}\n}\nb": "menuentry/3 linux/2? b/0",
		"set x=${a}; echo ${b} }":                            "set/1 echo/1",
		"'blscfg' a\\ b":                                     "blscfg/1",
		"echo blscfg":                                        "echo/1",
		"\\":                                                 "",
		"} } fi done blscfg":                                 "blscfg/0",
		"echo 'unclosed blscfg":                              "echo/1",
		"a && b || c":                                        "a/0 b/0 c/0",
		"a#b":                                                "a#b/0",
		"bls\\\ncfg":                                         "blscfg/0",
	} {
		var got []string
		for _, c := range Commands([]byte(script)) {
			s := fmt.Sprintf("%s/%d", c.Name, c.Args)
			if c.Conditional {
				s += "?"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %s, want %s", script, s, want)
		}
	}
}

func TestUseOfBLS(t *testing.T) {
	for script, want := range map[string]BLSUse{
		"blscfg\n":   BLSRequired,
		"# blscfg\n": BLSUnused,
		"set timeout=1\nif [ -f $prefix/user.cfg ]; then\n  source $prefix/user.cfg\nfi\nblscfg\n":                                      BLSRequired,
		"if [ \"$lockdown\" != y -a -f $prefix/$grub_cpu-$grub_platform/blsuki.mod ]; then\n  insmod blsuki\n  blscfg\nelse\n  a\nfi\n": BLSConditional,
		"menuentry x {\n linux /x\n}\n": BLSUnused,
	} {
		if got := UseOfBLS([]byte(script)); got != want {
			t.Errorf("%q: %d, want %d", script, got, want)
		}
	}
}

func TestWithBLSPath(t *testing.T) {
	const args = " --path /boot/loader/entries --enable-fallback"
	for script, want := range map[string]string{
		"blscfg\n":                  "blscfg" + args + "\n",
		"blscfg":                    "blscfg" + args,
		"if a; then blscfg; fi":     "if a; then blscfg" + args + "; fi",
		"blscfg -n\nblscfg # x\n":   "blscfg -n\nblscfg" + args + " # x\n",
		"echo blscfg # blscfg\na\n": "echo blscfg # blscfg\na\n",
	} {
		if got := string(WithBLSPath([]byte(script))); got != want {
			t.Errorf("%q: %q, want %q", script, got, want)
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add([]byte("if [ -f a ]; then\n  blscfg\nfi\n"))
	f.Add([]byte("menuentry \"x\" {\n linux ${a} $2 'b'\n}\n"))
	f.Add([]byte("\\\n{}#'\"${"))
	f.Fuzz(func(t *testing.T, script []byte) {
		end := 0
		for _, c := range Commands(script) {
			if c.End <= end || c.End > len(script) {
				t.Fatalf("%+v behind %d of %d", c, end, len(script))
			}
			end = c.End
		}
		if len(WithBLSPath(script)) < len(script) {
			t.Fatal("text was lost")
		}
	})
}
