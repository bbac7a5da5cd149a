//go:build linux

package installed

import (
	"archive/tar"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/test/image"
)

// encapsulated are images based on an encapsulated commit: one of Debian in the
// shape of Fedora where the fixtures are, and small ones of every form.
func encapsulated(t *testing.T) map[string]string {
	dir := workDir(t)
	list := map[string]string{}
	for name, make := range map[string]func() (*image.Spec, error){
		"base only":       func() (*image.Spec, error) { return labelledBase(image.Encapsulation{Chunks: 2, Version: 1}, false) },
		"layers":          func() (*image.Spec, error) { return labelledBase(image.Encapsulation{Chunks: 2, Version: 1}, true) },
		"version 0":       func() (*image.Spec, error) { return labelledBase(image.Encapsulation{Chunks: 1}, true) },
		"shared xattrs":   func() (*image.Spec, error) { return labelledBase(image.Encapsulation{Version: 1, Shared: true}, true) },
		"without overlay": plainBase,
	} {
		spec, err := make()
		if err != nil {
			t.Fatal(err)
		}
		list[name] = filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := spec.Write(list[name]); err != nil {
			t.Fatal(err)
		}
	}
	if dir := os.Getenv("IMGBUILD_FIXTURES"); dir != "" {
		list["fedoralike"] = filepath.Join(dir, "fedoralike")
	}
	return list
}

// The policy of the small images, which is none that a kernel could load.
const smallContexts = `/.*	system_u:object_r:default_t:s0
/	-d	system_u:object_r:root_t:s0
/proc	-d	<<none>>
/mnt(/[^/]*)?	-d	system_u:object_r:mnt_t:s0
/boot(/.*)?	system_u:object_r:boot_t:s0
/usr(/.*)?	system_u:object_r:usr_t:s0
/usr/lib/.*	--	system_u:object_r:lib_t:s0
/usr/share/none(/.*)?	<<none>>
/usr/share/.*	-l	system_u:object_r:link_t:s0
/etc(/.*)?	system_u:object_r:etc_t:s0
/var(/.*)?	system_u:object_r:var_t:s0
`

// labelledBase has a base whose labels are those of paths below /etc, as image
// builders make them, and, if asked for, layers on it that change the policy.
func labelledBase(e image.Encapsulation, layers bool) (*image.Spec, error) {
	s := image.New()
	s.File(0, "etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=small\n")
	s.File(0, "etc/selinux/small/contexts/files/file_contexts", smallContexts)
	s.File(0, "etc/selinux/small/policy/policy.33", "not a policy")
	features(s)
	e.Label = func(path string, mode uint32) string {
		switch {
		case path == "/":
			return "system_u:object_r:root_t:s0"
		case strings.HasPrefix(path, "/usr/etc"):
			return "system_u:object_r:etc_t:s0"
		case strings.HasPrefix(path, "/usr/share/none"):
			return "system_u:object_r:old_t:s0"
		case strings.HasPrefix(path, "/usr/lib/") && mode&unix.S_IFMT == unix.S_IFREG:
			return "system_u:object_r:lib_t:s0"
		case strings.HasPrefix(path, "/usr"):
			return "system_u:object_r:usr_t:s0"
		}
		return "system_u:object_r:default_t:s0"
	}
	if _, err := s.Encapsulate(e); err != nil {
		return nil, err
	}
	if layers {
		derive(s)
		s.File(2, "etc/selinux/small/contexts/files/file_contexts.local", "/usr/share/base(/.*)?	system_u:object_r:local_t:s0\n")
	}
	return s, nil
}

