package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/filesystem/btrfs"
	"imgbuild/layouts"
	"imgbuild/partition"
	"imgbuild/tree"
)

// btrfsParts is what a partition with btrfs has besides.
type btrfsParts struct {
	volumes []*tree.Inode // trees of the subvolumes
	packed  *btrfs.Packed
}

// btrfsOptions are those of a partition with btrfs, but for its packed content.
// A subvolume that the layout calls read-only is mounted so, and is not one that
// nobody can write to.
func (p *planned) btrfsOptions(time int64) (btrfs.Options, error) {
	uuid, err := partition.ParseGUID(p.uuid)
	if err != nil {
		return btrfs.Options{}, err
	}
	opt := btrfs.Options{UUID: uuid, Label: p.FS.Label, Time: time}
	for _, s := range p.FS.Subvolumes {
		c, err := btrfs.ParseCompression(s.Compress)
		if err != nil {
			return opt, err
		}
		opt.Subvolumes = append(opt.Subvolumes, btrfs.Subvolume{Path: s.Name, Compress: c})
	}
	return opt, nil
}

// checkBootVolume returns an error when GRUB would have to look for /boot in a
// subvolume. It knows the paths from the top level only, and bootupd's
// configuration does not name subvolumes.
func checkBootVolume(l *layouts.Layout, bootable bool) error {
	i := l.At("/boot")
	if i < 0 && bootable {
		i = l.At("/")
	}
	if i < 0 || l.Partitions[i].FS.Mount != "" {
		return nil
	}
	return fault.New(fault.Unsupported, fmt.Errorf("%s: /boot is in a subvolume, where GRUB with bootupd's configuration does not find it", l.Title(i)),
		"give /boot a partition of its own")
}

// plantSubvolumes makes the tree of a btrfs of those of its subvolumes.
func (p *planned) plantSubvolumes(time int64) error {
	top := tree.NewDir(0o755)
	top.Mtime = time
	order := make([]int, len(p.btrfs.volumes))
	for i := range order {
		order[i] = i
	}
	// What a subvolume is in comes first.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(strings.Count(p.FS.Subvolumes[a].Name, "/"), strings.Count(p.FS.Subvolumes[b].Name, "/"))
	})
	for _, i := range order {
		name, dir := p.FS.Subvolumes[i].Name, p.btrfs.volumes[i]
		if dir == nil {
			dir = tree.NewDir(0o755)
			dir.Mtime = time
		}
		if tree.Lookup(top, name) != nil {
			return fault.New(fault.Config, fmt.Errorf("subvolume %s: the name is taken in the subvolume that it is in", name), "")
		}
		if err := tree.Put(top, name, dir); err != nil {
			return fault.New(fault.Config, fmt.Errorf("subvolume %s: %w", name, err), "")
		}
	}
	p.tree = top
	return nil
}

// fillHoles has all zeros of files in /boot stored: GRUB does not read holes in
// files of btrfs.
func (p *planned) fillHoles() {
	switch {
	case p.Role() == layouts.RoleBoot:
		withoutHoles(p.tree)
	case p.Role() == layouts.RoleRoot:
		if boot := p.tree.Child("boot"); boot != nil {
			withoutHoles(boot)
		}
	}
}

// withoutHoles gives files content that knows nothing of holes.
func withoutHoles(dir *tree.Inode) {
	for _, e := range dir.Entries() {
		switch i := e.Inode; {
		case i.IsDir():
			withoutHoles(i)
		case i.IsFile():
			c := i.Copy()
			c.Verity = i.Verity
			c.Content = content.NewRef(struct{ io.ReaderAt }{i.Content}, 0, i.Content.Size())
			dir.Set(e.Name, c)
		}
	}
}

// pack compresses the content of the file systems that want that. It is kept in
// temporary files until the source is closed.
func (d *disks) pack(ctx context.Context, s *source, o *Options, p Progress) error {
	for i := range d.parts {
		q := &d.parts[i]
		if q.FS == nil || q.FS.Type != layouts.Btrfs {
			continue
		}
		opt, err := q.btrfsOptions(d.time)
		if err != nil {
			return fmt.Errorf("%s: %w", q.title, err)
		}
		if !opt.Compresses() {
			continue
		}
		p.Stage("compress "+q.title, contentSize(q.tree))
		f, err := createTrees(s, o)
		if err != nil {
			return err
		}
		// The name is not needed. Where open files cannot be removed, close does
		// it.
		_ = os.Remove(f.Name())
		s.closes = append(s.closes, func() {
			f.Close()
			_ = os.Remove(f.Name())
		})
		if q.btrfs.packed, err = btrfs.Pack(ctx, q.tree, opt, f, p.Advance); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s: %w", q.title, outputError(err))
		}
	}
	return nil
}

// contentSize returns the bytes of all regular files.
func contentSize(root *tree.Inode) int64 {
	total := int64(0)
	seen := map[*tree.Inode]bool{}
	tree.Walk(root, func(_ string, i *tree.Inode) error {
		if i.IsFile() && !seen[i] {
			seen[i] = true
			for _, n := range i.Content.Data() {
				total += n
			}
		}
		return nil
	})
	return total
}
