package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	root := make(rootfs)
	root.text("usr/lib/real", "")
	root.symlink("lib", "usr/lib")
	root.symlink("usr/lib/abs", "/lib/rel")
	root.symlink("usr/lib/rel", "../lib/./real")
	root.symlink("usr/lib/up", "../../../../usr/lib/real")
	root.symlink("loop", "loop")
	root.symlink("dangling", "nowhere")
	for name, want := range map[string]string{"usr/lib/real": "usr/lib/real", "lib/abs": "usr/lib/real", "/lib/up": "usr/lib/real",
		"lib/../lib/rel": "usr/lib/real", "loop": "", "dangling": "", "lib/real/x": ""} {
		if got, ok := root.resolve(name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %t, expected %q", name, got, ok, want)
		}
	}
}

func TestPrune(t *testing.T) {
	root := make(rootfs)
	root.text("usr/a/b/file", "")
	root.dir("usr/a/c/d", 0o755)
	root.dir("var/empty", 0o755)
	root.prune("usr")
	if got := strings.Join(root.paths(), " "); got != "usr usr/a usr/a/b usr/a/b/file var var/empty" {
		t.Error(got)
	}
}

// A wrapper runs the loader with its own libraries, wherever it is called from.
func TestWrapper(t *testing.T) {
	dir := t.TempDir()
	loader := filepath.Join(dir, "root", toolsLoader)
	write(t, loader, []byte("#!/bin/sh\necho \"$MKE2FS_CONFIG\"\nprintf '%s\\n' \"$@\"\n"))
	write(t, filepath.Join(dir, "bin", "a tool"), []byte(wrapper("mke2fs", tool{path: "usr/sbin/mke2fs", prepare: mkfsConfig})))
	for _, name := range []string{loader, filepath.Join(dir, "bin", "a tool")} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(dir, "bin", "a tool"), link); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{real + "/root/etc/mke2fs.conf", "--library-path",
		real + "/root/usr/lib/" + toolsTriplet + ":" + real + "/root/usr/lib/" + toolsTriplet + "/systemd", "--argv0", "mke2fs",
		real + "/root/usr/sbin/mke2fs", "-t", "two words", ""}, "\n")
	if got := command(t, "/", link, "-t", "two words"); got != want {
		t.Errorf("%s\nexpected\n%s", got, want)
	}
}

func TestExtract(t *testing.T) {
	root, dir := make(rootfs), filepath.Join(t.TempDir(), "root")
	root.file("usr/bin/b", 0o4755, []byte("b"))
	root.put("usr/bin/a", &node{typ: tar.TypeLink, link: "usr/bin/b"})
	root.symlink("etc/link", "/usr/bin/b")
	root.dir("var/private", 0o000)
	if err := extract(root, dir); err != nil {
		t.Fatal(err)
	}
	if b := read(t, filepath.Join(dir, "usr/bin/a")); string(b) != "b" {
		t.Errorf("%q", b)
	}
	if b := read(t, filepath.Join(dir, "etc/link")); string(b) != "b" {
		t.Errorf("through the link: %q", b)
	}
	if st, err := os.Stat(filepath.Join(dir, "usr/bin/b")); err != nil || st.Mode() != 0o755 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	// Nothing is written outside through a link of a package.
	outside := t.TempDir()
	root = make(rootfs)
	root.put("a", &node{typ: tar.TypeSymlink, link: "../" + filepath.Base(outside)})
	root["a/file"] = &node{typ: tar.TypeReg, mode: 0o644}
	if err := extract(root, filepath.Join(filepath.Dir(outside), "root")); err == nil {
		t.Error("no error for a file below a link that leads outside")
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("%v outside", left)
	}
}
