package main

import (
	"archive/tar"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// tool is a program that gets a wrapper of its name.
type tool struct {
	path string // in its package
	name string // of the wrapper, where it is another one
	// prepare is shell code that runs before the program; $root is the
	// directory of the packages.
	prepare string
	// interpreter is the program that runs a script: python in the packages, or
	// "sh", which is the machine's.
	interpreter string
}

// grubModules lets grub-mkimage find the modules of the packages. A directory
// that the caller gives comes later and wins.
const grubModules = `set -- -d "$root/usr/lib/grub/i386-pc" "$@"
`

// mkfsConfig makes mke2fs independent of the machine's configuration.
const mkfsConfig = `export MKE2FS_CONFIG="$root/etc/mke2fs.conf"
`

// rpmConfig lets RPM find its configuration, and libmagic what files are.
const rpmConfig = `export RPM_CONFIGDIR="$root/usr/lib/rpm" MAGIC="$root/usr/lib/file/magic.mgc"
`

// pythonHome makes Python independent of the machine's.
const pythonHome = `export PYTHONHOME="$root/usr" PYTHONPATH="$root/usr/lib/python3/dist-packages" PYTHONPYCACHEPREFIX="${TMPDIR:-/tmp}/imgbuild-pycache-$(id -u)"
export GI_TYPELIB_PATH="$root/usr/lib/x86_64-linux-gnu/girepository-1.0"
`

// runPython runs a script that refuses to work for other users than root.
const runPython = `import os, runpy, sys; os.getuid = lambda: 0; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")`

// tools are the programs by package.
var tools = []struct {
	pkg   string
	tools []tool
}{
	{"ostree", []tool{{path: "usr/bin/ostree"}}},
	{"composefs", []tool{{path: "usr/bin/mkcomposefs"}, {path: "usr/bin/composefs-info"}}},
	{"fsverity", []tool{{path: "usr/bin/fsverity"}}},
	{"grub-common", nil},
	{"grub2-common", []tool{{path: "usr/bin/grub-mkimage", prepare: grubModules}, {path: "usr/bin/grub-editenv"},
		{path: "usr/bin/grub-script-check"}, {path: "usr/bin/grub-file"}, {path: "usr/bin/grub-fstest"}}},
	{"grub-pc-bin", nil},
	{"selinux-utils", []tool{{path: "usr/sbin/matchpathcon"}, {path: "usr/sbin/sefcontext_compile"},
		{path: "usr/sbin/selabel_lookup"}}},
	{"policycoreutils", []tool{{path: "usr/sbin/setfiles"}}},
	// Two policies, for the tests of look-ups in them.
	{"selinux-policy-default", nil},
	{"selinux-policy-mls", nil},
	{"squashfs-tools", []tool{{path: "usr/bin/mksquashfs"}, {path: "usr/bin/unsquashfs"}}},
	{"erofs-utils", []tool{{path: "usr/bin/mkfs.erofs"}, {path: "usr/bin/fsck.erofs"}, {path: "usr/bin/dump.erofs"}}},
	{"e2fsprogs", []tool{{path: "usr/sbin/e2fsck"}, {path: "usr/sbin/debugfs"}, {path: "usr/sbin/dumpe2fs"},
		{path: "usr/sbin/mke2fs", prepare: mkfsConfig}, {path: "usr/bin/lsattr"}}},
	{"xfsprogs", []tool{{path: "usr/sbin/mkfs.xfs"}, {path: "usr/sbin/xfs_repair"}, {path: "usr/sbin/xfs_db"},
		{path: "usr/sbin/xfs_mdrestore"}}},
	{"btrfs-progs", []tool{{path: "usr/bin/btrfs"}, {path: "usr/sbin/mkfs.btrfs"}}},
	{"dosfstools", []tool{{path: "usr/sbin/mkfs.fat"}, {path: "usr/sbin/fsck.fat"}}},
	{"mtools", []tool{{path: "usr/bin/mtools"}, {path: "usr/bin/mdir"}, {path: "usr/bin/mcopy"}, {path: "usr/bin/mtype"},
		{path: "usr/bin/minfo"}, {path: "usr/bin/mattrib"}}},
	{"gdisk", []tool{{path: "usr/sbin/sgdisk"}}},
	{"cpio", []tool{{path: "usr/bin/cpio"}}},
	{"kmod", []tool{{path: "usr/sbin/modprobe"}, {path: "usr/sbin/depmod"}}},
	{"systemd", []tool{{path: "usr/bin/systemctl"}, {path: "usr/bin/systemd-firstboot"}}},
	{"ca-certificates", []tool{{path: "usr/sbin/update-ca-certificates", interpreter: "sh"}}},
	{"openssl", []tool{{path: "usr/bin/openssl"}}},
	{"rpm", []tool{{path: "usr/bin/rpm", prepare: rpmConfig}, {path: "usr/bin/rpmbuild", prepare: rpmConfig}}},
	{"pacman-package-manager", []tool{{path: "usr/bin/pacman"}}},
	{"p11-kit", []tool{{path: "usr/bin/trust"}}},
	{"openssh-server", []tool{{path: "usr/sbin/sshd"}}},
	{"openssh-client", []tool{{path: "usr/bin/ssh-keygen"}}},
	{"firewalld", []tool{{path: "usr/bin/firewall-offline-cmd", prepare: pythonHome, interpreter: "usr/bin/python3"}}},
	{"python3-minimal", nil},
	{"libpython3-stdlib", nil},
	{"python3-dbus", nil},
	// For signatures with the keys of cosign, which older versions of Debian's skopeo
	// have disabled.
	{"skopeo", []tool{{path: "usr/bin/skopeo", name: "skopeo-sigstore"}}},
	// What one test adds to an image.
	{"systemd-timesyncd", nil},
}

// toolsDrop is what the packages depend on for other programs than these.
var toolsDrop = []string{"perl", "python3", "python3-dbus", "gettext-base", "gpg", "gpg-agent", "gpgsm", "libicu78",
	"libc-gconv-modules-extra", "openssl-provider-legacy", "logsave", "dmsetup", "linux-base"}

// toolsDropDirs are left out of their packages.
var toolsDropDirs = []string{"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/bug",
	"usr/share/lintian", "usr/share/bash-completion", "usr/share/zsh", "usr/share/grub", "var", "dev", "run"}

// toolsMark is the file by which a directory of tools is known.
const toolsMark = ".imgbuild-tools"

// The tools are for Linux on amd64, which is all that it takes to run them: each
// wrapper starts the packages' own dynamic loader with their own libraries.
const (
	toolsTriplet = "x86_64-linux-gnu"
	toolsLoader  = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
)

// buildTools makes a directory with bin/TOOL and the packages below root.
func buildTools(ctx context.Context, o options) error {
	start := time.Now()
	if o.arch != "amd64" {
		return fmt.Errorf("tools are made for amd64 only")
	}
	if err := replaceable(o.out, toolsMark); err != nil {
		return err
	}
	archive, err := openArchive(ctx, o)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range tools {
		names = append(names, t.pkg)
	}
	packages, err := archive.Resolve(names, toolsDrop)
	if err != nil {
		return err
	}
	debs, err := archive.Fetch(ctx, packages)
	if err != nil {
		return err
	}
	progress("unpacking %d packages", len(debs))
	root, err := readPackages(ctx, debs, func(p string) bool { return !underAny(p, toolsDropDirs) })
	if err != nil {
		return err
	}
	if err := addFileContexts(root); err != nil {
		return err
	}
	// Of base-files, but all that is needed of it.
	root.symlink("lib64", "usr/lib64")
	// Complete before anything is written: all libraries of all tools.
	if err := checkTools(root); err != nil {
		return err
	}
	part := filepath.Clean(o.out) + ".part"
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	defer os.RemoveAll(part)
	if err := extract(root, filepath.Join(part, "root")); err != nil {
		return err
	}
	n, err := writeWrappers(filepath.Join(part, "bin"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(part, toolsMark), []byte(packageList(packages)), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(o.out); err != nil {
		return err
	}
	if err := os.Rename(part, o.out); err != nil {
		return err
	}
	progress("%s: %d tools of %d packages, made in %.1f s", o.out, n, len(debs), time.Since(start).Seconds())
	return nil
}

// checkTools makes sure that the tools and their libraries are there.
func checkTools(root rootfs) error {
	libs := newLibraries(root, toolsTriplet)
	for _, t := range tools {
		for _, tool := range t.tools {
			if _, ok := root.resolve(tool.path); !ok {
				return fmt.Errorf("package %s has no %s", t.pkg, tool.path)
			}
			if err := libs.add(tool.path); err != nil {
				return err
			}
		}
	}
	return nil
}

// extract writes the tree to a new directory. Owners and special permissions
// are left to those who can have them, and links lead where they lead in the
// packages; nothing is written through one.
func extract(root rootfs, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	for _, name := range root.paths() {
		n := root[name]
		local := filepath.FromSlash(name)
		switch n.typ {
		case tar.TypeDir:
			err = r.MkdirAll(local, 0o755)
		case tar.TypeReg:
			if err = r.MkdirAll(filepath.Dir(local), 0o755); err == nil {
				err = r.WriteFile(local, n.data, fs.FileMode(n.mode&0o755|0o600))
			}
		case tar.TypeSymlink:
			target := n.link
			if path.IsAbs(target) {
				if target, err = filepath.Rel(path.Dir("/"+name), target); err != nil {
					return err
				}
			}
			if err = r.MkdirAll(filepath.Dir(local), 0o755); err == nil {
				err = r.Symlink(target, local)
			}
		}
		if err != nil {
			return err
		}
	}
	// After all the files, whose order says nothing about links.
	for _, name := range root.paths() {
		if n := root[name]; n.typ == tar.TypeLink {
			if err := r.Link(filepath.FromSlash(n.link), filepath.FromSlash(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeWrappers writes a shell script for each tool and returns their number.
// They find their directory from $0, so that it can be moved.
func writeWrappers(dir string) (int, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	n := 0
	for _, t := range tools {
		for _, tool := range t.tools {
			name := tool.name
			if name == "" {
				name = path.Base(tool.path)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(wrapper(name, tool)), 0o755); err != nil {
				return 0, err
			}
			n++
		}
	}
	return n, nil
}

// wrapper returns the script. Programs with several names look at argv[0],
// which would be the loader's idea of it otherwise.
func wrapper(name string, t tool) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	b.WriteString("root=$(cd \"$(dirname \"$(readlink -f \"$0\")\")/../root\" && pwd) || exit 127\n")
	b.WriteString(t.prepare)
	program, script := t.path, ""
	switch t.interpreter {
	case "":
	case "sh":
		fmt.Fprintf(&b, "exec sh \"$root/%s\" \"$@\"\n", t.path)
		return b.String()
	default:
		program, script = t.interpreter, fmt.Sprintf(" -c '%s' \"$root/%s\"", runPython, t.path)
	}
	fmt.Fprintf(&b, "exec \"$root/%s\" --library-path \"$root/usr/lib/%[2]s:$root/usr/lib/%[2]s/systemd\" --argv0 %s \"$root/%s\"%s \"$@\"\n",
		toolsLoader, toolsTriplet, name, program, script)
	return b.String()
}
