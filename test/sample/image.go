package main

import (
	"archive/tar"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"imgbuild/test/debian"
)

// maxKernels is how many kernels an image may have.
const maxKernels = 1

// buildImage makes the image.
func buildImage(ctx context.Context, o options) error {
	start := time.Now()
	if o.fedoralike {
		if err := checkFedoralike(o); err != nil {
			return err
		}
	}
	p, err := platformOf(o.arch)
	if err != nil {
		return err
	}
	archive, err := openArchive(ctx, o)
	if err != nil {
		return err
	}
	packages, err := imagePackages(archive, p, o.fedoralike)
	if err != nil {
		return err
	}
	debs, err := archive.Fetch(ctx, packages)
	if err != nil {
		return err
	}
	progress("unpacking %d packages", len(debs))
	keep := keepInImage
	if o.fedoralike {
		keep = keepInFedoralike
	}
	root, err := readPackages(ctx, debs, keep)
	if err != nil {
		return err
	}
	epoch := root.newest()
	trim(root)
	if err := shape(root); err != nil {
		return err
	}
	if o.plain {
		root.remove("usr/lib/bootupd")
	} else if err := bootPayload(root, archive, p, epoch); err != nil {
		return err
	}
	if o.fedoralike {
		progress("compiling the SELinux policy")
		if err := fedoralike(ctx, root, archive); err != nil {
			return err
		}
	}
	progress("making the initramfs")
	kver, err := kernel(root, p)
	if err != nil {
		return err
	}
	if err := keepNeededLibraries(root, p); err != nil {
		return err
	}
	root.text("usr/share/sample/packages", packageList(packages))
	root.prune("usr")
	root.prune("etc")

	progress("packing the layers")
	layers := split(root, epoch, kver)
	if o.fedoralike {
		if layers, err = splitFedoralike(root, epoch); err != nil {
			return err
		}
	}
	digest, size, err := writeLayout(ctx, o.out, p, epoch, layers)
	if err != nil {
		return err
	}
	progress("%s: %s, kernel %s, %.1f MB, made in %.1f s", o.out, digest, kver, float64(size)/1e6, time.Since(start).Seconds())
	return nil
}

// imagePackages returns all packages of the image, ascending by name.
func imagePackages(archive *debian.Archive, p platform, selinux bool) ([]*debian.Package, error) {
	want, drop := systemPackages, systemDrop
	if selinux {
		want, drop = slices.Concat(want, selinuxPackages), slices.Concat(drop, selinuxDrop)
	}
	system, err := archive.Resolve(want, drop)
	if err != nil {
		return nil, err
	}
	boot, err := archive.Resolve(append([]string{p.kernel}, p.boot...), bootDrop)
	if err != nil {
		return nil, err
	}
	byName := make(map[string]*debian.Package)
	for _, q := range append(system, boot...) {
		byName[q.Name] = q
	}
	var list []*debian.Package
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, byName[name])
	}
	return list, nil
}

func packageList(packages []*debian.Package) string {
	var b strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&b, "%s %s\n", p.Name, p.Version)
	}
	return b.String()
}

// keepInImage decides by the path alone which files of a package are read.
func keepInImage(p string) bool {
	if underAny(p, dropDirs) {
		return false
	}
	dir, base := path.Split(p)
	switch dir {
	case "usr/bin/", "usr/sbin/":
		return programs[base]
	case "usr/lib/systemd/":
		return !strings.HasPrefix(base, "systemd") || systemdPrograms[base]
	case "usr/lib/systemd/system-generators/":
		return base == "systemd-fstab-generator" || strings.HasPrefix(base, "ostree-")
	case "usr/lib/udev/rules.d/":
		return udevRules[base]
	case "usr/lib/udev/":
		return base == "ata_id" || base == "scsi_id" || base == "cdrom_id"
	}
	if d := path.Base(path.Dir(p)); strings.HasSuffix(d, ".wants") {
		return wantedUnits[base]
	}
	return true
}

// trim removes what only some of the packages' files need.
func trim(root rootfs) {
	root.removeIf(func(name string, _ *node) bool {
		// UEFI describes the hardware, also on arm64.
		if deviceTree, _ := path.Match("usr/lib/modules/*/dtb/*/*", name); deviceTree {
			return true
		}
		return under(name, "usr/lib/grub/i386-pc") && !strings.HasSuffix(name, ".mod") && !strings.HasSuffix(name, ".lst") &&
			!strings.HasSuffix(name, ".img")
	})
	for _, dir := range dropDirs {
		root.remove(dir)
	}
	// base-files has some of them as directories.
	for name := range links {
		root.remove(name)
	}
}

