package ostree

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// DeployOptions say what is deployed and how.
type DeployOptions struct {
	Stateroot string      // "" is "default"
	Commit    tree.Sum    // the commit, in the repository
	Tree      *tree.Inode // its tree
	// Origin is the value of container-image-reference, by which the system
	// finds its upgrades: "ostree-unverified-registry:quay.io/org/os:1".
	Origin string
	Title  string   // PRETTY_NAME of os-release, else ID
	Kargs  []string // kernel arguments without ostree=, each quoted as needed

	// The kernel, as found in usr/lib/modules/<KernelVersion> of Tree. All but
	// Vmlinuz may be nil.
	KernelVersion string
	Vmlinuz       *tree.Inode
	Initramfs     *tree.Inode
	DeviceTree    *tree.Inode // the file devicetree or the directory dtb
	HMAC          *tree.Inode // .vmlinuz.hmac
	Aboot         *tree.Inode // aboot.img

	Composefs []byte // .ostree.cfs, nil for none
	// SeparateBoot says that /boot is a file system of its own: the kernel is
	// copied to it, not linked.
	SeparateBoot bool
	Time         int64 // mtime of all that is created, in seconds since 1970
	RepoConfig   Config
}

// Sysroot is the result of [Deploy]. Its trees may be added to, but what they
// share with the repository must not be modified: everything in the deployment
// except /etc, directories and empty files, and the kernel in /boot unless that
// is separate.
type Sysroot struct {
	Root       *tree.Inode // physical root: boot and ostree; boot is empty when separate
	Boot       *tree.Inode // content of /boot: the directory boot of Root, or the root of its own file system
	Ostree     *tree.Inode // the directory ostree of Root
	Repo       *tree.Inode // ostree/repo
	Deployment *tree.Inode // root of the deployment
	Etc        *tree.Inode // etc of the deployment, private copies
	Var        *tree.Inode // var of the stateroot, private copies
	Upper      *tree.Inode // backing directory that carries the label of /

	BootChecksum tree.Sum // of kernel, initramfs and device trees; part of paths

	// Paths below the physical root, without a leading slash.
	DeployPath, OriginPath, VarPath, BackingPath string
	BootPath                                     string // of the kernel's directory, below /boot
	EntryPath                                    string // of the boot loader entry, below /boot
}

// deploymentRef is the ref that keeps the first deployment's commit: boot
// version, sub-version and index.
const deploymentRef = "ostree/1/1/0"

// Deploy lays out the sysroot of a first deployment as libostree does, with
// boot version 1 and serial 0. Boot loader files, labels, fstab and everything
// else that bootc adds to it are left to the caller.
func Deploy(r *Repo, o *DeployOptions) (*Sysroot, error) {
	if err := o.check(r); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	d := &deployer{repo: r, opt: o, links: make(map[*tree.Inode]int)}
	s := &Sysroot{}
	if err := d.deploy(s); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	return s, nil
}

type deployer struct {
	repo  *Repo
	opt   *DeployOptions
	links map[*tree.Inode]int // names of the objects so far, beside their own
}

// maxLinks is the number of hard links ext4 allows; libostree copies when it is
// reached. It counts the object, and leaves one for /boot.
const maxLinks = 65000

// link returns the inode of an object for another name, a copy when the object
// has too many.
func (d *deployer) link(i *tree.Inode) (*tree.Inode, error) {
	object := d.repo.File(i.Object)
	if object == nil {
		return nil, fmt.Errorf("object %s is not in the repository", Hex(i.Object))
	}
	if d.links[object]++; d.links[object] > maxLinks-2 {
		return object.Copy(), nil
	}
	return object, nil
}

func (d *deployer) deploy(s *Sysroot) error {
	o := d.opt
	name := Hex(o.Commit) + ".0"
	stateroot := "ostree/deploy/" + o.stateroot()
	s.DeployPath = stateroot + "/deploy/" + name
	s.OriginPath = s.DeployPath + ".origin"
	s.VarPath = stateroot + "/var"
	s.BackingPath = stateroot + "/backing/" + name

	var err error
	if s.Deployment, err = d.checkout("/", o.Tree, 0); err != nil {
		return err
	}
	if o.Composefs != nil {
		cfs := tree.NewFile(0o644, content.Bytes(o.Composefs))
		cfs.Mtime = o.Time
		s.Deployment.Set(".ostree.cfs", cfs)
	}
	if s.Etc, err = d.etc(s.Deployment); err != nil {
		return err
	}
	s.Var = d.stateVar(s.Deployment)
	removeFile(s.Etc, ".updated")
	removeFile(s.Var, ".updated")
	if s.Var.Child(".ostree-selabeled") == nil {
		s.Var.Set(".ostree-selabeled", newFile(0o644, "", o.Time))
	}
	s.Deployment.Flags |= tree.Immutable

	if s.BootChecksum, err = o.bootChecksum(); err != nil {
		return err
	}
	if err := d.repo.SetRef(deploymentRef, o.Commit); err != nil {
		return err
	}
	if s.Repo, err = d.repo.Tree(o.RepoConfig, o.Time); err != nil {
		return err
	}
	d.assemble(s, name)
	return d.boot(s)
}

