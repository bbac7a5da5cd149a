package ostree

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/tree"
)

// ostree runs the real tool and returns what it prints. A missing tool is a
// failure.
func ostree(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tryOstree(t, args...)
	if err != nil {
		t.Fatalf("ostree %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryOstree(t testing.TB, args ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("ostree")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, args...)
	// UTF-8 names are escaped in listings otherwise; deployments of an ordinary
	// user cannot be made immutable.
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "OSTREE_SYSROOT_DEBUG=mutable-deployments")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Shorthands for trees. Names with slashes make their parents.

func put(t testing.TB, root *tree.Inode, path string, i *tree.Inode) *tree.Inode {
	t.Helper()
	if err := tree.Put(root, path, i); err != nil {
		t.Fatal(err)
	}
	return i
}

func file(perm uint32, text string) *tree.Inode { return tree.NewFile(perm, content.String(text)) }

// own gives all of a tree to the user who runs the test, so that it can be
// written to disk, and returns it.
func own(root *tree.Inode) *tree.Inode {
	_ = tree.Walk(root, func(_ string, i *tree.Inode) error {
		i.UID, i.GID = uint32(os.Getuid()), uint32(os.Getgid())
		return nil
	})
	return root
}

func checksum(t testing.TB, roots ...*tree.Inode) {
	t.Helper()
	if err := Checksum(context.Background(), roots...); err != nil {
		t.Fatal(err)
	}
}

// writeTar writes a tree as a tar and returns its path. Hard links follow the
// first of their names.
func writeTar(t testing.TB, root *tree.Inode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tree.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	seen := map[*tree.Inode]string{}
	err = tree.Walk(root, func(p string, i *tree.Inode) error {
		h := &tar.Header{
			Name: "." + p, Mode: int64(i.Perm()), Uid: int(i.UID), Gid: int(i.GID),
			ModTime: time.Unix(i.Mtime, 0), Format: tar.FormatPAX, PAXRecords: map[string]string{},
		}
		for _, x := range i.Xattrs {
			h.PAXRecords["SCHILY.xattr."+x.Name] = x.Value
		}
		first, linked := seen[i]
		switch {
		case i.IsDir():
			h.Typeflag = tar.TypeDir
			h.Name += "/"
		case linked:
			h.Typeflag, h.Linkname = tar.TypeLink, first
		case i.IsLink():
			h.Typeflag, h.Linkname = tar.TypeSymlink, i.Target
		default:
			h.Typeflag, h.Size = tar.TypeReg, i.Content.Size()
			seen[i] = h.Name
		}
		if err := w.WriteHeader(h); err != nil || h.Size == 0 {
			return err
		}
		_, err := io.Copy(w, i.Content.Reader())
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// newToolRepo returns a repository of the real tool.
func newToolRepo(t testing.TB, mode string) string {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "repo")
	ostree(t, "--repo="+repo, "init", "--mode="+mode)
	return repo
}

// commitTar commits a tree with the real tool, as ostree-ext does a layer.
func commitTar(t testing.TB, repo, branch string, root *tree.Inode, at int64) tree.Sum {
	t.Helper()
	out := ostree(t, "--repo="+repo, "commit", "--no-bindings", "--tar-autocreate-parents",
		"--add-metadata-string="+keyImporter+"="+importerVersion, "--branch="+branch,
		"--timestamp="+time.Unix(at, 0).UTC().Format(time.RFC3339), "--tree=tar="+writeTar(t, root))
	return sum(t, strings.TrimSpace(out)[:64])
}

// commitOurs does the same in memory.
func commitOurs(t testing.TB, r *Repo, root *tree.Inode, at int64) tree.Sum {
	t.Helper()
	checksum(t, root)
	c := &Commit{Metadata: []Metadata{{keyImporter, String(importerVersion)}}, Time: at}
	var err error
	if c.Contents, c.Meta, err = r.AddTree(root); err != nil {
		t.Fatal(err)
	}
	s, err := r.AddCommit(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// materialize writes a tree to disk as an ordinary user: owners are ignored,
// hard links kept.
func materialize(t testing.TB, dir string, root *tree.Inode) {
	t.Helper()
	names := map[*tree.Inode]string{}
	type late struct {
		path string
		i    *tree.Inode
	}
	var dirs []late
	err := tree.Walk(root, func(p string, i *tree.Inode) error {
		path := filepath.Join(dir, p)
		switch {
		case i.IsDir():
			dirs = append(dirs, late{path, i})
			if err := os.Mkdir(path, 0o700); err != nil && (p != "/" || !os.IsExist(err)) {
				return err
			}
			return nil
		case i.IsLink():
			if first, ok := names[i]; ok {
				return os.Link(first, path)
			}
			names[i] = path
			return os.Symlink(i.Target, path)
		}
		if first, ok := names[i]; ok {
			return os.Link(first, path)
		}
		names[i] = path
		b, err := i.Content.ReadAll(1 << 30)
		if err == nil {
			err = os.WriteFile(path, b, 0o600)
		}
		if err == nil {
			err = setMeta(path, i)
		}
		return err
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		if err == nil {
			err = setMeta(d.path, d.i)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func setMeta(path string, i *tree.Inode) error {
	for _, x := range i.Xattrs {
		if err := setxattr(path, x.Name, x.Value); err != nil {
			return err
		}
	}
	mode := fs.FileMode(i.Mode & 0o777)
	for bit, m := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if i.Mode&bit != 0 {
			mode |= m
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Chtimes(path, time.Unix(i.Mtime, 0), time.Unix(i.Mtime, 0))
}

// listDisk describes what is below a directory on disk, a line for each name:
// path, type and permissions, link count of files, target or content.
func listDisk(t testing.TB, dir string, skip func(path string) bool) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if skip != nil && skip(rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", rel, info.Mode())
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " links=" + strconv.FormatUint(linkCount(info), 10) + " " + strconv.Quote(string(b))
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

// diff reports where two lists of lines differ.
func diff(t testing.TB, what string, got, want []string) {
	t.Helper()
	have := map[string]int{}
	for _, l := range want {
		have[l]++
	}
	for _, l := range got {
		if have[l]--; have[l] < 0 {
			t.Errorf("%s: ours only: %s", what, l)
		}
	}
	for _, l := range slices.Sorted(maps.Keys(have)) {
		if have[l] > 0 {
			t.Errorf("%s: real only: %s", what, l)
		}
	}
}
