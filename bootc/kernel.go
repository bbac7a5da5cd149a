package bootc

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// Kernel is the kernel of an image, with the files beside it. All inodes are
// those that symbolic links lead to.
type Kernel struct {
	Version string // name of the directory
	Dir     string // "usr/lib/modules/<version>"

	Vmlinuz    *tree.Inode // regular file, not empty
	Initramfs  *tree.Inode // regular file, or nil
	DeviceTree *tree.Inode // the file devicetree or the directory dtb, or nil
	HMAC       *tree.Inode // the file .vmlinuz.hmac, or nil
	Aboot      *tree.Inode // the file aboot.img, or nil
}

const modulesDir = "usr/lib/modules"

// kernel finds the one directory of modules with a vmlinuz.
func (r *reader) kernel(image *Image) error {
	if err := r.refuseUKI(); err != nil {
		return err
	}
	entries, err := r.entries(modulesDir)
	if err != nil {
		return err
	}
	var versions []string
	unified := ""
	for _, e := range entries {
		if !e.Inode.IsDir() {
			continue
		}
		if e.Inode.Child("vmlinuz") != nil {
			versions = append(versions, e.Name)
		} else if name := firstUKI(e.Inode); name != "" && unified == "" {
			unified = modulesDir + "/" + e.Name + "/" + name
		}
	}
	switch {
	case len(versions) > 1:
		return bad(fmt.Errorf("the image has %d kernels in %s: %s", len(versions), modulesDir, strings.Join(versions, ", ")),
			"a bootc image has exactly one; remove the others, with their directories, in the Containerfile")
	case len(versions) == 0 && unified != "":
		return errUKI(unified)
	case len(versions) == 0:
		return bad(fmt.Errorf("the image has no kernel: no %s/<version>/vmlinuz", modulesDir),
			"install a kernel package, or build FROM a bootc base image")
	}
	image.Kernel, err = r.readKernel(versions[0])
	return err
}

// readKernel returns the kernel of that version.
func (r *reader) readKernel(version string) (Kernel, error) {
	k := Kernel{Version: version, Dir: modulesDir + "/" + version}
	if hasControl(version) || strings.ContainsAny(version, " =\"") {
		return k, bad(fmt.Errorf("%s %q is not usable as a kernel version", modulesDir, version), "")
	}
	var err error
	find := func(to **tree.Inode, names ...string) {
		for _, name := range names {
			if *to == nil && err == nil {
				*to, err = r.file(k.Dir + "/" + name)
			}
		}
	}
	find(&k.Vmlinuz, "vmlinuz")
	find(&k.Initramfs, "initramfs.img", "initramfs")
	find(&k.HMAC, ".vmlinuz.hmac")
	find(&k.Aboot, "aboot.img")
	find(&k.DeviceTree, "devicetree")
	switch {
	case err != nil:
		return k, err
	case k.Vmlinuz == nil:
		return k, bad(fmt.Errorf("%s/vmlinuz is a symbolic link to nothing", k.Dir), "")
	case k.Vmlinuz.Content.Size() == 0:
		return k, bad(fmt.Errorf("%s/vmlinuz is empty", k.Dir), "")
	}
	if k.DeviceTree == nil {
		k.DeviceTree, err = r.deviceTrees(k.Dir + "/dtb")
	}
	return k, err
}

// deviceTrees returns the directory of device trees at a path, or nil.
func (r *reader) deviceTrees(p string) (*tree.Inode, error) {
	i, err := tree.Resolve(r.root, p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, bad(err, "")
	case !i.IsDir():
		return nil, nil
	}
	return i, nil
}

// refuseUKI returns an error where the image has a unified kernel image in the
// place that makes bootc take its composefs backend, whatever else there is.
func (r *reader) refuseUKI() error {
	const dir = "boot/EFI/Linux"
	i, err := tree.Resolve(r.root, dir)
	if err != nil || !i.IsDir() {
		return nil
	}
	if name := firstUKI(i); name != "" {
		return errUKI(dir + "/" + name)
	}
	return nil
}

// firstUKI returns the first name in a directory that is an EFI binary's.
func firstUKI(dir *tree.Inode) string {
	for _, e := range dir.Entries() {
		if extension(e.Name) == "efi" {
			return e.Name
		}
	}
	return ""
}

// ErrUKI says that an image boots a unified kernel image, whose command line and
// whose /etc are part of what is signed.
var ErrUKI = errors.New("the image boots a unified kernel image")

func errUKI(p string) error {
	return fault.New(fault.Unsupported,
		fmt.Errorf("%w, %s, which needs bootc's composefs backend", ErrUKI, p),
		"images with vmlinuz and initramfs.img in usr/lib/modules/<version> work")
}
