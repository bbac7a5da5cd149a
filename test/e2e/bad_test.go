package e2e

import (
	"archive/tar"
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/test/image"
)

// Every kind of bad input gives its exit code, one line that names the trouble,
// and no file.
func TestBadImage(t *testing.T) {
	entry := func(h tar.Header) func(*image.Spec) {
		return func(s *image.Spec) { s.Add(1, h) }
	}
	for _, tc := range []struct {
		name string
		make func(s *image.Spec)
		args []string
		code int
		want string // in the message
		hint bool
	}{
		{name: "no label", make: func(s *image.Spec) { s.Labels = nil }, code: 5, want: "containers.bootc", hint: true},
		{name: "no kernel", make: func(s *image.Spec) { s.Remove("usr/lib/modules") }, code: 5, want: "kernel", hint: true},
		{name: "two kernels", make: func(s *image.Spec) {
			s.File(1, "usr/lib/modules/6.2.0-other/vmlinuz", "kernel")
			s.File(1, "usr/lib/modules/6.2.0-other/initramfs.img", "initramfs")
		}, code: 5, want: "6.2.0-other", hint: true},
		{name: "wrong architecture", make: func(s *image.Spec) { s.Arch = "arm64" }, code: 3, want: "arm64", hint: true},
		{name: "no prepare-root.conf", make: func(s *image.Spec) { s.Remove("usr/lib/ostree/prepare-root.conf") }, code: 5, want: "prepare-root.conf", hint: true},
		{name: "no boot loader", make: func(s *image.Spec) { s.Remove("usr/lib/bootupd") }, code: 5, want: "boot loader", hint: true},
		{name: "wrong digest", make: func(s *image.Spec) {
			s.Blob = func(_ int, b []byte) []byte { b[len(b)-9] ^= 1; return b }
		}, code: 5, want: "sha256:"},
		{name: "truncated blob", make: func(s *image.Spec) {
			s.Blob = func(_ int, b []byte) []byte { return b[:len(b)/2] }
		}, code: 5, want: "sha256:"},
		{name: "wrong diff_id", make: func(s *image.Spec) {
			s.DiffID = func(int, string) string { return "sha256:" + strings.Repeat("0", 64) }
		}, code: 5, want: "diff_id"},
		{name: "truncated tar", make: func(s *image.Spec) {
			s.File(1, "usr/big", strings.Repeat("x", 5000))
			s.Tar = func(layer int, b []byte) []byte {
				if layer == 1 {
					b = b[:2000]
				}
				return b
			}
		}, code: 5, want: "layer"},
		{name: "parent directory", make: entry(tar.Header{Name: "usr/../../etc/passwd", Typeflag: tar.TypeReg}), code: 5, want: ".."},
		{name: "device node", make: entry(tar.Header{Name: "usr/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}), code: 5, want: "usr/null", hint: true},
		{name: "name that is not UTF-8", make: func(s *image.Spec) {
			s.File(1, "usr/REPLACEME", "")
			s.Tar = func(layer int, b []byte) []byte {
				if layer == 1 {
					b = fixChecksum(bytes.Replace(b, []byte("REPLACEME"), []byte("\xff\xfeLACEME"), 1))
				}
				return b
			}
		}, code: 5, want: "UTF-8"},
		{name: "/etc and /usr/etc", make: func(s *image.Spec) { s.File(1, "usr/etc/passwd", "") }, code: 5, want: "/usr/etc", hint: true},
		{name: "hard link to nothing", make: entry(tar.Header{Name: "usr/x", Linkname: "usr/y", Typeflag: tar.TypeLink}), code: 5, want: "usr/y"},
		{name: "encapsulated base without its layers", make: func(s *image.Spec) { s.Labels["ostree.final-diffid"] = "sha256:0" }, code: 5, want: "ostree.final-diffid", hint: true},
		{name: "encapsulated base of another commit", make: func(s *image.Spec) {
			_, _ = s.Encapsulate(image.Encapsulation{Version: 1})
			s.Labels["ostree.commit"] = strings.Repeat("0", 64)
		}, code: 5, want: "label ostree.commit"},
		{name: "damaged object", make: func(s *image.Spec) {
			_, _ = s.Encapsulate(image.Encapsulation{Version: 1})
			for name, text := range s.Content {
				if strings.HasSuffix(name, ".file") && text == "initramfs" {
					s.Content[name] = "INITRAMFS"
				}
			}
		}, code: 5, want: ".file: has the checksum "},
		{name: "install config", make: func(s *image.Spec) { s.File(1, "usr/lib/bootc/install/00.toml", "[install]\nnonsense = 1\n") }, code: 5, want: "00.toml"},
		{name: "verity", make: func(s *image.Spec) {
			s.Remove("usr/lib/ostree")
			s.File(1, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = verity\n")
		}, args: []string{"--rootfs", "xfs"}, code: 6, want: "fs-verity (enabled = verity), which a root file system xfs cannot hold", hint: true},
		{name: "signed", make: func(s *image.Spec) {
			s.Remove("usr/lib/ostree")
			s.File(1, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = signed\n")
		}, code: 6, want: "(enabled = signed), which would not boot: the signature is part of an encapsulated ostree commit", hint: true},
		{name: "bound images", make: func(s *image.Spec) {
			s.File(1, "usr/share/containers/systemd/app.image", "[Image]\nImage=registry.example.com/app:1\n")
			s.Link(1, "usr/lib/bootc/bound-images.d/app.image", "../../../share/containers/systemd/app.image")
		}, code: 6, want: "app", hint: true},
		{name: "disk.yaml", make: func(s *image.Spec) { s.File(1, "usr/lib/bootc-image-builder/disk.yaml", "mount_configuration: all\n") }, code: 5, want: "/usr/lib/bootc-image-builder/disk.yaml: mount_configuration", hint: true},
		{name: "systemd-boot", make: func(s *image.Spec) {
			s.File(1, "usr/lib/bootc/install/00.toml", "[install]\nbootloader = \"systemd\"\n")
		}, code: 6, want: "systemd", hint: true},
		{name: "unknown type", args: []string{"--type", "floppy"}, code: 2, want: "floppy", hint: true},
		{name: "unknown flag", args: []string{"--nonsense"}, code: 2, want: "nonsense", hint: true},
		{name: "stdout", args: []string{"--output", "-"}, code: 2, want: "stdout", hint: true},
		{name: "unknown architecture", args: []string{"--target-arch", "pdp11"}, code: 2, want: "pdp11", hint: true},
		{name: "bad size", args: []string{"--size", "10 gigs"}, code: 2, want: "gigs"},
		{name: "bad config", args: []string{"--config", "/nonexistent.toml"}, code: 2, want: "nonexistent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := image.New()
			if tc.make != nil {
				tc.make(spec)
			}
			layout := filepath.Join(t.TempDir(), "image")
			if err := spec.Write(layout); err != nil {
				t.Fatal(err)
			}
			dir, cache := t.TempDir(), t.TempDir()
			args := append([]string{"--output", dir, "--cache", cache, "--target-arch", "amd64"}, tc.args...)
			r := run(t, command(t, append(args, "oci:"+layout)...))
			failed(t, tc.name, r, tc.code, dir)
			if !strings.Contains(r.stderr, tc.want) {
				t.Errorf("stderr does not say %q:\n%s", tc.want, r.stderr)
			}
			if tc.hint != strings.Contains(r.stderr, "hint: ") {
				t.Errorf("hint expected: %v\n%s", tc.hint, r.stderr)
			}
			for _, f := range files(t, cache) {
				if strings.Contains(f, ".part") || strings.Contains(f, "tmp") && !strings.Contains(cache, "tmp") {
					t.Errorf("left in the cache: %s", f)
				}
			}
		})
	}
}

// The synthetic image itself is good, so that each of the tests above fails for
// the one reason it gives.
func TestGoodImage(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	dir, r := build(t, "--type", "raw", "--no-cache", "--target-arch", "x86_64", "oci:"+layout+":latest")
	if !strings.Contains(r.stderr, "imgbuild: warning: ") || !strings.Contains(r.stderr, "--target-imgref") {
		t.Errorf("no word that the system will follow a directory:\n%s", r.stderr)
	}
	check(t, "sgdisk", "gdisk", "-v", filepath.Join(dir, "image/disk.raw"))
}

// Sources that are not there.
func TestNoSource(t *testing.T) {
	closed := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	for _, tc := range []struct {
		image string
		code  int
	}{
		{"oci:/nonexistent", 3},
		{"oci-archive:/nonexistent.tar", 3},
		{closed + "/os:1", 3},
		{"docker://" + closed + "/os:1", 3},
		{"oci:" + sample(t) + ":nonsense", 3},
		{"dir:/nonexistent", 3},
		{"docker-daemon:os:1", 6},
		{"UPPER//case::", 2},
	} {
		dir := t.TempDir()
		r := run(t, command(t, "--output", dir, "--no-cache", tc.image))
		failed(t, tc.image, r, tc.code, dir)
	}
}

// Results that cannot be written are found out before anything is read.
func TestUnwritableOutput(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Fatal("this test has to run as an ordinary user")
	}
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	failed(t, "read-only output", run(t, command(t, "--output", dir, "--no-cache", "oci:"+layout)), 8, dir)
	failed(t, "read-only cache", run(t, command(t, "--output", t.TempDir(), "--cache", filepath.Join(dir, "cache"), "oci:"+layout)), 8, dir)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	failed(t, "output is a file", run(t, command(t, "--output", file, "--no-cache", "oci:"+layout)), 8, "")
}

// fixChecksum corrects the checksums of all ustar headers of a tar whose files
// are empty.
func fixChecksum(b []byte) []byte {
	for off := 0; off+512 <= len(b); off += 512 {
		h := b[off : off+512]
		if !bytes.Equal(h[257:262], []byte("ustar")) {
			continue
		}
		copy(h[148:156], "        ")
		n := 0
		for _, c := range h {
			n += int(c)
		}
		copy(h[148:156], octal(n))
	}
	return b
}

func octal(n int) string {
	const digits = "01234567"
	s := []byte("000000\x00 ")
	for i := 5; i >= 0; i-- {
		s[i] = digits[n&7]
		n >>= 3
	}
	return string(s)
}
