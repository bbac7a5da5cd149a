package ostree

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strings"

	"imgbuild/tree"
)

// bootChecksum returns the SHA-256 of the bytes of the kernel, the initramfs and
// the device trees, by which libostree tells boot data apart.
func (o *DeployOptions) bootChecksum() (sum tree.Sum, err error) {
	h := sha256.New()
	for _, f := range []struct {
		name string
		i    *tree.Inode
	}{{"vmlinuz", o.Vmlinuz}, {"initramfs", o.Initramfs}} {
		if f.i == nil {
			continue
		}
		if err := hashFile(h, f.i); err != nil {
			return sum, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if o.DeviceTree != nil {
		if err := o.hashDeviceTree(h, "dtb", o.DeviceTree); err != nil {
			return sum, err
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// hashDeviceTree adds a device tree, or all files of a directory in the order of
// their names. A symbolic link counts as what it points to, if that is there.
func (o *DeployOptions) hashDeviceTree(h hash.Hash, path string, i *tree.Inode) error {
	if i.IsLink() {
		target, err := tree.Resolve(o.Tree, "usr/lib/modules/"+o.KernelVersion+"/"+path)
		if err != nil {
			return nil
		}
		i = target
		if !i.IsFile() {
			return badImage("device tree %s: a link to something else than a file", path)
		}
	}
	switch {
	case i.IsDir():
		for _, e := range i.Entries() {
			if err := o.hashDeviceTree(h, path+"/"+e.Name, e.Inode); err != nil {
				return err
			}
		}
		return nil
	case i.IsFile():
		if err := hashFile(h, i); err != nil {
			return fmt.Errorf("device tree %s: %w", path, err)
		}
		return nil
	}
	return badImage("device tree %s: %w", path, unsupportedType(i))
}

func hashFile(h hash.Hash, i *tree.Inode) error {
	n, err := io.Copy(h, i.Content.Reader())
	if err == nil && n != i.Content.Size() {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Boot version and sub-version of a first deployment.
const (
	bootVersion    = "boot.1"
	bootSubVersion = "boot.1.1"
	loaderVersion  = "loader.1"
	entryName      = "ostree-1.conf" // deployments minus the index of this one
)

// boot fills /boot, and links the deployment from ostree/boot.1, where the
// kernel argument points.
func (d *deployer) boot(s *Sysroot) error {
	o := d.opt
	sum := Hex(s.BootChecksum)
	s.BootPath = "ostree/" + o.stateroot() + "-" + sum
	s.EntryPath = loaderVersion + "/entries/" + entryName
	dir := func() *tree.Inode { return newDir(0o755, o.Time) }

	byStateroot, byChecksum, links := dir(), dir(), dir()
	s.Ostree.Set(bootVersion, newLink(bootSubVersion, o.Time))
	s.Ostree.Set(bootSubVersion, byStateroot)
	byStateroot.Set(o.stateroot(), byChecksum)
	byChecksum.Set(sum, links)
	links.Set("0", newLink("../../../"+strings.TrimPrefix(s.DeployPath, "ostree/"), o.Time))

	kernels, loader, entries, ostree := dir(), dir(), dir(), dir()
	// Makes /boot/… a valid path on a separate file system as well.
	s.Boot.Set("boot", newLink(".", o.Time))
	s.Boot.Set("ostree", ostree)
	ostree.Set(o.stateroot()+"-"+sum, kernels)
	s.Boot.Set("loader", newLink(loaderVersion, o.Time))
	s.Boot.Set(loaderVersion, loader)
	loader.Set("entries", entries)
	entries.Set(entryName, newFile(0o644, o.entry(s), o.Time))
	return d.kernels(kernels)
}

// Names in the kernel's directory.
func (o *DeployOptions) vmlinuz() string    { return "vmlinuz-" + o.KernelVersion }
func (o *DeployOptions) initramfs() string  { return "initramfs-" + o.KernelVersion + ".img" }
func (o *DeployOptions) deviceTree() string { return "devicetree-" + o.KernelVersion }
func (o *DeployOptions) aboot() string      { return "aboot-" + o.KernelVersion + ".img" }

// kernels puts the boot files into their directory.
func (d *deployer) kernels(dir *tree.Inode) error {
	o := d.opt
	files := []struct {
		name string
		i    *tree.Inode
	}{
		{o.vmlinuz(), o.Vmlinuz},
		{o.initramfs(), o.Initramfs},
		{"." + o.vmlinuz() + ".hmac", o.HMAC},
		{o.aboot(), o.Aboot},
		{o.deviceTree(), o.DeviceTree},
	}
	for _, f := range files {
		switch {
		case f.i == nil:
		case f.i.IsDir():
			// Device trees are always copied, without their labels.
			dir.Set("dtb", d.copyDeviceTrees(f.i))
		default:
			i, err := d.install(f.i)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			dir.Set(f.name, i)
		}
	}
	return nil
}

// install returns a boot file as /boot has it: a link to the object on the same
// file system, else a copy without xattrs, whose label is that of its new path.
func (d *deployer) install(i *tree.Inode) (*tree.Inode, error) {
	object := d.repo.File(i.Object)
	if object == nil {
		return nil, fmt.Errorf("object %s is not in the repository", Hex(i.Object))
	}
	if !d.opt.SeparateBoot && i.Content.Size() > 0 {
		return object, nil
	}
	c := object.Copy()
	if d.opt.SeparateBoot {
		bare(c)
	}
	c.Mtime = d.opt.Time
	return c, nil
}

func (d *deployer) copyDeviceTrees(i *tree.Inode) *tree.Inode {
	c := i.Copy()
	bare(c)
	c.Mtime = d.opt.Time
	for _, e := range i.Entries() {
		switch e.Inode.Type() {
		case tree.TypeDir, tree.TypeFile, tree.TypeLink:
			c.Set(e.Name, d.copyDeviceTrees(e.Inode))
		}
	}
	return c
}

// bare removes what makes an inode an object.
func bare(i *tree.Inode) {
	i.Xattrs = nil
	i.Object = tree.Sum{}
}

// entry returns the boot loader entry (Boot Loader Specification, type 1), with
// the keys in libostree's order.
func (o *DeployOptions) entry(s *Sysroot) string {
	target := "/ostree/" + bootVersion + "/" + o.stateroot() + "/" + Hex(s.BootChecksum) + "/0"
	kargs := o.Kargs
	if o.Initramfs == nil {
		kargs = replaceKarg(kargs, "init", target+"/usr/lib/ostree/ostree-prepare-root")
	}
	kargs = replaceKarg(kargs, "ostree", target)

	var b strings.Builder
	set := func(key, value string) { b.WriteString(key + " " + value + "\n") }
	files := s.BootPath + "/"
	set("title", o.Title+" (ostree:0)")
	set("version", "1")
	set("options", strings.Join(kargs, " "))
	if o.DeviceTree != nil && o.DeviceTree.IsFile() {
		set("devicetree", "/boot/"+files+o.deviceTree())
	}
	set("linux", "/boot/"+files+o.vmlinuz())
	if o.Initramfs != nil {
		set("initrd", "/boot/"+files+o.initramfs())
	}
	if o.Aboot != nil { // not below the boot prefix
		set("aboot", "/"+files+o.aboot())
		set("abootcfg", "/"+s.DeployPath+"/usr/lib/ostree-boot/aboot.cfg")
	}
	if o.DeviceTree != nil && o.DeviceTree.IsDir() {
		set("fdtdir", "/boot/"+files+"dtb")
	}
	return b.String()
}

// replaceKarg returns the arguments with key=value in place of the first of that
// key, or at the end, and without others of that key.
func replaceKarg(args []string, key, value string) []string {
	out := make([]string, 0, len(args)+1)
	done := false
	for _, arg := range args {
		if k, _, _ := strings.Cut(arg, "="); k != key {
			out = append(out, arg)
		} else if !done {
			out = append(out, key+"="+value)
			done = true
		}
	}
	if !done {
		out = append(out, key+"="+value)
	}
	return out
}
