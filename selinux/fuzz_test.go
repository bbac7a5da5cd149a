package selinux

import (
	"math/rand/v2"
	"strings"
	"testing"

	"imgbuild/tree"
)

// linear is find without the index, the sharing of literals by path and what
// sorts patterns out before they are run.
func linear(specs []*spec, path string, typ uint32) *spec {
	for file := 2; file >= 0; file-- {
		for _, s := range specs {
			if s.program == nil && s.file == file && s.path == path && s.fits(typ) {
				return s
			}
		}
	}
	var best *spec
	for stems := maxStems; stems >= 0; stems-- {
		for _, s := range specs {
			if s.program == nil || s.stems != stems || !s.fits(typ) || best != nil && s.order < best.order ||
				!strings.HasPrefix(path, s.stem) || !strings.HasPrefix(path, s.program.prefix) {
				continue
			}
			if s.program.match(path) {
				best = s
			}
		}
		if best != nil && best.label == noLabel {
			return best
		}
	}
	return best
}

func checkLinear(t *testing.T, p *Policy, specs []*spec, path string) {
	t.Helper()
	for _, k := range fileKinds() {
		if got, want := p.find(path, k.mode), linear(specs, p.canonical(path), k.mode); got != want {
			t.Fatalf("%q of type %q: %+v, without the index %+v", path, k.flag, got, want)
		}
	}
}

func TestIndex(t *testing.T) {
	file := policyFile(t, "default")
	r := newReader()
	for _, text := range policyTexts(t, file) {
		if err := r.read("file_contexts", text); err != nil {
			t.Fatal(err)
		}
	}
	p := newPolicy(r.specs)
	for _, path := range generate(t, file, 200, 9) {
		checkLinear(t, p, r.specs, path)
	}
}

// Whatever the policy, reading it ends without a panic, the index finds what
// going through all of it does, and so does an answer to a path made of it.
func FuzzContexts(f *testing.F) {
	for _, text := range rules() {
		f.Add(text, "/usr/bin/mount", uint64(1))
	}
	f.Add("/a[b-c]* -- u:r:t:s0\n/a/b/.*/c <<none>>\n/a/.* x", "/a/b/c/c", uint64(2))
	f.Fuzz(func(t *testing.T, text, path string, seed uint64) {
		r := newReader()
		for range 3 {
			if r.read("file_contexts", []byte(text)) != nil {
				return
			}
			_, text, _ = strings.Cut(text, "\n")
		}
		if len(r.specs) > 1000 {
			return
		}
		p := newPolicy(r.specs)
		checkLinear(t, p, r.specs, path)
		rnd := rand.New(rand.NewPCG(seed, 1))
		for line := range strings.Lines(text) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			if n, err := parsePattern(fields[0]); err == nil {
				made := sample(n, rnd)
				if len(made) < 1000 {
					checkLinear(t, p, r.specs, mutated(made, rnd))
				}
			}
		}
	})
}

// A pattern is refused or understood, and then Go's regexp agrees if it is one of
// its language, too.
func FuzzPattern(f *testing.F) {
	for _, c := range patternCases() {
		f.Add(c.pattern, uint64(1))
	}
	f.Fuzz(func(t *testing.T, pattern string, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		p, err := compile(pattern, map[charset]*charset{})
		if err != nil || len(p.code) > 5000 {
			return
		}
		n, err := parsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if path := sample(n, r); len(path) < 1000 {
			p.matchesPath(path)
			p.matchesPath(mutated(path, r))
		}
		likeGo(t, randomPattern(r, 3, true), r)
	})
}

func FuzzSubstitutions(f *testing.F) {
	for name, text := range rules() {
		if strings.Contains(name, "subs") {
			f.Add(text, "/srv/site/x")
		}
	}
	f.Fuzz(func(t *testing.T, text, path string) {
		subs := parseSubstitutions([]byte(text))
		got := substitute(path, subs)
		for _, s := range subs {
			if s.from == "" || s.to == "" || strings.ContainsAny(s.from+s.to, " \t\n\v\f\r\x00") || s.from[0] == '#' {
				t.Fatalf("%+v", s)
			}
			if path == s.from || strings.HasPrefix(path, s.from+"/") {
				if want := s.to + path[len(s.from):]; got != want && "/"+got != want {
					t.Fatalf("%q becomes %q by %+v", path, got, s)
				}
				return
			}
		}
		if got != path {
			t.Fatalf("%q becomes %q by nothing", path, got)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("SELINUX=enforcing\nSELINUXTYPE=targeted\n")
	f.Fuzz(func(t *testing.T, text string) {
		root := image(t, "etc", map[string]string{"file_contexts": "/.* u:r:t:s0\n"})
		put(t, root, "etc/selinux/config", text)
		if p, err := Load(root); err == nil && p != nil && (p.Type() == "" || !tree.ValidName(p.Type())) {
			t.Fatalf("type %q", p.Type())
		}
	})
}
