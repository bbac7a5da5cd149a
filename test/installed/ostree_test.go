//go:build linux

package installed

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"imgbuild/test/fstest"
)

// images are the images that disks are tested of: the sample, and the tiny
// fixture where the fixtures are.
func images(t *testing.T) map[string]string {
	list := map[string]string{"sample": path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")}
	if dir := os.Getenv("IMGBUILD_FIXTURES"); dir != "" {
		list["tiny"] = filepath.Join(dir, "tiny")
	}
	return list
}

// The real ostree accepts the mounted disk as its own.
func TestOSTree(t *testing.T) {
	needRoot(t)
	for name, layout := range images(t) {
		t.Run(name, func(t *testing.T) {
			m := mount(t, rawDisk(t, layout, "--target-imgref", "registry.example.com/os:1"), 4, 3, "ro,noload")
			repo := "--repo=" + filepath.Join(m.root, "ostree/repo")
			if out := run(t, "ostree", "fsck", repo); !strings.Contains(out, "no errors found") {
				t.Errorf("ostree fsck: %s", out)
			}
			status := run(t, "ostree", "admin", "status", "--sysroot="+m.root)
			if !regexp.MustCompile(`(?m)^  default [0-9a-f]{64}\.0$`).MatchString(status) {
				t.Errorf("ostree admin status: %s", status)
			}
			refs := strings.Fields(run(t, "ostree", "refs", repo))
			slices.Sort(refs)
			blobs := 0
			for _, ref := range refs {
				if strings.HasPrefix(ref, "ostree/container/blob/sha256_3A_") {
					blobs++
				}
			}
			for _, ref := range []string{"ostree/1/1/0", "ostree/container/image/docker_3A__2F__2F_registry_2E_example_2E_com/os_3A_1"} {
				if !slices.Contains(refs, ref) {
					t.Errorf("no ref %s in %v", ref, refs)
				}
			}
			layers := layerDigests(t, layout)
			if blobs != len(layers) || len(refs) != blobs+2 {
				t.Errorf("%d blob refs of %d refs for %d layers", blobs, len(refs), len(layers))
			}
			digest := strings.TrimSpace(run(t, "ostree", "show", repo, "--print-metadata-key=ostree.manifest-digest", "ostree/1/1/0"))
			if want := "'" + manifestDigest(t, layout) + "'"; digest != want {
				t.Errorf("manifest digest in the commit %s, want %s", digest, want)
			}
			if out := run(t, "ostree", "ls", repo, "-X", "ostree/1/1/0", "/usr/etc/passwd"); !strings.Contains(out, "-00644 0 0") {
				t.Errorf("ostree ls: %s", out)
			}
			checkComposefs(t, m)
			checkLinks(t, m)
		})
	}
}

// checkComposefs has the owner of the format read .ostree.cfs.
func checkComposefs(t *testing.T, m *mounted) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.root, "ostree/deploy/default/deploy/*.0/.ostree.cfs"))
	if err != nil || len(found) != 1 {
		t.Fatalf(".ostree.cfs: %v, %v", found, err)
	}
	if out := run(t, "composefs-info", "missing-objects", "--basedir="+filepath.Join(m.root, "ostree/repo/objects"), found[0]); out != "" {
		t.Errorf("objects that .ostree.cfs names and the repository lacks:\n%s", out)
	}
	if out := run(t, "composefs-info", "dump", found[0]); !strings.HasPrefix(out, "/ ") {
		t.Errorf("composefs-info dump begins with %.80q", out)
	}
	run(t, "fsck.erofs", found[0])
	checkMountedComposefs(t, found[0])
	if out := run(t, "lsattr", "-d", filepath.Dir(found[0])); !strings.Contains(strings.Fields(out)[0], "i") {
		t.Errorf("the deployment is not immutable: %s", out)
	}
}

