package grub

import (
	"slices"
	"strings"
	"testing"
)

func TestClosure(t *testing.T) {
	// The modules that the reference names, as GRUB 2.06 to 2.14 list them.
	deps, err := ParseModDep([]byte(`
ext2: fshelp
fshelp:
mdraid1x: diskfilter
diskfilter:
biosdisk:
part_gpt:
a: b c
b: d
c: d
d:
loop: pool
pool: loop
dangling: gone
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ wanted, order, err string }{
		{"biosdisk part_gpt ext2 mdraid1x", "biosdisk part_gpt fshelp ext2 diskfilter mdraid1x", ""},
		{"a", "d c b a", ""}, // dependencies from the last to the first
		{"d a d", "d c b a", ""},
		{"", "", ""},
		{"loop", "", "loop, pool, loop"},
		{"dangling", "", "gone, needed by dangling"},
		{"nosuch", "", "module nosuch is not"},
	} {
		got, err := deps.Closure(strings.Fields(c.wanted))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.wanted, err, c.err)
			}
			continue
		}
		if err != nil || strings.Join(got, " ") != c.order {
			t.Errorf("%s: %v, %v, want %s", c.wanted, got, err, c.order)
		}
	}
}

func TestParseModDepRefuses(t *testing.T) {
	for _, text := range []string{"", "\n\n", "a", "a b: c", ": c", "../a: b", "a: ../b", "a:\na:", "a: \x01", ".: b", "a: b/c"} {
		if deps, err := ParseModDep([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, deps)
		}
	}
}

func FuzzModDep(f *testing.F) {
	f.Add([]byte("ext2: fshelp\nfshelp:\n"))
	f.Add([]byte("a: b\nb: a\n"))
	f.Add([]byte("a: b c d\nb: c\nc: d\nd:"))
	f.Fuzz(func(t *testing.T, text []byte) {
		deps, err := ParseModDep(text)
		if err != nil {
			return
		}
		for name := range deps {
			order, err := deps.Closure([]string{name})
			if err != nil {
				continue
			}
			for k, m := range order {
				for _, need := range deps[m] {
					if !slices.Contains(order[:k], need) {
						t.Fatalf("%v: %s before %s", order, m, need)
					}
				}
			}
		}
	})
}