// shape adds the directories and links of a bootc image, users, the embedded
// files and what maintainer scripts would have made.
func shape(root rootfs) error {
	for _, d := range []string{"boot", "dev", "proc", "run", "sys", "sysroot", "var", "var/lib", "etc", "usr"} {
		root.dir(d, 0o755)
	}
	root.dir("tmp", 0o1777)
	for name, target := range links {
		root.symlink(name, target)
	}
	for _, name := range applets {
		if p := "usr/bin/" + name; root[p] == nil {
			root.symlink(p, "busybox")
		}
	}
	root.text("etc/machine-id", "")
	root.symlink("etc/mtab", "../proc/self/mounts")
	root.symlink("usr/lib/systemd/system/default.target", "multi-user.target")
	root.symlink("usr/lib/systemd/system/multi-user.target.wants/sample-boot-ok.service", "../sample-boot-ok.service")
	if err := accounts(root); err != nil {
		return err
	}
	return embedded(root, overlay, "rootfs")
}

// embedded adds the files below dir of an embedded file system.
func embedded(root rootfs, from fs.FS, dir string) error {
	return fs.WalkDir(from, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		mode := uint32(0o644)
		if strings.HasPrefix(string(data), "#!") {
			mode = 0o755
		}
		root.file(strings.TrimPrefix(name, dir+"/"), mode, data)
		return nil
	})
}

// accounts makes the user database from base-passwd's. Nobody can log in.
func accounts(root rootfs) error {
	passwd, err := root.regular("usr/share/base-passwd/passwd.master")
	if err != nil {
		return err
	}
	group, err := root.regular("usr/share/base-passwd/group.master")
	if err != nil {
		return err
	}
	users := strings.ReplaceAll(string(passwd), "/bin/bash", "/bin/sh")
	users = strings.ReplaceAll(users, ":*:", ":x:")
	groups := strings.ReplaceAll(string(group), ":*:", ":x:")
	for i, name := range systemGroups {
		id := firstSystemGroup - i
		groups += fmt.Sprintf("%s:x:%d:\n", name, id)
		if name == "systemd-network" {
			users += fmt.Sprintf("%s:x:%d:%d:systemd Network Management:/:/usr/sbin/nologin\n", name, id, id)
		}
	}
	var shadow, gshadow strings.Builder
	for line := range strings.Lines(users) {
		name, _, _ := strings.Cut(line, ":")
		shadow.WriteString(name + ":!*:20000:0:99999:7:::\n")
	}
	for line := range strings.Lines(groups) {
		name, _, _ := strings.Cut(line, ":")
		gshadow.WriteString(name + ":*::\n")
	}
	root.text("etc/passwd", users)
	root.text("etc/group", groups)
	const shadowGroup = 42
	root.file("etc/shadow", 0o640, []byte(shadow.String())).gid = shadowGroup
	root.file("etc/gshadow", 0o640, []byte(gshadow.String())).gid = shadowGroup
	root.remove("usr/share/base-passwd")
	return nil
}

// kernel trims the kernel's modules, indexes them and adds the initramfs. It
// returns the kernel's version.
func kernel(root rootfs, p platform) (string, error) {
	var found []string
	for _, name := range root.paths() {
		if ok, _ := path.Match("usr/lib/modules/*/vmlinuz", name); ok {
			found = append(found, path.Base(path.Dir(name)))
		}
	}
	if len(found) != maxKernels {
		return "", fmt.Errorf("kernels in usr/lib/modules: %q, expected one", found)
	}
	dir := "usr/lib/modules/" + found[0]
	early, err := loadModules(root, dir, bootModules)
	if err != nil {
		return "", err
	}
	all, err := loadModules(root, dir, slices.Concat(bootModules, imageModules))
	if err != nil {
		return "", err
	}
	kept := make(map[string]bool)
	for _, m := range all {
		kept[dir+"/"+m.path] = true
	}
	root.removeIf(func(name string, _ *node) bool { return under(name, dir+"/kernel") && !kept[name] })
	if err := writeModuleIndex(root, dir, all, false); err != nil {
		return "", err
	}
	data, err := initramfs(root, p, dir, early)
	if err != nil {
		return "", fmt.Errorf("initramfs: %w", err)
	}
	root.file(dir+"/initramfs.img", 0o644, data)
	return found[0], nil
}

// keepNeededLibraries removes the libraries that nothing of the rest needs.
func keepNeededLibraries(root rootfs, p platform) error {
	libs := newLibraries(root, p.triplet)
	dir := "usr/lib/" + p.triplet
	for _, name := range root.paths() {
		if n := root[name]; n.typ == tar.TypeReg && !under(name, dir) && !under(name, "usr/lib/modules") {
			if err := libs.add(name); err != nil {
				return err
			}
		}
	}
	for _, soname := range dlopened {
		if err := libs.library(soname); err != nil {
			return err
		}
	}
	root.removeIf(func(name string, _ *node) bool { return under(name, dir) && !libs.found[name] })
	return nil
}
