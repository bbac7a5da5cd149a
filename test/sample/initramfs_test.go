package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCPIO(t *testing.T) {
	root := make(rootfs)
	root.dir("empty", 0o1777)
	root.file("usr/bin/program", 0o4755, []byte("#!/bin/sh\n"))
	root.symlink("bin", "usr/bin")
	for _, n := range []string{"", "a", "ab", "abc", "abcd", "abcde"} { // all paddings of names and data
		root.text("names/x"+n, n)
	}
	archive, err := encodeCPIO(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(need(t, "cpio"), "-idm", "--quiet", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	for _, n := range []string{"", "a", "ab", "abc", "abcd", "abcde"} {
		if got := read(t, filepath.Join(dir, "names/x"+n)); string(got) != n {
			t.Errorf("x%s: %q", n, got)
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "bin")); err != nil || target != "usr/bin" {
		t.Errorf("link to %q, %v", target, err)
	}
	cmd = exec.Command(need(t, "cpio"), "-itv", "--quiet", "--numeric-uid-gid")
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Fields(line)
		got = append(got, f[0]+" "+f[2]+":"+f[3]+" "+strings.Join(f[8:], " "))
	}
	want := []string{"lrwxrwxrwx 0:0 bin -> usr/bin", "drwxrwxrwt 0:0 empty", "drwxr-xr-x 0:0 names",
		"-rw-r--r-- 0:0 names/x", "-rw-r--r-- 0:0 names/xa", "-rw-r--r-- 0:0 names/xab", "-rw-r--r-- 0:0 names/xabc",
		"-rw-r--r-- 0:0 names/xabcd", "-rw-r--r-- 0:0 names/xabcde", "drwxr-xr-x 0:0 usr", "drwxr-xr-x 0:0 usr/bin",
		"-rwsr-xr-x 0:0 usr/bin/program"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The scripts of the image are at least scripts.
func TestScripts(t *testing.T) {
	for _, name := range []string{"initramfs/init", "rootfs/usr/libexec/sample/boot-ok", "rootfs/usr/libexec/sample/check-features"} {
		command(t, ".", "sh", "-n", name)
	}
	const static = "rootfs/usr/lib/bootupd/grub2-static/"
	for _, name := range []string{"grub-static-pre.cfg", "grub-static-efi.cfg", "configs.d/10_blscfg.cfg"} {
		command(t, ".", "grub-script-check", static+name)
	}
}
