package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/initramfs"
	"imgbuild/tree"
)

// What makes an image one of Anaconda, and what it starts with.
const (
	runAnaconda    = "usr/libexec/anaconda/run-anaconda"
	anacondaTarget = "usr/lib/systemd/system/anaconda.target"
	anacondaShell  = "usr/lib/systemd/system/anaconda-shell@.service"
)

// dracutLine makes an initramfs that Anaconda starts from. Image-builder runs dracut
// by itself, in the image; here it is part of making the image.
const dracutLine = `RUN kver=$(cd /usr/lib/modules && echo *) && dracut --force --no-hostonly --kver $kver --nomdadmconf --nolvmconf ` +
	`--add 'anaconda pollcdrom' /usr/lib/modules/$kver/initramfs.img`

// checkInstaller wants an image with Anaconda that can start as a medium, and returns
// the initramfs for it.
func (a *anacondaBuild) checkInstaller(ctx context.Context) (content.Ref, error) {
	for _, name := range []string{runAnaconda, anacondaTarget} {
		if i, err := tree.Resolve(a.live.merged, name); err != nil || !i.IsFile() {
			return content.Ref{}, fault.New(fault.BadImage, fmt.Errorf("it holds no Anaconda: there is no /%s", name),
				"type bootc-installer is made of an image with Anaconda (dnf install anaconda anaconda-dracut); the image that is installed goes to --installer-payload-ref; type iso needs no Anaconda")
		}
	}
	i := a.live.facts.Kernel.Initramfs
	if i == nil {
		return content.Ref{}, fault.New(fault.BadImage, fmt.Errorf("/%s has no initramfs.img", a.live.facts.Kernel.Dir), "put "+dracutLine+" into the Containerfile")
	}
	has, err := dracutModules(ctx, i.Content.Reader())
	switch {
	case err != nil:
		return content.Ref{}, fault.New(fault.BadImage, fmt.Errorf("/%s/initramfs.img: %w", a.live.facts.Kernel.Dir, err), "put "+dracutLine+" into the Containerfile")
	case !has["anaconda"]:
		return content.Ref{}, fault.New(fault.BadImage, fmt.Errorf("/%s/initramfs.img is without dracut's module anaconda, so the medium would not find its installer", a.live.facts.Kernel.Dir),
			"put "+dracutLine+" into the Containerfile")
	}
	return a.initrd(ctx, i.Content)
}

// initrd returns the image's initramfs with an archive behind it, which the kernel
// unpacks over it: what the medium is, and no generators that would take disks for
// parts of the installer.
func (a *anacondaBuild) initrd(ctx context.Context, image content.Ref) (content.Ref, error) {
	root := tree.NewDir(0o755)
	if err := tree.Put(root, ".buildstamp", tree.NewFile(0o644, content.String(a.buildstamp()))); err != nil {
		return content.Ref{}, err
	}
	for _, g := range []string{"lvm2-activation-generator", "systemd-gpt-auto-generator"} {
		// systemd runs no generator that cannot be executed.
		if err := tree.Put(root, "usr/lib/systemd/system-generators/"+g, tree.NewFile(0o644, content.Ref{})); err != nil {
			return content.Ref{}, err
		}
	}
	var b bytes.Buffer
	if err := initramfs.Write(ctx, &b, root, initramfs.None); err != nil {
		return content.Ref{}, err
	}
	// The kernel skips zeros between archives, and wants plain ones at a multiple of 4.
	const align = 512
	start := (image.Size() + align - 1) / align * align
	return content.Sparse(start+int64(b.Len()), []content.Piece{{Off: 0, Ref: image}, {Off: start, Ref: content.Bytes(b.Bytes())}})
}

// buildstamp is what Anaconda takes its product from.
func (a *anacondaBuild) buildstamp() string {
	f := a.live.facts.OSRelease
	return fmt.Sprintf("[Main]\nProduct = %s\nVersion = %s\nIsFinal = True\nUUID = %d.%s\n\n[Compose]\nimgbuild = %s\n\n",
		f["NAME"], f["VERSION_ID"], a.time, unameOf(a.o.Arch), Version())
}