// plainBase has no policy, and a root in which only /usr is seen.
func plainBase() (*image.Spec, error) {
	s := image.New()
	s.Remove("usr/lib/ostree")
	s.File(0, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = no\n")
	features(s)
	if _, err := s.Encapsulate(image.Encapsulation{Chunks: 1, Version: 1}); err != nil {
		return nil, err
	}
	derive(s)
	s.File(1, "opt/dropped/file", "nobody sees it")
	s.File(1, "toplevel", "nor this")
	return s, nil
}

// features puts into the base what objects can be.
func features(s *image.Spec) {
	for _, name := range []string{"one", "two"} {
		s.File(0, "usr/share/base/"+name+"/same", "same")
		s.File(0, "usr/share/base/"+name+"/empty", "")
		s.Link(0, "usr/share/base/"+name+"/link", "../one/same")
	}
	s.File(0, "usr/share/none/file", "unlabelled")
	s.File(0, "usr/share/base/gone", "deleted by a layer")
	s.File(0, "usr/share/base/opaque/old", "hidden by a layer")
	s.Add(0, tar.Header{Name: "usr/share/base/dir/", Typeflag: tar.TypeDir, Mode: 0o2750, Uid: 5, Gid: 6})
	s.Content["usr/share/base/setuid"] = "#!"
	s.Add(0, tar.Header{Name: "usr/share/base/setuid", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 1000, Gid: 100, Size: 2,
		PAXRecords: map[string]string{"SCHILY.xattr.user.a": "1", "SCHILY.xattr.trusted.b": "\x00\xff"}})
}

// derive adds two layers in which each rule of the merge has its case.
func derive(s *image.Spec) {
	s.Dir(1, "etc")
	s.File(1, "etc/derived.conf", "derived")
	s.Add(1, tar.Header{Name: "usr/share/base/dir/", Typeflag: tar.TypeDir, Mode: 0o777, Uid: 7, Gid: 8}) // stays as it is in the base
	s.File(1, "usr/share/base/dir/new", "new")
	s.File(1, "usr/share/base/.wh.gone", "")
	s.File(1, "usr/share/base/opaque/.wh..wh..opq", "")
	s.File(1, "usr/share/base/opaque/new", "new")
	s.Add(1, tar.Header{Name: "usr/share/derived/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 3})
	s.File(1, "usr/share/derived/a", "linked")
	s.Add(1, tar.Header{Name: "usr/share/derived/b", Linkname: "usr/share/derived/a", Typeflag: tar.TypeLink})
	s.File(1, "var/lib/state", "state")
	s.Add(2, tar.Header{Name: "usr/share/base/two/", Typeflag: tar.TypeDir, Mode: 0o755})
	s.File(2, "usr/share/base/two/same", "not the same")
	s.Link(2, "usr/share/base/one", "two") // in place of a directory
	s.File(2, "tmp/dropped", "")
	s.File(2, "etc/resolv.conf", "")
}

// The merge commit of an image with an encapsulated base is what the real ostree
// makes of the real base and the layers, with the labels that libselinux gives
// them. The base is kept under its own checksum, as the parent.
func TestEncapsulated(t *testing.T) {
	needRoot(t)
	for name, layout := range encapsulated(t) {
		t.Run(name, func(t *testing.T) {
			labels, base, layers := layersOf(t, layout)
			disk := rawDisk(t, layout, "--rootfs", "ext4", "--target-imgref", "registry.example.com/os:1")
			root, boot := 4, 3
			if name != "fedoralike" { // the small ones have no BIOS part
				root, boot = 3, 2
			}
			m := mount(t, disk, root, boot, "ro,noload")
			repo := filepath.Join(m.root, "ostree/repo")
			if out := run(t, "ostree", "fsck", "--repo="+repo); !strings.Contains(out, "no errors found") {
				t.Errorf("ostree fsck: %s", out)
			}
			checkRefs(t, repo, layout, labels["ostree.commit"], base)
			parent := strings.TrimSpace(run(t, "ostree", "rev-parse", "--repo="+repo, "ostree/1/1/0^"))
			if parent != labels["ostree.commit"] {
				t.Errorf("the parent of the merge commit is %s, and the label says %s", parent, labels["ostree.commit"])
			}

			work := workDir(t)
			assembled, checkout := filepath.Join(work, "repo"), filepath.Join(work, "tree")
			assembleBase(t, layers[:base], assembled)
			run(t, "ostree", "refs", "--repo="+assembled, "--create=base", parent)
			if out := run(t, "ostree", "fsck", "--repo="+assembled); !strings.Contains(out, "no errors found") {
				t.Errorf("ostree fsck of the layers: %s", out)
			}
			run(t, "ostree", "checkout", "--repo="+assembled, "--force-copy", "base", checkout)
			flatten(t, checkout, layers[base:], name != "without overlay")
			args := []string{"commit", "--repo=" + assembled, "--branch=merged", "--tree=dir=" + checkout}
			if _, err := os.Stat(filepath.Join(checkout, "usr/etc/selinux/config")); err == nil {
				args = append(args, "--selinux-policy="+checkout)
			}
			run(t, "ostree", args...)
			compareCommits(t, repo, "ostree/1/1/0", assembled, "merged")
			compareCommits(t, repo, parent, assembled, "base")
			checkComposefs(t, m)
			checkLinks(t, m)
			checkLabelled(t, m)
		})
	}
}

// checkRefs checks that every layer has its ref: the first points at the base,
// those of the chunks at commits that hold nothing but objects.
func checkRefs(t *testing.T, repo, layout, base string, chunks int) {
	t.Helper()
	digests := layerDigests(t, layout)
	for k, digest := range digests {
		ref := "ostree/container/blob/" + strings.ReplaceAll(digest, ":", "_3A_")
		commit := strings.TrimSpace(run(t, "ostree", "rev-parse", "--repo="+repo, ref))
		switch {
		case k == 0 && commit != base:
			t.Errorf("the ref of the first layer is %s, want the base %s", commit, base)
		case k > 0 && k < chunks:
			show := run(t, "ostree", "show", "--repo="+repo, "--raw", commit)
			if !strings.Contains(show, "(@a{sv} {}, @ay [], @a(say) [], '', '', uint64 0,") {
				t.Errorf("commit of chunk %d: %s", k, show)
			}
			for line := range strings.Lines(run(t, "ostree", "ls", "--repo="+repo, "-C", commit, "/")) {
				f := strings.Fields(line)
				if !strings.HasPrefix(line, "d") && (len(f) < 6 || f[5] != "/"+f[4]) {
					t.Errorf("chunk %d: %s", k, line)
				}
			}
		}
	}
	if refs := strings.Fields(run(t, "ostree", "refs", "--repo="+repo)); len(refs) != len(digests)+2 {
		t.Errorf("%d refs for %d layers: %v", len(refs), len(digests), refs)
	}
}

// compareCommits compares the trees of two commits by their checksums, and says
// what differs.
func compareCommits(t *testing.T, ourRepo, ours, theirRepo, theirs string) {
	t.Helper()
	list := func(repo, commit string) []string {
		return strings.Split(run(t, "ostree", "ls", "-RXC", "--repo="+repo, commit, "/"), "\n")
	}
	a, b := list(ourRepo, ours), list(theirRepo, theirs)
	if slices.Equal(a, b) {
		return
	}
	file := func(lines []string) string {
		f := filepath.Join(t.TempDir(), "list")
		// Checksums of directories differ whenever anything below them does.
		text := regexp.MustCompile(`(?m)^(d\S+ \d+ \d+ +\d+) [0-9a-f]{64} [0-9a-f]{64} `).ReplaceAllString(strings.Join(lines, "\n"), "$1 ")
		if err := os.WriteFile(f, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return f
	}
	out, _ := exec.Command("diff", file(b), file(a)).Output()
	t.Errorf("%s is not what ostree makes of the layers (<), but:\n%.4000s", ours, out)
}

// checkLabelled checks that nothing on the root file system of a labelled image
// is left without a label, but for what the policy gives none.
func checkLabelled(t *testing.T, m *mounted) {
	t.Helper()
	if _, err := unix.Lgetxattr(m.root, "security.selinux", make([]byte, 256)); err != nil {
		return
	}
	for _, c := range []struct{ path, label string }{
		{".", "root_t"}, {"boot", "boot_t"}, {"ostree", "usr_t"}, {"ostree/deploy/default/var", "var_t"},
	} {
		b := make([]byte, 256)
		n, err := unix.Lgetxattr(filepath.Join(m.root, c.path), "security.selinux", b)
		if err != nil || !strings.Contains(string(b[:n]), ":"+c.label+":") || b[n-1] != 0 {
			t.Errorf("%s has the label %q, want %s: %v", c.path, b[:n], c.label, err)
		}
	}
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := unix.Lgetxattr(path, "security.selinux", nil); err != nil && !strings.Contains(path, "/usr/share/none") {
			t.Errorf("%s: label: %v", strings.TrimPrefix(path, m.root), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The plan says the same as the disk.
func TestEncapsulatedPlan(t *testing.T) {
	needRoot(t)
	spec, err := labelledBase(image.Encapsulation{Chunks: 3, Version: 1}, true)
	if err != nil {
		t.Fatal(err)
	}
	dir := workDir(t)
	if err := spec.Write(dir + "/image"); err != nil {
		t.Fatal(err)
	}
	disk := rawDisk(t, dir+"/image")
	b, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(disk)), "manifest-raw.json"))
	if err != nil {
		t.Fatal(err)
	}
	var plan struct {
		Refs    []string
		SELinux string
	}
	if err := json.Unmarshal(b, &plan); err != nil {
		t.Fatal(err)
	}
	if len(plan.Refs) != 2+len(spec.Layers) || plan.SELinux != "small" {
		t.Errorf("plan %+v for %d layers", plan, len(spec.Layers))
	}
}
