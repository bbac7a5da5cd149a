//go:build linux

package installed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Stores that Podman, Buildah and skopeo fill as root, with both drivers, give
// the same disk as the image that went in; and what Buildah builds on top of it
// and Podman pushes gives the same disk from the store and from what was pushed.
//
// No container is run: layers are committed by Buildah's chroot isolation, which
// needs neither namespaces nor an overlay mount.
func TestLocalStore(t *testing.T) {
	needRoot(t)
	// Shorter than the path of a test's directory: runtimes put sockets here.
	dir, err := os.MkdirTemp("/var/tmp", "imgbuild-store-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The driver overlay leaves its directory mounted on itself.
		_ = syscall.Unmount(filepath.Join(dir, "overlay/overlay"), syscall.MNT_DETACH)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	// Podman makes a name of the path, which not every path is fit for.
	layout := at("image")
	if err := os.Symlink(path(t, "IMGBUILD_SAMPLE", "../../.cache/sample"), layout); err != nil {
		t.Fatal(err)
	}
	policy := at("policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	disk := func(ref string) string {
		t.Helper()
		out := at("out")
		cmd := exec.Command(path(t, "IMGBUILD_BIN", "../../bin/imgbuild"), "--type", "raw", "--size", "3 GiB", "--no-cache",
			"--output", out, "--target-imgref", "registry.example.com/os:1", ref)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", ref, err, stderr.String())
		}
		f, err := os.Open(filepath.Join(out, "image/disk.raw"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(h.Sum(nil))
	}
	want := disk("oci:" + layout)

	overlay := at("overlay")
	run(t, "skopeo", "--policy", policy, "copy", "-q", "oci:"+layout+":latest", "containers-storage:[overlay@"+overlay+"+"+at("r1")+"]localhost/os:1")
	if got := disk("containers-storage:[overlay@" + overlay + "]localhost/os:1"); got != want {
		t.Error("skopeo, overlay: another disk")
	}

	vfs := at("vfs")
	podman := []string{"--root", vfs, "--runroot", at("r2"), "--storage-driver", "vfs"}
	pulled := strings.TrimSpace(run(t, "podman", append(podman, "pull", "-q", "--signature-policy", policy, "oci:"+layout+":latest")...))
	run(t, "podman", append(podman, "tag", pulled, "localhost/os:2")...)
	if got := disk("containers-storage:[" + vfs + "]@" + pulled[:12]); got != want {
		t.Error("podman, vfs: another disk")
	}

	// A derived image with a whiteout, a hard link, and a file that replaces one.
	context := at("context")
	if err := os.MkdirAll(filepath.Join(context, "usr/share/more"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(context, "usr/share/more/file"), []byte("more\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(context, "usr/share/more/file"), filepath.Join(context, "usr/share/more/again")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "Containerfile"), []byte("FROM localhost/os:2\nCOPY usr /usr\nLABEL made=here\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	buildah := []string{"--root", vfs, "--runroot", at("r2"), "--storage-driver", "vfs"}
	run(t, "buildah", append(buildah, "build", "-q", "--isolation", "chroot", "--signature-policy", policy, "--layers", "-t", "localhost/derived:1", "-f", filepath.Join(dir, "Containerfile"), context)...)
	run(t, "podman", append(podman, "save", "-q", "--format", "oci-archive", "-o", at("derived.tar"), "localhost/derived:1")...)
	run(t, "skopeo", "--policy", policy, "copy", "-q", "--preserve-digests", "containers-storage:[vfs@"+vfs+"+"+at("r2")+"]localhost/derived:1", "dir:"+at("derived"))
	derived := disk("containers-storage:[" + vfs + "]localhost/derived:1")
	if derived == want {
		t.Error("the derived image makes the same disk")
	}
	if got := disk("dir:" + at("derived")); got != derived {
		t.Error("buildah, vfs: another disk than of what was copied")
	}
	// Podman compresses the layers: other digests, and so another identity.
	disk("oci-archive:" + at("derived.tar"))

	// The ordinary user may not read root's store, and is told whose it is.
	work := workDir(t)
	if err := os.Chmod(vfs, 0o700); err != nil {
		t.Fatal(err)
	}
	code, stderr := imgbuild(t, work, "--output", work, "--no-cache", "containers-storage:["+vfs+"]localhost/os:2")
	if code != 3 || !strings.Contains(stderr, "permission denied") || !strings.Contains(stderr, "hint: the store of another user") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// One that may be entered, but has files that may not be read.
	if err := filepath.WalkDir(vfs, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if d.IsDir() {
			mode |= 0o555
		}
		if strings.HasSuffix(p, "usr/share/more/file") {
			mode = 0o640
		}
		return os.Chmod(p, mode)
	}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	code, stderr = imgbuild(t, work, "--output", work, "--no-cache", "--target-arch", "amd64", "containers-storage:["+vfs+"]localhost/derived:1")
	if code != 3 || !strings.Contains(stderr, "1 files in") || !strings.Contains(stderr, "/usr/share/more/") || !strings.Contains(stderr, "podman unshare") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