// liveRoot returns the root file system that Anaconda runs in: the image as its
// container has it, set up as image-builder does without lorax.
func (a *anacondaBuild) liveRoot(modules []string) (*tree.Inode, error) {
	root := containerRoot(a.live.merged)
	l := &liveTree{root: root, time: a.time}
	l.text(".buildstamp", a.buildstamp())
	l.text("etc/anaconda/conf.d/90-imgbuild.conf", "# Written by imgbuild.\n[Anaconda]\nactivatable_modules =\n    "+strings.Join(modules, "\n    ")+"\n")
	l.text("etc/locale.conf", "LANG=C.UTF-8\n")
	l.text("etc/systemd/logind.conf.d/10-reserve-vt.conf", "[Login]\nReserveVT=2\n")
	l.link("etc/systemd/system/default.target", "/"+anacondaTarget)
	if i, err := tree.Resolve(root, anacondaShell); err == nil && i.IsFile() {
		l.link("etc/systemd/system/autovt@.service", "/"+anacondaShell)
	}
	l.edit("etc/passwd", true, func(text string) string {
		return setRecord(text, "install", "install:x:0:0:install:/var/roothome:/"+runAnaconda)
	})
	l.edit("etc/shadow", true, func(text string) string {
		return setRecord(setField(text, "root", 1, ""), "install", "install::::::::")
	})
	l.edit("etc/selinux/config", false, func(text string) string { return setKey(text, "SELINUX", "permissive") })
	for _, dir := range []string{"var/roothome", "var/mnt", "var/tmp", "proc", "sys", "dev", "run", "tmp"} {
		l.directory(dir)
	}
	// As upstream: what a medium has by itself, and databases that nothing reads.
	l.prune("boot", "efi/*", "grub2/*", "config-*", "initramfs-*", "loader/*", "symvers-*", "System.map-*")
	for _, dir := range []string{"usr/lib/sysimage/rpm", "var/lib/rpm", "var/lib/yum", "var/lib/dnf"} {
		l.prune(dir, "*")
	}
	return root, l.err
}

// containerRoot returns the tree of a commit as it is in the container: with its /etc
// where it was. /etc and /var are private to it.
func containerRoot(merged *tree.Inode) *tree.Inode {
	root := shallow(merged)
	if usr := merged.Child("usr"); usr != nil && usr.Child("etc") != nil {
		own := shallow(usr)
		own.Remove("etc")
		root.Set("usr", own)
		root.Set("etc", private(usr.Child("etc")))
	} else {
		root.Set("etc", private(merged.Child("etc")))
	}
	root.Set("var", private(merged.Child("var")))
	return root
}

// shallow returns a copy of a directory with the same entries.
func shallow(dir *tree.Inode) *tree.Inode {
	c := dir.Copy()
	for _, e := range dir.Entries() {
		c.Set(e.Name, e.Inode)
	}
	return c
}

// liveTree changes a tree whose /etc and /var are private. Its first error sticks.
type liveTree struct {
	root *tree.Inode
	time int64
	err  error
}

func (l *liveTree) put(name string, i *tree.Inode) {
	i.Mtime = l.time
	if err := tree.Put(l.root, name, i); err != nil && l.err == nil {
		l.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (l *liveTree) text(name, text string) {
	l.put(name, tree.NewFile(0o644, content.String(text)))
}

func (l *liveTree) link(name, target string) { l.put(name, tree.NewLink(target)) }

// edit changes a text file, which has to be there where it is needed.
func (l *liveTree) edit(name string, needed bool, change func(string) string) {
	const limit = 1 << 20
	i := tree.Lookup(l.root, name)
	if i == nil && !needed {
		return
	}
	if i == nil || !i.IsFile() {
		if l.err == nil {
			l.err = fault.New(fault.BadImage, fmt.Errorf("there is no file /%s", name), "")
		}
		return
	}
	old, err := i.Content.ReadAll(limit)
	if err != nil {
		l.err = errors.Join(l.err, fmt.Errorf("/%s: %w", name, err))
		return
	}
	c := i.Copy()
	c.Content, c.Object = content.String(change(string(old))), tree.Sum{}
	l.put(name, c)
}

// directory makes a directory unless something is there.
func (l *liveTree) directory(name string) {
	if tree.Lookup(l.root, name) == nil {
		l.put(name, tree.NewDir(0o755))
	}
}

// prune empties what is at patterns below a directory, one or two names deep.
func (l *liveTree) prune(dir string, patterns ...string) {
	i := tree.Lookup(l.root, dir)
	if i == nil || !i.IsDir() {
		return
	}
	own := shallow(i)
	for _, p := range patterns {
		first, rest, deep := strings.Cut(p, "/")
		for _, e := range i.Entries() {
			switch ok, _ := path.Match(first, e.Name); {
			case !ok:
			case !deep:
				own.Remove(e.Name)
			case rest == "*" && e.Inode.IsDir():
				own.Set(e.Name, e.Inode.Copy())
			}
		}
	}
	// Directories above are shared with others.
	for at := dir; ; {
		up := path.Dir(at)
		if up == "." {
			l.root.Set(at, own)
			return
		}
		parent := shallow(tree.Lookup(l.root, up))
		parent.Set(path.Base(at), own)
		own, at = parent, up
	}
}

// setRecord replaces a line of a file as passwd(5) or adds it.
func setRecord(text, name, record string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+":") {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	b.WriteString(record + "\n")
	return b.String()
}

// setField replaces a field of a line of such a file.
func setField(text, name string, field int, value string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name+":") {
			f := strings.Split(strings.TrimRight(line, "\n"), ":")
			if field < len(f) {
				f[field] = value
			}
			line = strings.Join(f, ":") + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// setKey sets a KEY=VALUE of a file, at the place where it is.
func setKey(text, key, value string) string {
	var b strings.Builder
	found := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, key+"=") {
			found, line = true, key+"="+value+"\n"
		}
		b.WriteString(line)
	}
	if !found {
		b.WriteString(key + "=" + value + "\n")
	}
	return b.String()
}
