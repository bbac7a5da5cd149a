package pipeline

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/layouts"
	"imgbuild/tree"
)

// plant gives every partition its tree. What the stateroot has below a mount point
// moves to the file system that is mounted there.
func (d *disks) plant(sys *system) error {
	var own []*planned
	for i := range d.parts {
		q := &d.parts[i]
		switch q.Role() {
		case layouts.RoleRoot:
			q.tree = d.sysroot.Root
		case layouts.RoleBoot:
			q.tree = d.sysroot.Boot
		case layouts.RoleESP:
			if d.boot != nil {
				q.tree = d.boot.ESP
			}
		default:
			if q.FS != nil && q.FS.Mount != "" {
				own = append(own, q)
			}
		}
		if q.Source != "" {
			var err error
			if q.source, err = sys.sourceOf(q.Partition); err != nil {
				return err
			}
		}
	}
	// What is deepest first: it is not there any more when what it is mounted in
	// moves.
	slices.SortFunc(own, func(a, b *planned) int { return len(b.FS.Mount) - len(a.FS.Mount) })
	for _, q := range own {
		if err := d.move(q, sys); err != nil {
			return err
		}
	}
	for i := range d.parts {
		if q := &d.parts[i]; q.tree == nil && q.FS != nil {
			q.tree = tree.NewDir(0o755)
			q.tree.Mtime = d.time
		}
	}
	return nil
}

// move gives a file system what the running system has at its mount point, and
// leaves the mount point empty.
func (d *disks) move(q *planned, sys *system) error {
	where := q.FS.Mount
	var at *tree.Inode
	if layouts.Below(where, "/var") {
		var err error
		if at, err = d.makeDirs(where, sys.labels); err != nil {
			return err
		}
	} else if at = tree.Lookup(d.sysroot.Deployment, where); at == nil {
		at = tree.NewDir(0o755)
		at.Mtime = d.time
		labelAs(at, where, at.Mode, sys.labels)
	}
	q.tree = at.Copy()
	q.tree.Object = tree.Sum{}
	for _, e := range at.Entries() {
		q.tree.Set(e.Name, e.Inode)
	}
	if layouts.Below(where, "/var") {
		stamp := at.Child(stateStamp)
		at.Clear()
		if where == "/var" && stamp != nil {
			// A stateroot's var that is not empty is left alone by upgrades, which
			// would fill it with the image's otherwise.
			at.Set(stateStamp, stamp)
		}
	}
	if q.FS.Type == layouts.Ext4 && q.tree.Child("lost+found") == nil {
		lost := tree.NewDir(0o700)
		lost.Mtime = d.time
		labelAs(lost, where+"/lost+found", lost.Mode, sys.labels)
		q.tree.Set("lost+found", lost)
	}
	return nil
}

// stateStamp is libostree's mark of a stateroot's var that has its labels.
const stateStamp = ".ostree-selabeled"

// makeDirs returns the directory of the stateroot that the running system has at
// a path below /var. Missing ones are made, and labelled.
func (d *disks) makeDirs(where string, labels labeler) (*tree.Inode, error) {
	at, done := d.sysroot.Var, "/var"
	for name := range splitPath(where[len("/var"):]) {
		done += "/" + name
		next := at.Child(name)
		if next == nil {
			next = tree.NewDir(0o755)
			next.Mtime = d.time
			labelAs(next, done, next.Mode, labels)
			at.Set(name, next)
		}
		if !next.IsDir() {
			return nil, notDirectory(done)
		}
		at = next
	}
	return at, nil
}

func notDirectory(p string) error {
	return fault.New(fault.BadImage, fmt.Errorf("mount point %s: not a directory in the image", p), "")
}

// splitPath yields the components of a path.
func splitPath(p string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range strings.SplitSeq(p, "/") {
			if name != "" && !yield(name) {
				return
			}
		}
	}
}
