package composefs

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"imgbuild/tree"
)

// run runs one of the tools that the tests need and returns its output.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// need fails a test at its start where a tool is missing.
func need(t testing.TB, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Fatalf("%v (of the packages composefs and erofs-utils)", err)
	}
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// mkcomposefs returns the image that libcomposefs makes of a dump.
func mkcomposefs(t testing.TB, dump string) []byte {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	run(t, "mkcomposefs", "--from-file", writeFile(t, []byte(dump)), image)
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sameImage compares images and reports where they begin to differ.
func sameImage(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from, to := at&^15, at&^15+64
	t.Errorf("%d bytes, want %d; first difference at %#x\n got %s\nwant %s", len(got), len(want), at,
		hex.Dump(got[min(from, len(got)):min(to, len(got))]), hex.Dump(want[min(from, len(want)):min(to, len(want))]))
}

// someDigests gives a digest to two files of three.
func someDigests(i *tree.Inode) (sum [32]byte, ok bool) {
	return [32]byte(i.Object), i.Object[0]%3 != 0
}

// onlyOstree tells whether an ostree commit can hold the tree.
func onlyOstree(root *tree.Inode) bool {
	return tree.Walk(root, func(_ string, i *tree.Inode) error {
		if !i.IsDir() && !i.IsFile() && !i.IsLink() {
			return os.ErrInvalid
		}
		return nil
	}) == nil
}

func TestSameAsMkcomposefs(t *testing.T) {
	need(t, "mkcomposefs")
	for _, tt := range trees() {
		t.Run(tt.name, func(t *testing.T) {
			root := tt.make()
			got, err := Write(root, Options{Digest: someDigests})
			if err != nil {
				t.Fatal(err)
			}
			sameImage(t, got, mkcomposefs(t, dump(t, root, false, someDigests)))
			if !onlyOstree(root) {
				return
			}
			if got, err = Ostree(root, Options{}); err != nil {
				t.Fatal(err)
			}
			sameImage(t, got, mkcomposefs(t, dump(t, root, true, nil)))
		})
	}
}

// TestRoundTrip reads images back with composefs' own reader.
func TestRoundTrip(t *testing.T) {
	need(t, "composefs-info")
	for _, tt := range trees() {
		if tt.name == "xattr without suffix" || tt.name == "whiteouts" {
			continue // composefs-info leaves out the former, and shows the opaque=x of the latter
		}
		t.Run(tt.name, func(t *testing.T) {
			root := tt.make()
			image, err := Write(root, Options{Digest: someDigests})
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, "composefs-info", "dump", writeFile(t, image))
			if got, want := canonical(t, got), canonical(t, dump(t, root, false, someDigests)); got != want {
				g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
				for k := range min(len(g), len(w)) {
					if g[k] != w[k] {
						t.Fatalf("line %d:\n got %s\nwant %s", k, g[k], w[k])
					}
				}
				t.Fatalf("%d lines, want %d", len(g), len(w))
			}
		})
	}
}

// canonical returns a dump in a form that two dumps of one tree have in common:
// sorted, with full escapes, without what a directory does not have.
func canonical(t *testing.T, dump string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(dump, "\n"), "\n")
	for k, line := range lines {
		f := strings.Split(line, " ")
		if len(f) < 11 {
			t.Fatalf("dump line %q", line)
		}
		if strings.HasPrefix(f[2], "4") {
			f[1], f[3] = "0", "1"
		}
		for j := range f {
			if j == 0 || j == 8 || j > 10 {
				name, value, ok := strings.Cut(f[j], "=")
				f[j] = reescape(name)
				if ok && j > 10 {
					f[j] += "=" + reescape(value)
				} else if ok {
					f[j] += `\x3d` + reescape(value)
				}
			}
		}
		sort.Strings(f[11:])
		lines[k] = strings.Join(f, " ")
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// reescape replaces the short escapes by the long ones.
func reescape(s string) string {
	return strings.NewReplacer(`\\`, `\x5c`, `\n`, `\x0a`, `\r`, `\x0d`, `\t`, `\x09`).Replace(s)
}

func TestFsck(t *testing.T) {
	need(t, "fsck.erofs")
	for _, tt := range trees() {
		t.Run(tt.name, func(t *testing.T) {
			image, err := Write(tt.make(), Options{Digest: someDigests})
			if err != nil {
				t.Fatal(err)
			}
			if out := run(t, "fsck.erofs", writeFile(t, image)); strings.Contains(out, "<E>") || strings.Contains(out, "<W>") {
				t.Error(out)
			}
		})
	}
}
