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
	var own []mounted
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
				own = append(own, mounted{q.FS.Mount, q.FS.Type, &q.tree})
			}
		}
		if q.FS != nil {
			q.btrfs.volumes = make([]*tree.Inode, len(q.FS.Subvolumes))
			for k, s := range q.FS.Subvolumes {
				switch s.Mount {
				case "":
				case "/":
					q.btrfs.volumes[k] = q.tree
				default:
					own = append(own, mounted{s.Mount, q.FS.Type, &q.btrfs.volumes[k]})
				}
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
	slices.SortFunc(own, func(a, b mounted) int { return len(b.where) - len(a.where) })
	for _, m := range own {
		if err := d.move(m, sys); err != nil {
			return err
		}
	}
	for i := range d.parts {
		q := &d.parts[i]
		if q.tree == nil && q.FS != nil {
			q.tree = tree.NewDir(0o755)
			q.tree.Mtime = d.time
		}
		if q.FS != nil && q.FS.Type == layouts.Btrfs {
			q.fillHoles()
		}
		if len(q.btrfs.volumes) > 0 {
			if err := q.plantSubvolumes(d.time); err != nil {
				return fmt.Errorf("%s: %w", q.title, err)
			}
		}
	}
	return nil
}

// mounted is a mount point with a file system of its own, or a subvolume, whose
// tree is to be put in at.
type mounted struct {
	where, fs string
	at        **tree.Inode
}

// move gives a file system what the running system has at its mount point, and
// leaves the mount point empty.
func (d *disks) move(m mounted, sys *system) error {
	where := m.where
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
	moved := at.Copy()
	moved.Object = tree.Sum{}
	for _, e := range at.Entries() {
		moved.Set(e.Name, e.Inode)
	}
	*m.at = moved
	if layouts.Below(where, "/var") {
		stamp := at.Child(stateStamp)
		at.Clear()
		if where == "/var" && stamp != nil {
			// A stateroot's var that is not empty is left alone by upgrades, which
			// would fill it with the image's otherwise.
			at.Set(stateStamp, stamp)
		}
	}
	if m.fs == layouts.Ext4 && moved.Child("lost+found") == nil {
		lost := tree.NewDir(0o700)
		lost.Mtime = d.time
		labelAs(lost, where+"/lost+found", lost.Mode, sys.labels)
		moved.Set("lost+found", lost)
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