// checkMountedComposefs has the kernel mount .ostree.cfs, and compares what is
// there with the deployment: types, modes, owners, sizes, link targets.
func checkMountedComposefs(t *testing.T, image string) {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-t", "erofs", "-o", "ro,loop", image, dir)
	defer fstest.Unmount(t, dir)
	list := func(dir string) string {
		// /etc is changed in the deployment; directories have sizes of their own
		// kind; the devices in the root of the image hide the object directories.
		return run(t, "sh", "-c", `cd "$1" && find . \( -path ./etc/\* -o -path ./.ostree.cfs -o -path './[0-9a-f][0-9a-f]' \) -prune -o \
			\( -type d -printf '%p %y %m %U:%G\n' -o -printf '%p %y %m %U:%G %s %l\n' \) | grep -v '^\./etc ' | LC_ALL=C sort`, "sh", dir)
	}
	deployment, mounted := list(filepath.Dir(image)), list(dir)
	if len(strings.Split(deployment, "\n")) < 10 {
		t.Fatalf("the deployment is empty:\n%s", deployment)
	}
	if deployment != mounted {
		a, b := strings.Split(deployment, "\n"), strings.Split(mounted, "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Errorf("the deployment has %q where the mounted image has %q", a[i], b[i])
				return
			}
		}
		t.Errorf("%d entries in the deployment, %d in the mounted image", len(a), len(b))
	}
}

// checkLinks checks the chain from the boot entry to the deployment.
func checkLinks(t *testing.T, m *mounted) {
	t.Helper()
	entry, err := os.ReadFile(filepath.Join(m.root, "boot/loader/entries/ostree-1.conf"))
	if err != nil {
		t.Fatal(err)
	}
	bls := regexp.MustCompile(`(?m)^options .* ostree=(/ostree/boot\.1/default/([0-9a-f]{64})/0)$`).FindSubmatch(entry)
	if bls == nil {
		t.Fatalf("boot entry:\n%s", entry)
	}
	deployment, err := filepath.EvalSymlinks(filepath.Join(m.root, string(bls[1])))
	if err != nil || !strings.HasSuffix(deployment, ".0") {
		t.Errorf("ostree= leads to %s, %v", deployment, err)
	}
	kernels, err := filepath.Glob(filepath.Join(deployment, "usr/lib/modules/*/vmlinuz"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels %v, %v", kernels, err)
	}
	sum := run(t, "sh", "-c", `cat "$1/vmlinuz" "$1/initramfs.img" | sha256sum`, "sh", filepath.Dir(kernels[0]))
	if got, _, _ := strings.Cut(sum, " "); got != string(bls[2]) {
		t.Errorf("boot checksum %s, computed %s", bls[2], got)
	}
	for line := range strings.Lines(string(entry)) {
		if key, file, _ := strings.Cut(strings.TrimSpace(line), " "); key == "linux" || key == "initrd" {
			if _, err := os.Stat(filepath.Join(m.root, file)); err != nil {
				t.Errorf("boot entry: %v", err)
			}
		}
	}
}

// A commit of the disk's tree equals one that the real ostree makes of the
// mounted deployment: no file, mode, owner or attribute is lost on the way.
func TestCommitAgain(t *testing.T) {
	needRoot(t)
	m := mount(t, rawDisk(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample")), 4, 3, "ro,noload")
	deployments, _ := filepath.Glob(filepath.Join(m.root, "ostree/deploy/default/deploy/*.0"))
	if len(deployments) != 1 {
		t.Fatalf("deployments %v", deployments)
	}
	work := t.TempDir()
	run(t, "ostree", "init", "--mode=bare", "--repo="+work+"/repo")
	copied := filepath.Join(work, "tree")
	run(t, "cp", "-a", deployments[0], copied)
	run(t, "rm", "-rf", copied+"/etc", copied+"/.ostree.cfs")
	run(t, "ostree", "commit", "--repo="+work+"/repo", "--branch=again", "--tree=dir="+copied)
	checksum := func(repo, ref string) string {
		return strings.Fields(run(t, "ostree", "ls", "-d", "-C", "--repo="+repo, ref, "/"))[4]
	}
	ours := checksum(m.root+"/ostree/repo", "ostree/1/1/0")
	if again := checksum(work+"/repo", "again"); again != ours {
		diff, _ := exec.Command("sh", "-c", `ostree ls -RXC --repo="$1" ostree/1/1/0 / >"$3/a"; ostree ls -RXC --repo="$2" again / >"$3/b"; diff "$3/a" "$3/b" | head -20`,
			"sh", m.root+"/ostree/repo", work+"/repo", work).Output()
		t.Errorf("dirtree %s, and %s of the checkout:\n%s", ours, again, diff)
	}
}
