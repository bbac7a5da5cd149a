package selinux

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/oci"
	"imgbuild/tree"
)

// toolsDir returns the directory that make tools makes: the one in PATH or that
// of the checkout.
func toolsDir(t testing.TB) string {
	t.Helper()
	dirs := []string{"../.cache/tools"}
	if p, err := exec.LookPath("matchpathcon"); err == nil {
		dirs = append([]string{filepath.Join(filepath.Dir(p), "..")}, dirs...)
	}
	for _, dir := range dirs {
		if exists(filepath.Join(dir, ".imgbuild-tools")) {
			return dir
		}
	}
	t.Fatal("no tools: make tools makes them")
	return ""
}

// policyTypes are the policies among the tools.
func policyTypes() []string { return []string{"default", "mls"} }

// policyFile returns the path of the file_contexts of a policy.
func policyFile(t testing.TB, typ string) string {
	t.Helper()
	file := filepath.Join(toolsDir(t), "root/etc/selinux", typ, "contexts/files/file_contexts")
	if !exists(file) {
		t.Fatalf("no %s: make tools makes it, but not if .cache/tools is from before; delete that first", file)
	}
	return file
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// fileKinds are the types of files by the argument that matchpathcon has for
// them. Without one it looks at the file.
func fileKinds() []fileKind {
	return []fileKind{{"f", tree.TypeFile}, {"d", tree.TypeDir}, {"l", tree.TypeLink}, {"c", tree.TypeChar},
		{"b", tree.TypeBlock}, {"p", tree.TypeFIFO}, {"s", tree.TypeSock}, {"", 0}}
}

type fileKind struct {
	flag string
	mode uint32
}

// ask returns what matchpathcon says of the paths, which are not empty.
func ask(t *testing.T, file, flag string, paths []string) []string {
	t.Helper()
	tool := filepath.Join(toolsDir(t), "bin/matchpathcon")
	var labels []string
	for len(paths) > 0 {
		args := []string{"-n", "-N", "-f", file}
		if flag != "" {
			args = append(args, "-m", flag)
		}
		n, size := 0, 0
		for n < len(paths) && size < 500_000 {
			size += len(paths[n]) + 10
			n++
		}
		cmd := exec.Command(tool, append(args, paths[:n]...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if err != nil || len(lines) != n {
			t.Fatalf("matchpathcon: %v, %d answers to %d paths\n%.2000s", err, len(lines), n, &stderr)
		}
		labels = append(labels, lines...)
		paths = paths[n:]
	}
	return labels
}

// compare compares look-ups of all paths with matchpathcon's.
func compare(t *testing.T, p *Policy, file string, k fileKind, paths []string) (labelled int) {
	t.Helper()
	if k.flag == "" {
		// matchpathcon takes the type of the file if there is one.
		var absent []string
		for _, path := range paths {
			if _, err := os.Lstat(strings.TrimRight(path, "/")); err != nil {
				absent = append(absent, path)
			}
		}
		paths = absent
	}
	bad := 0
	for i, want := range ask(t, file, k.flag, paths) {
		got := "<<none>>"
		if s := p.find(paths[i], k.mode); s != nil && s.label != noLabel {
			got = s.label
			labelled++
		}
		if got != want {
			if bad++; bad <= 20 {
				t.Errorf("%q -m %q: %s, matchpathcon says %s", paths[i], k.flag, got, want)
			}
		}
	}
	if bad > 20 {
		t.Errorf("%d of %d paths differ", bad, len(paths))
	}
	return labelled
}

// policyTree returns an OS tree with the policy of file and those beside it.
func policyTree(t testing.TB, file, typ string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	put := func(path, text string) {
		if err := tree.Put(root, path, tree.NewFile(0o644, content.String(text))); err != nil {
			t.Fatal(err)
		}
	}
	put("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE="+typ+"\n")
	for _, suffix := range []string{"", ".homedirs", ".local", ".subs", ".subs_dist"} {
		if text, err := os.ReadFile(file + suffix); err == nil {
			put("etc/selinux/"+typ+"/contexts/files/file_contexts"+suffix, string(text))
		}
	}
	return root
}

func loadFile(t testing.TB, file, typ string) *Policy {
	t.Helper()
	p, err := Load(policyTree(t, file, typ))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// policyTexts returns the files of a policy that have contexts.
func policyTexts(t testing.TB, file string) (texts [][]byte) {
	t.Helper()
	for _, suffix := range []string{"", ".homedirs"} {
		text, err := os.ReadFile(file + suffix)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

// generate returns n paths made of the patterns of a policy: such that match, and
// such with a change.
func generate(t testing.TB, file string, n int, seed uint64) []string {
	t.Helper()
	var patterns []*node
	for _, text := range policyTexts(t, file) {
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 1 {
				parsed, err := parsePattern(fields[0])
				if err != nil {
					t.Fatal(err)
				}
				patterns = append(patterns, parsed)
			}
		}
	}
	r := rand.New(rand.NewPCG(seed, 1))
	var paths []string
	for len(paths) < n {
		path := strings.TrimRight(mutated(sample(patterns[r.IntN(len(patterns))], r), r), "\n")
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		paths = append(paths, path)
	}
	return paths
}

// For every path and every type of file, look-ups in real policies are what
// libselinux says.
func TestGeneratedPaths(t *testing.T) {
	const n = 10_000
	for i, typ := range policyTypes() {
		t.Run(typ, func(t *testing.T) {
			file := policyFile(t, typ)
			p := loadFile(t, file, typ)
			paths := generate(t, file, n, uint64(i))
			for _, k := range fileKinds() {
				labelled := compare(t, p, file, k, paths)
				t.Logf("%d paths of type %q, %d with a label", n, k.flag, labelled)
				if labelled < n/2 {
					t.Errorf("only %d of %d paths have a label", labelled, n)
				}
			}
		})
	}
}

// The same for every path of a real image, with the type it has there.
func TestImagePaths(t *testing.T) {
	layout := os.Getenv("IMGBUILD_SAMPLE")
	if layout == "" {
		layout = "../.cache/sample"
	}
	if !exists(layout) {
		t.Fatalf("no image %s: make sample makes one", layout)
	}
	ref, err := oci.ParseReference("oci:" + layout)
	if err != nil {
		t.Fatal(err)
	}
	image, err := oci.Open(t.Context(), ref, oci.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	layers, err := image.Unpack(t.Context(), oci.UnpackOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	paths := map[uint32][]string{}
	total := 0
	for _, l := range layers {
		err := tree.Walk(l.Tree, func(path string, i *tree.Inode) error {
			paths[i.Type()] = append(paths[i.Type()], path)
			if rest, ok := strings.CutPrefix(path, "/etc/"); ok {
				paths[i.Type()] = append(paths[i.Type()], "/usr/etc/"+rest)
			}
			total++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, typ := range policyTypes() {
		file := policyFile(t, typ)
		p := loadFile(t, file, typ)
		labelled := 0
		for _, k := range fileKinds() {
			if len(paths[k.mode]) > 0 {
				labelled += compare(t, p, file, k, paths[k.mode])
			}
		}
		t.Logf("%s: %d paths in %d layers, %d with a label", typ, total, len(layers), labelled)
		if total < 1000 || labelled < total/2 {
			t.Errorf("%s: %d paths, %d with a label", typ, total, labelled)
		}
	}
}

// askEach makes a policy of the patterns, each below a directory of its number,
// and compares look-ups of its paths there with matchpathcon's.
func askEach(t *testing.T, patterns []string, paths [][]string) (matches int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file_contexts")
	var b strings.Builder
	b.WriteString("/\tu:r:root:s0\n")
	var all []string
	for i, pattern := range patterns {
		fmt.Fprintf(&b, "/%d/%s\tu:r:p%d:s0\n", i, pattern, i)
		for _, path := range paths[i] {
			all = append(all, fmt.Sprintf("/%d/%s", i, path))
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return compare(t, loadFile(t, file, "test"), file, fileKinds()[0], all)
}

// PCRE2 agrees with what the patterns of TestPatterns match, and refuses those
// that it does not take.
func TestPatternsLikePCRE2(t *testing.T) {
	var patterns []string
	var paths [][]string
	for _, c := range patternCases() {
		if !c.invalid && !c.unsupported {
			patterns = append(patterns, c.pattern)
			paths = append(paths, append(c.yes, c.no...))
		}
		if c.invalid {
			file := filepath.Join(t.TempDir(), "file_contexts")
			if err := os.WriteFile(file, []byte(c.pattern+" u:r:t:s0\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(filepath.Join(toolsDir(t), "bin/matchpathcon"), "-n", "-f", file, "/a")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "Failed to compile") {
				t.Errorf("%.40q: %v %s", c.pattern, err, out)
			}
		}
	}
	askEach(t, patterns, paths)
}

// The same for random patterns. They are without what PCRE2 gets wrong by its
// auto-possessification: \S before \h, and optional possessive groups.
func TestRandomPatternsLikePCRE2(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var patterns []string
	var paths [][]string
	total := 0
	for len(patterns) < 4000 {
		pattern := randomPattern(r, 3, false)
		n, err := parsePattern("/0/" + pattern)
		if err != nil {
			continue
		}
		var list []string
		for range 8 {
			path := strings.TrimPrefix(randomPath(n, r), "/0/")
			list = append(list, strings.ReplaceAll(path, "\x00", "x"))
		}
		total += len(list)
		patterns, paths = append(patterns, pattern), append(paths, list)
	}
	matches := askEach(t, patterns, paths)
	t.Logf("%d of %d paths match", matches, total)
	if matches < total/10 {
		t.Errorf("only %d of %d paths match", matches, total)
	}
}

// opens tells whether libselinux takes the file.
func opens(t *testing.T, file string) bool {
	t.Helper()
	cmd := exec.Command(filepath.Join(toolsDir(t), "bin/matchpathcon"), "-n", "-N", "-f", file, "/")
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Error while opening") {
		t.Fatalf("matchpathcon: %v\n%s", err, out)
	}
	return err == nil
}

// PCRE2 takes and refuses what this package does, but for what is not supported,
// of patterns that are put together without a thought.
func TestRandomSyntaxLikePCRE2(t *testing.T) {
	parts := strings.Fields(`a b . [ ] ^ - ( ) | * + ? { } , 1 2 \ d Q E : alpha [: :] x = ! < > i s # 0 7 9 n \Q \E (? w b o z Z c ' $ [^ (?: (?# {2 ,} \x \d`)
	r := rand.New(rand.NewPCG(5, 6))
	file := filepath.Join(t.TempDir(), "file_contexts")
	var text strings.Builder
	var patterns, paths []string
	refused := map[string]error{}
	for len(patterns) < 5000 {
		var pattern string
		for range 1 + r.IntN(9) {
			pattern += parts[r.IntN(len(parts))]
		}
		path := fmt.Sprintf("/%d/x", len(patterns))
		_, err := compile(path[:len(path)-1]+pattern, map[charset]*charset{})
		if errors.Is(err, errUnsupported) {
			continue
		}
		if err != nil {
			refused[path] = err
		}
		fmt.Fprintf(&text, "/%d/%s\tu:r:t:s0\n", len(patterns), pattern)
		patterns, paths = append(patterns, pattern), append(paths, path)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(toolsDir(t), "bin/matchpathcon"), append([]string{"-N", "-f", file}, paths...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err == nil {
		t.Error("matchpathcon takes everything")
	}
	for i, path := range paths {
		if fails := strings.Contains(stderr.String(), "selabel_lookup("+path+") failed"); fails != (refused[path] != nil) {
			t.Errorf("%q: error %v, PCRE2 refuses it: %v", patterns[i], refused[path], fails)
		}
	}
	t.Logf("%d of %d patterns refused", len(refused), len(patterns))
}
