package fat

import (
	"io"
	"path"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"imgbuild/tree"
)

// TestSecondReader has go-diskfs, which shares nothing with mtools, read the
// tree.
func TestSecondReader(t *testing.T) {
	root := esp(t)
	for i, name := range awkward {
		put(t, root, "names/"+name, pattern(i, i))
	}
	for _, test := range []struct {
		size       int64
		sectorSize int
	}{{40 * mib, 512}, {501 * mib, 512}, {9 << 30, 512}, {300 * mib, 4096}} {
		opt := options
		opt.SectorSize = test.sectorSize
		b, err := file.OpenFromPath(write(t, root, test.size, opt), true)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		fs, err := fat32.Read(b, test.size, 0, int64(test.sectorSize))
		if err != nil {
			t.Fatal(err)
		}
		err = tree.Walk(root, func(p string, i *tree.Inode) error {
			if i.IsDir() {
				entries, err := fs.ReadDir(path.Join(".", p))
				if err != nil {
					return err
				}
				n := 0
				for _, e := range entries {
					if e.Name() == "." || e.Name() == ".." || e.Name() == opt.Label {
						continue
					}
					if i.Child(e.Name()) == nil {
						t.Errorf("%s in %s is not in the tree", e.Name(), p)
					}
					n++
				}
				if n != i.Len() {
					t.Errorf("%s has %d entries, want %d", p, n, i.Len())
				}
				return nil
			}
			if i.Content.Size() == 0 {
				return nil // go-diskfs refuses the cluster 0 that empty files have
			}
			f, err := fs.Open(path.Join(".", p))
			if err != nil {
				return err
			}
			got, err := io.ReadAll(f)
			if err != nil {
				return err
			}
			if string(got) != text(t, i) {
				t.Errorf("%s differs", p)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
