package ostree

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"imgbuild/tree"
)

// checksumBuffer is the size of the buffer of each worker of [Checksum].
const checksumBuffer = 256 << 10

// Checksum sets the Object of every regular file and symbolic link below the
// roots that has none. Shared inodes are read once. All cores are used; each
// holds a buffer of fixed size.
func Checksum(ctx context.Context, roots ...*tree.Inode) error {
	todo := missing(roots)
	workers := min(runtime.GOMAXPROCS(0), len(todo))
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan job)
	g.Go(func() error {
		defer close(work)
		for _, j := range todo {
			select {
			case work <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			buf := make([]byte, checksumBuffer)
			for j := range work {
				if err := checksumFile(ctx, j.inode, buf); err != nil {
					return fmt.Errorf("checksum %s: %w", j.path, err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

type job struct {
	path  string
	inode *tree.Inode
}

// missing returns the files that need a checksum, each inode once.
func missing(roots []*tree.Inode) []job {
	seen := make(map[*tree.Inode]struct{})
	var todo []job
	for _, root := range roots {
		// fn never returns an error.
		_ = tree.Walk(root, func(path string, i *tree.Inode) error {
			if (!i.IsFile() && !i.IsLink()) || i.Object != (tree.Sum{}) {
				return nil
			}
			if _, ok := seen[i]; !ok {
				seen[i] = struct{}{}
				todo = append(todo, job{path, i})
			}
			return nil
		})
	}
	return todo
}

func checksumFile(ctx context.Context, i *tree.Inode, buf []byte) error {
	if i.IsLink() {
		i.Object = LinkSum(i)
		return nil
	}
	h := FileHash(i)
	for off, size := int64(0), i.Content.Size(); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := int(min(int64(len(buf)), size-off))
		if _, err := i.Content.ReadAt(buf[:n], off); err != nil && err != io.EOF {
			return err
		}
		h.Write(buf[:n])
		off += int64(n)
	}
	h.Sum(i.Object[:0])
	return nil
}
