package main

import (
	"archive/tar"
	"context"
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/test/debian"
)

// The variant of the image that is shaped like those of Fedora and CentOS: an
// encapsulated ostree commit below ordinary layers, SELinux, boot loaders below
// usr/lib/efi and a root on xfs.

//go:embed all:fedoralike
var fedoralikeOverlay embed.FS

const (
	selinuxType = "default" // Debian's name of its ordinary policy
	selinuxDir  = "etc/selinux/" + selinuxType + "/"
)

// selinuxPackages are installed beside systemPackages, for the check at boot.
var selinuxPackages = []string{"selinux-policy-default", "selinux-utils", "policycoreutils", "findutils"}

// selinuxDrop is what they depend on for other programs than selinuxPrograms.
var selinuxDrop = []string{"perl", "libsemanage2", "libsemanage-common"}

// selinuxPrograms stay beside programs. busybox's find knows no contexts.
var selinuxPrograms = []string{"usr/bin/find", "usr/sbin/setfiles", "usr/sbin/restorecon"}

func keepInFedoralike(p string) bool { return keepInImage(p) || slices.Contains(selinuxPrograms, p) }

// checkFedoralike tells whether the variant can be made: its policy is compiled
// by programs for Linux on amd64, and it exists for that architecture only.
func checkFedoralike(o options) error {
	if o.plain {
		return fmt.Errorf("-fedoralike and -plain are two variants")
	}
	if o.arch != "amd64" {
		return fmt.Errorf("-fedoralike is made for amd64 only")
	}
	return checkHost()
}

// fedoralike turns the tree of the ordinary image, with its boot payload, into
// that of the variant.
func fedoralike(ctx context.Context, root rootfs, archive *debian.Archive) error {
	if err := embedded(root, fedoralikeOverlay, "fedoralike"); err != nil {
		return err
	}
	dirs := map[string]string{}
	for module, name := range map[string]string{"shim": "shim-signed", "grub2": "grub-efi-amd64-signed"} {
		p := archive.Lookup(name)
		if p == nil {
			return fmt.Errorf("no package %s", name)
		}
		dirs[module] = "usr/lib/efi/" + module + "/" + p.Version + "/EFI"
	}
	efiByPackage(root, dirs["shim"], dirs["grub2"])
	if err := compilePolicy(ctx, root, archive); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	root.text(selinuxDir+"seusers", "root:unconfined_u:s0-s0:c0.c1023\n__default__:unconfined_u:s0-s0:c0.c1023\n")
	// As in Fedora, places in /var have the labels of the paths they stand for.
	const subs = selinuxDir + "contexts/files/file_contexts.subs_dist"
	text, err := root.regular(subs)
	if err != nil {
		return err
	}
	for _, name := range []string{"home", "roothome", "usrlocal", "opt", "srv", "mnt"} {
		target := map[string]string{"roothome": "root", "usrlocal": "usr/local"}[name]
		if target == "" {
			target = name
		}
		text = fmt.Appendf(slices.Clip(text), "/var/%s /%s\n", name, target)
	}
	root.text(subs, string(text))
	return nil
}

// efiByPackage moves bootupd's payload for UEFI to where its newer versions have
// it: a directory for each package and version.
func efiByPackage(root rootfs, shim, grub string) {
	const old = "usr/lib/bootupd/updates/EFI"
	for _, name := range root.paths() {
		n := root[name]
		rest, ok := strings.CutPrefix(name, old+"/")
		if !ok || n.typ == tar.TypeDir {
			continue
		}
		dir := shim
		if strings.HasPrefix(path.Base(name), "grub") {
			dir = grub
		}
		root.put(dir+"/"+rest, n)
	}
	root.remove(old)
}

// addBaseFeatures adds files that show how the commit of the base keeps them.
// What check-features expects of them is in the last layer.
func addBaseFeatures(base rootfs) {
	d := sampleDir + "base/"
	// Two paths of one object each.
	for _, name := range []string{"one/", "two/"} {
		base.text(d+name+"same", "same\n")
		base.text(d+name+"empty", "")
		base.symlink(d+name+"link", "../one/same")
	}
	base.text(d+"ünïcödé-日本語", "name\n")
	owned := base.text(d+"owned", "owned\n")
	owned.uid, owned.gid = 1000, 100
	script := []byte("#!/bin/sh\nexit 0\n")
	base.file(d+"setuid", 0o4755, script)
	base.file(d+"capable", 0o755, script).xattrs = map[string]string{"security.capability": netCapabilities()}
	base.text(d+"attribute", "attribute\n").xattrs = map[string]string{"user.sample": "in the base"}
	base.symlink(d+"denormal-link", "../..//sample/base/one")
	base.symlink(d+"long-target", strings.Repeat("../base/", 20)+"one/same")
}

// localContexts changes labels of the base in a layer on top of it.
const localContexts = "/usr/share/sample/base(/.*)?\tsystem_u:object_r:src_t:s0\n" +
	"/usr/share/sample/features/bin/.*\t--\tsystem_u:object_r:bin_t:s0\n"

// splitFedoralike distributes the tree over the layers of the variant.
func splitFedoralike(root rootfs, epoch int64) ([]layer, error) {
	base := make(rootfs)
	for name, n := range root {
		base[name] = n
	}
	addVictims(base)
	addBaseFeatures(base)
	last := changes()
	last.text(sampleDir+"features/mostly-zeros", string(zeros()))
	addExpectations(last, base)
	config, features := make(rootfs), make(rootfs)
	for name, n := range last {
		if under(name, sampleDir+"layers") {
			config[name] = n
		} else if n.typ != tar.TypeDir || under(name, sampleDir+"features") {
			features[name] = n
		}
	}
	config.text("etc/hostname", "sample-fedoralike\n")
	config.text(selinuxDir+"contexts/files/file_contexts.local", localContexts)
	withParents(config, base)
	withParents(features, base)
	layers, err := encapsulate(base, epoch)
	if err != nil {
		return nil, err
	}
	return append(layers,
		layer{createdBy: "configuration, whiteouts", compression: "gzip", files: config, epoch: epoch},
		layer{createdBy: "metadata features", compression: "zstd", files: features, epoch: epoch}), nil
}
