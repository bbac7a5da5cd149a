// Package bootc reads the conventions of a bootable container image: its labels
// and kernel, install configuration, kernel arguments, prepare-root.conf,
// SELinux target and bound images.
//
// The rules are those of bootc 1.16 (install/config.rs, bootc_kargs.rs,
// kernel.rs, boundimage.rs) for its ostree backend, and of libostree 2026.4
// where that reads the image (otcore-prepare-root.c, ostree-sepolicy.c,
// ostree-sysroot-deploy.c). Images for bootc's composefs backend, with unified
// kernel images, are recognised and refused.
//
// Images are not trusted: every file is bounded, and symbolic links stay within
// the image.
package bootc

import (
	"errors"
	"fmt"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// Image is what an image says about itself.
type Image struct {
	Kernel    Kernel
	Install   InstallConfig
	Kargs     []string          // of usr/lib/bootc/kargs.d for the architecture, one argument each
	OSRelease map[string]string // of usr/lib/os-release, else etc/os-release

	Composefs     ComposefsMode
	ComposefsKeys string // path of the public keys of a signed image, in the initramfs
	RootTransient bool   // root.transient or root.transient-ro of prepare-root.conf
	EtcTransient  bool   // etc.transient: what a deployment holds in /etc is not seen

	SELinuxType      string // SELINUXTYPE, or "" where nothing is to be labelled
	SELinuxEnforcing bool

	BoundImages []string // references, in the order of their files' names

	// Warnings name what bootc would warn of and pass over, a line each.
	Warnings []string
}

// Labels that mark an image as bootable. Their values mean nothing.
const (
	labelOstree = "ostree.bootable"
	labelBootc  = "containers.bootc"
)

// CheckLabels returns an error where the labels of an image's config do not
// mark it as bootable.
func CheckLabels(labels map[string]string) error {
	_, ostree := labels[labelOstree]
	_, bootc := labels[labelBootc]
	if ostree || bootc {
		return nil
	}
	return bad(fmt.Errorf("the image has neither label %s nor %s", labelBootc, labelOstree),
		"build it FROM a bootc base image, or, if it has a kernel and ostree, add LABEL containers.bootc=1")
}

// Inspect reads the merged tree of an image, in which the configuration is below
// etc, as in the image, or below usr/etc, as in an ostree commit. arch is a
// GOARCH name. The tree is not modified.
func Inspect(root *tree.Inode, arch string) (*Image, error) {
	rust, ok := rustArchs[arch]
	if !ok {
		return nil, fault.New(fault.Unsupported, fmt.Errorf("unknown architecture %q", arch), "")
	}
	if !root.IsDir() {
		return nil, bad(errors.New("the root of the image is not a directory"), "")
	}
	r := &reader{root: withEtc(root), arch: rust}
	for _, read := range []func(*Image) error{
		r.kernel, r.prepareRoot, r.mountPoints, r.osRelease,
		r.installConfig, r.kargsD, r.selinux, r.boundImages,
	} {
		if err := read(&r.image); err != nil {
			return nil, err
		}
	}
	return &r.image, nil
}

// rustArchs are the names that match-architectures has for GOARCH names.
var rustArchs = map[string]string{
	"386":     "x86",
	"amd64":   "x86_64",
	"arm":     "arm",
	"arm64":   "aarch64",
	"loong64": "loongarch64",
	"ppc64":   "powerpc64",
	"ppc64le": "powerpc64",
	"riscv64": "riscv64",
	"s390x":   "s390x",
}

// reader inspects one image.
type reader struct {
	root  *tree.Inode // with etc
	arch  string      // Rust name
	image Image
}

// warn adds a warning.
func (r *reader) warn(format string, args ...any) {
	r.image.Warnings = append(r.image.Warnings, fmt.Sprintf(format, args...))
}

// mountPoints checks the directories that the system is assembled on. It needs
// the composefs mode: the composefs image has them all but sysroot.
func (r *reader) mountPoints(image *Image) error {
	for _, name := range []string{"sysroot", "boot", "var"} {
		i := r.root.Child(name)
		switch {
		case i == nil && name != "sysroot" && image.Composefs != ComposefsNo:
		case i == nil:
			return bad(fmt.Errorf("the image has no directory /%s", name), "a bootc image has it as a mount point; add RUN mkdir /"+name)
		case !i.IsDir():
			return bad(fmt.Errorf("/%s is not a directory", name), "a bootc image has it as a mount point; only directories below it may be links")
		}
	}
	return nil
}

// withEtc returns the root with an etc in which files of usr/etc can be found
// by the paths they have at run time. Where both have content, etc wins.
func withEtc(root *tree.Inode) *tree.Inode {
	usr := root.Child("usr")
	if usr == nil || !usr.IsDir() {
		return root
	}
	lower, upper := usr.Child("etc"), root.Child("etc")
	if lower == nil || !lower.IsDir() || upper != nil && !upper.IsDir() {
		return root
	}
	etc := lower
	if upper != nil && upper.Len() > 0 {
		etc = union(lower, upper)
	}
	view := union(root, tree.NewDir(0o755))
	view.Set("etc", etc)
	return view
}

// union returns a directory with the entries of both, those of upper in place
// of those of lower. Directories in both are united.
func union(lower, upper *tree.Inode) *tree.Inode {
	u := lower.Copy()
	for _, e := range lower.Entries() {
		u.Set(e.Name, e.Inode)
	}
	for _, e := range upper.Entries() {
		if l := u.Child(e.Name); l != nil && l.IsDir() && e.Inode.IsDir() {
			u.Set(e.Name, union(l, e.Inode))
		} else {
			u.Set(e.Name, e.Inode)
		}
	}
	return u
}

// bad returns an error that is the image's fault.
func bad(err error, hint string) error { return fault.New(fault.BadImage, err, hint) }

// hasControl tells whether s has a control character or is not UTF-8, so that
// it cannot go into the files it is meant for.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' })
}
