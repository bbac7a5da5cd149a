package pipeline

import (
	"context"
	"fmt"
	"os"

	"imgbuild/content"
	"imgbuild/filesystem/squashfs"
	"imgbuild/tree"
)

// squash returns a squashfs of the tree, which is kept in a temporary file until
// the build ends: on a medium it needs a size before it is written.
func (b *build) squash(ctx context.Context, what string, root *tree.Inode, opt squashfs.Options, o *Options, p Progress) (content.Ref, error) {
	p.Stage("compress "+what, contentSize(root))
	f, err := createTrees(b.source, o)
	if err != nil {
		return content.Ref{}, err
	}
	// The name is not needed. Where open files cannot be removed, close does it.
	_ = os.Remove(f.Name())
	b.source.closes = append(b.source.closes, func() {
		f.Close()
		_ = os.Remove(f.Name())
	})
	opt.Time, opt.Progress = b.time.Unix(), p.Advance
	r, err := squashfs.Write(ctx, f, root, opt)
	if err != nil {
		if ctx.Err() != nil {
			return content.Ref{}, ctx.Err()
		}
		return content.Ref{}, fmt.Errorf("%s: %w", what, outputError(err))
	}
	return content.NewSpool(f, r.Size, nil).Ref(0, r.Size), nil
}

// squashable returns a copy of the tree that squashfs can hold, hard links and
// all. It warns of the attributes that it had to leave out: access control lists.
func squashable(root *tree.Inode, p Progress) *tree.Inode {
	copies := map[*tree.Inode]*tree.Inode{}
	var without []string
	var copyOf func(i *tree.Inode, path string) *tree.Inode
	copyOf = func(i *tree.Inode, path string) *tree.Inode {
		if c := copies[i]; c != nil {
			return c
		}
		c := i.Copy()
		c.Flags = 0
		copies[i] = c
		for _, x := range i.Xattrs {
			if !squashfs.CanHold(x.Name) {
				c.RemoveXattr(x.Name)
				without = append(without, "/"+path)
			}
		}
		if i.IsDir() {
			if path != "" {
				path += "/"
			}
			for _, e := range i.Entries() {
				c.Set(e.Name, copyOf(e.Inode, path+e.Name))
			}
		}
		return c
	}
	c := copyOf(root, "")
	if len(without) > 0 {
		p.Warn("squashfs has no access control lists; they are left out of " + summary(without, 5))
	}
	return c
}