// assemble makes the physical root, with an empty directory for /boot.
func (d *deployer) assemble(s *Sysroot, name string) {
	o := d.opt
	dir := func(perm uint32) *tree.Inode { return newDir(perm, o.Time) }
	s.Root, s.Ostree, s.Boot = dir(0o755), dir(0o755), dir(0o755)
	s.Root.Set("ostree", s.Ostree)
	s.Root.Set("boot", s.Boot)
	if o.SeparateBoot {
		s.Boot = dir(0o755)
	}
	s.Ostree.Set("repo", s.Repo)

	deploy, stateroot, deployments := dir(0o755), dir(0o755), dir(0o755)
	s.Ostree.Set("deploy", deploy)
	deploy.Set(o.stateroot(), stateroot)
	stateroot.Set("var", s.Var)
	stateroot.Set("deploy", deployments)
	deployments.Set(name, s.Deployment)
	origin := "[origin]\ncontainer-image-reference=" + keyfileValue(o.Origin) + "\n"
	deployments.Set(name+".origin", newFile(0o644, origin, o.Time))

	// The upper directory of a transient root carries the mode of the root.
	s.Upper = dir(s.Deployment.Perm())
	backing, own, transient := dir(0o700), dir(0o700), dir(0o700)
	stateroot.Set("backing", backing)
	backing.Set(name, own)
	own.Set("root-transient", transient)
	transient.Set("work", dir(0o700))
	transient.Set("upper", s.Upper)
}

// overlayWhiteout begins the names of regular files that are checked out as
// whiteouts of overlayfs, character devices 0:0: container images inside of the
// image need these, and no layer can hold them.
const overlayWhiteout = ".ostree-wh."

// checkout returns the directory as the deployment has it: directories are new,
// files are links to the objects, except that empty ones are copies.
func (d *deployer) checkout(path string, dir *tree.Inode, depth int) (*tree.Inode, error) {
	if depth > maxDepth {
		return nil, badImage("%s: %w", path, errDepth)
	}
	out := dir.Copy()
	out.Mtime = 0
	for _, e := range dir.Entries() {
		name, i := e.Name, e.Inode
		var child *tree.Inode
		var err error
		switch {
		case i.IsDir():
			child, err = d.checkout(join(path, name), i, depth+1)
		case i.IsFile() && strings.HasPrefix(name, overlayWhiteout):
			name = name[len(overlayWhiteout):]
			if !tree.ValidName(name) || dir.Child(name) != nil {
				return nil, badImage("%s: whiteout of the name %q, which is invalid or taken", join(path, e.Name), name)
			}
			child = whiteoutDevice(i, d.opt.Time)
		default:
			child, err = d.link(i)
			if err == nil && i.IsFile() && i.Content.Size() == 0 {
				child = child.Copy()
				child.Object = tree.Sum{}
			}
		}
		if err != nil {
			if i.IsDir() {
				return nil, err
			}
			return nil, fmt.Errorf("%s: %w", join(path, e.Name), err)
		}
		out.Set(name, child)
	}
	return out, nil
}

func whiteoutDevice(i *tree.Inode, time int64) *tree.Inode {
	c := i.Copy()
	c.Mode = tree.TypeChar | i.Perm()
	c.Major, c.Minor = 0, 0
	c.Content = content.Ref{}
	c.Object = tree.Sum{}
	c.Mtime = time
	return c
}

// etc makes /etc of the deployment from usr/etc.
func (d *deployer) etc(deployment *tree.Inode) (*tree.Inode, error) {
	usr := deployment.Child("usr")
	if usr == nil || !usr.IsDir() {
		return nil, badImage("/usr is missing or not a directory")
	}
	etc, usrEtc := deployment.Child("etc"), usr.Child("etc")
	if etc != nil && !etc.IsDir() || usrEtc != nil && !usrEtc.IsDir() {
		return nil, badImage("/etc is not a directory")
	}
	// The copy is made of the commit, not of the checkout: whiteouts of
	// overlayfs keep their names in it.
	source := tree.Lookup(d.opt.Tree, "usr/etc")
	if etc != nil && etc.Len() > 0 {
		if usrEtc != nil {
			return nil, fault.New(fault.BadImage, errEtc, "put the files into /etc and remove /usr/etc in the container build")
		}
		usr.Set("etc", etc)
		source = d.opt.Tree.Child("etc")
	}
	if source == nil {
		return nil, badImage("the image has no /etc")
	}
	etc = d.copyTree(source)
	deployment.Set("etc", etc)
	return etc, nil
}

