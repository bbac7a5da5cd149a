package pipeline

import (
	"fmt"

	"imgbuild/selinux"
	"imgbuild/tree"
)

// xattrSELinux is where Linux keeps the label; its value ends in a NUL.
const xattrSELinux = "security.selinux"

// labeler looks up the SELinux label of a path by the image's policy. ok is
// false where the policy wants none.
type labeler interface {
	Lookup(path string, mode uint32) (label string, ok bool)
}

// label computes the labels of everything in the commit and its layers, by the
// path it has there (so /usr/etc is not /etc), and merges the layers again. The
// objects of an encapsulated base stay as they are; where the policy wants
// another label in the merged commit, that gets an object of its own.
func (sys *system) label(o *Options, p Progress) error {
	if sys.facts.SELinuxType == "" || o.SELinuxOff {
		return nil
	}
	p.Stage("label", 0)
	policy, err := selinux.Load(sys.merged)
	if err != nil || policy == nil {
		return err
	}
	sys.labels = policy
	if sys.base != nil {
		sys.base.Tree = relabelled(sys.base.Tree, policy)
	}
	for i, layer := range sys.layers {
		sys.layers[i] = relabelled(layer, policy)
	}
	if err := sys.merge(o); err != nil {
		return fmt.Errorf("merge of the labelled layers: %w", err)
	}
	return nil
}

// relabelled returns the tree of a commit with labels, as libostree gives them
// to it (ostree-repo-commit.c, get_final_xattrs): what the policy has no label
// for keeps its own. Directories are copied, files only where their label is
// another one; an inode that has several names is split where their labels
// differ.
func relabelled(root *tree.Inode, labels labeler) *tree.Inode {
	type key struct {
		inode *tree.Inode
		label string
	}
	done := map[key]*tree.Inode{}
	var copyOf func(i *tree.Inode, path string) *tree.Inode
	copyOf = func(i *tree.Inode, path string) *tree.Inode {
		label, ok := labels.Lookup(path, i.Mode)
		old, has := i.Xattr(xattrSELinux)
		same := !ok || has && old == label+"\x00"
		if !i.IsDir() {
			if same {
				return i
			}
			if c := done[key{i, label}]; c != nil {
				return c
			}
		}
		c := i.Copy()
		if !same {
			setLabel(c, label, ok)
		}
		if !i.IsDir() {
			done[key{i, label}] = c
			return c
		}
		if path != "/" {
			path += "/"
		}
		for _, e := range i.Entries() {
			c.Set(e.Name, copyOf(e.Inode, path+e.Name))
		}
		return c
	}
	return copyOf(root, "/")
}

// labelTree labels everything below root, which stands at path, in place. With
// missing, only what has no label yet; a directory for which enter is false is
// left alone with all below it. Objects of the repository never change: their
// label is part of their checksum.
func labelTree(root *tree.Inode, path string, labels labeler, missing bool, enter func(path string) bool) {
	if labels == nil {
		return
	}
	var visit func(i *tree.Inode, path string)
	visit = func(i *tree.Inode, path string) {
		if enter != nil && !enter(path) {
			return
		}
		if _, has := i.Xattr(xattrSELinux); i.Object == (tree.Sum{}) && (!has || !missing) {
			label, ok := labels.Lookup(path, i.Mode)
			setLabel(i, label, ok)
		}
		if !i.IsDir() {
			return
		}
		if path != "/" {
			path += "/"
		}
		for _, e := range i.Entries() {
			visit(e.Inode, path+e.Name)
		}
	}
	visit(root, path)
}

// labelAs gives one inode the label of path, as if it was there with the mode.
func labelAs(i *tree.Inode, path string, mode uint32, labels labeler) {
	if labels == nil || i == nil {
		return
	}
	label, ok := labels.Lookup(path, mode)
	setLabel(i, label, ok)
}

func setLabel(i *tree.Inode, label string, ok bool) {
	if ok {
		i.SetXattr(xattrSELinux, label+"\x00")
	} else {
		i.RemoveXattr(xattrSELinux)
	}
}

// labelDisk labels what bootc labels outside the commit: /etc and /var by the
// paths they have in the running system, the physical root by its own.
func labelDisk(d *disks, labels labeler) {
	if labels == nil {
		return
	}
	s := d.sysroot
	labelTree(s.Etc, "/etc", labels, false, nil)
	labelTree(s.Var, "/var", labels, false, nil)
	labelAs(s.Root, "/", tree.TypeDir, labels)
	labelAs(s.Ostree, "/usr", tree.TypeDir, labels)
	labelAs(tree.Lookup(s.Root, s.OriginPath), "/etc/ostree/remotes.d/dummy.conf", tree.TypeFile, labels)
	// bootc asks for this one without a file type.
	labelAs(s.Deployment.Child(".ostree.cfs"), "/usr", 0, labels)
	labelAs(s.Upper, "/", tree.TypeDir, labels)
	labelTree(s.Boot, "/boot", labels, true, nil)
	deployment := "/" + s.DeployPath
	labelTree(s.Root, "/", labels, true, func(path string) bool { return path != deployment })
}