// stateVar returns the stateroot's var: the content of the image's /var.
func (d *deployer) stateVar(deployment *tree.Inode) *tree.Inode {
	o := d.opt
	out := newDir(0o755, o.Time) // has been there before; keeps its metadata
	imageVar := o.Tree.Child("var")
	if imageVar == nil || !imageVar.IsDir() {
		return out
	}
	for _, e := range imageVar.Entries() {
		out.Set(e.Name, d.copyTree(e.Inode))
	}
	if tree.Lookup(deployment, "usr/lib/tmpfiles.d") == nil {
		legacyVar(out, o.Time)
	}
	return out
}

// legacyVar creates what an OS without systemd-tmpfiles finds in /var.
func legacyVar(dir *tree.Inode, time int64) {
	set := func(name string, i *tree.Inode) {
		if dir.Child(name) == nil {
			dir.Set(name, i)
		}
	}
	set("tmp", newDir(0o1777, time))
	if tmp := dir.Child("tmp"); tmp.IsDir() {
		tmp.Mode = tree.TypeDir | 0o1777
	}
	set("lib", newDir(0o755, time))
	set("log", newDir(0o755, time))
	set("run", newLink("../run", time))
	set("lock", newLink("../run/lock", time))
}

// copyTree returns a copy of all that i is: every name gets an inode of its own.
func (d *deployer) copyTree(i *tree.Inode) *tree.Inode {
	c := i.Copy()
	c.Flags = 0
	c.Object = tree.Sum{}
	c.Mtime = d.opt.Time
	for _, e := range i.Entries() {
		c.Set(e.Name, d.copyTree(e.Inode))
	}
	return c
}

func removeFile(dir *tree.Inode, name string) {
	if i := dir.Child(name); i != nil && !i.IsDir() {
		dir.Remove(name)
	}
}

func (o *DeployOptions) stateroot() string {
	if o.Stateroot == "" {
		return "default"
	}
	return o.Stateroot
}

// check tells what is wrong with the options.
func (o *DeployOptions) check(r *Repo) error {
	for _, c := range o.stateroot() {
		if !isAlnum(c) && !strings.ContainsRune("-_.", c) {
			return fault.New(fault.Usage, fmt.Errorf("invalid stateroot %q", o.Stateroot), "use letters, digits, '-', '_' and '.'")
		}
	}
	if !tree.ValidName(o.stateroot()) {
		return fault.New(fault.Usage, fmt.Errorf("invalid stateroot %q", o.Stateroot), "")
	}
	b := r.Commit(o.Commit)
	if b == nil {
		return fmt.Errorf("commit %s is not in the repository", Hex(o.Commit))
	}
	if o.Tree == nil || !o.Tree.IsDir() {
		return errors.New("the commit has no tree")
	}
	if o.Vmlinuz == nil || !o.Vmlinuz.IsFile() {
		return badImage("the image has no kernel")
	}
	for _, i := range []*tree.Inode{o.Initramfs, o.HMAC, o.Aboot} {
		if i != nil && !i.IsFile() {
			return badImage("a boot file in usr/lib/modules/%s is not a regular file", o.KernelVersion)
		}
	}
	if i := o.DeviceTree; i != nil && !i.IsFile() && !i.IsDir() {
		return badImage("the device tree in usr/lib/modules/%s is neither a file nor a directory", o.KernelVersion)
	}
	if !tree.ValidName("initramfs-"+o.KernelVersion+".img") || !printable(o.KernelVersion) || strings.ContainsRune(o.KernelVersion, ' ') {
		return badImage("invalid kernel version %q", o.KernelVersion)
	}
	if o.Title == "" || !printable(o.Title) {
		return badImage("invalid title %q: os-release has neither PRETTY_NAME nor ID, or control characters", o.Title)
	}
	if o.Origin == "" || !printable(o.Origin) {
		return fault.New(fault.Usage, fmt.Errorf("invalid image reference %q", o.Origin), "")
	}
	for _, arg := range o.Kargs {
		if arg == "" || !printable(arg) {
			return fault.New(fault.Usage, fmt.Errorf("invalid kernel argument %q", arg), "")
		}
	}
	return nil
}

// printable tells whether s is UTF-8 and free of control characters, line
// breaks among them.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
