//go:build linux

package installed

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"imgbuild/test/image"
)

// largeImage makes an image with 24 MiB that do not compress.
func largeImage(t *testing.T) string {
	t.Helper()
	layout := filepath.Join(workDir(t), "image")
	s := image.New()
	data := make([]byte, 24<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	s.File(1, "usr/large", string(data))
	if err := s.Write(layout); err != nil {
		t.Fatal(err)
	}
	return layout
}

// A disk that is full ends a build with the class of its own, and nothing is
// left in its way: neither where the results go nor in the cache.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	source := "oci:" + largeImage(t)
	for _, tc := range []struct {
		name  string
		sizes []int // MiB
		args  func(full, work string) []string
	}{
		{"output", []int{1, 8, 20}, func(full, work string) []string {
			return []string{"--output", full, "--cache", filepath.Join(work, "cache")}
		}},
		{"cache", []int{1, 8, 20}, func(full, work string) []string {
			return []string{"--output", filepath.Join(work, "out"), "--cache", full}
		}},
		{"both", []int{40}, func(full, work string) []string {
			return []string{"--output", filepath.Join(full, "out"), "--cache", filepath.Join(full, "cache")}
		}},
	} {
		for _, size := range tc.sizes {
			t.Run(fmt.Sprintf("%s of %d MiB", tc.name, size), func(t *testing.T) {
				work, full := workDir(t), filepath.Join(workDir(t), "full")
				if err := os.Mkdir(full, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mount("tmpfs", full, "tmpfs", 0, fmt.Sprintf("size=%dm,uid=%d,gid=%d", size, nobody, nobody)); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = syscall.Unmount(full, syscall.MNT_DETACH) })
				args := append(tc.args(full, work), "--type", "qcow2", source)
				code, stderr := imgbuild(t, work, args...)
				if code != 7 || !strings.Contains(stderr, "hint: ") {
					t.Errorf("exit %d, want 7 and a hint:\n%s", code, stderr)
				}
				nothingOf(t, full, work)
			})
		}
	}
}

// nothingOf checks that no result and no part of one is there.
func nothingOf(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := d.Name()
			if !d.IsDir() && (strings.HasSuffix(name, ".part") || strings.HasPrefix(name, "disk.") || strings.HasPrefix(name, "manifest-")) {
				t.Errorf("left %s", p)
			}
			if !d.IsDir() && filepath.Base(filepath.Dir(p)) == "tmp" {
				t.Errorf("left %s", p)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// faults says which operation of a file system fails, and how.
type faults struct {
	kind  string       // write, fsync, rename, create, truncate, read
	at    atomic.Int64 // which of its kind, counted down to 0
	errno syscall.Errno
	seen  atomic.Int64 // operations of the kind
}

func (f *faults) hit(kind string) bool {
	if f.kind != kind {
		return false
	}
	f.seen.Add(1)
	return f.at.Add(-1) == 0
}

// faultNode is a file of the directory below, whose operations can fail.
type faultNode struct {
	fusefs.LoopbackNode
	faults *faults
}

func (n *faultNode) WrapChild(_ context.Context, ops fusefs.InodeEmbedder) fusefs.InodeEmbedder {
	return &faultNode{LoopbackNode: fusefs.LoopbackNode{RootData: ops.(*fusefs.LoopbackNode).RootData}, faults: n.faults}
}

func (n *faultNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	if n.faults.hit("create") {
		return nil, nil, 0, n.faults.errno
	}
	return n.LoopbackNode.Create(ctx, name, flags, mode, out)
}

func (n *faultNode) Rename(ctx context.Context, name string, to fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if n.faults.hit("rename") {
		return n.faults.errno
	}
	if f, ok := to.(*faultNode); ok {
		to = &f.LoopbackNode
	}
	return n.LoopbackNode.Rename(ctx, name, to, newName, flags)
}

func (n *faultNode) Setattr(ctx context.Context, f fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if _, sized := in.GetSize(); sized && n.faults.hit("truncate") {
		return n.faults.errno
	}
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

func (n *faultNode) Write(ctx context.Context, f fusefs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if n.faults.hit("write") {
		return 0, n.faults.errno
	}
	return f.(fusefs.FileWriter).Write(ctx, data, off)
}

func (n *faultNode) Read(ctx context.Context, f fusefs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if n.faults.hit("read") {
		return nil, n.faults.errno
	}
	return f.(fusefs.FileReader).Read(ctx, dest, off)
}

func (n *faultNode) Fsync(ctx context.Context, f fusefs.FileHandle, flags uint32) syscall.Errno {
	if n.faults.hit("fsync") {
		return n.faults.errno
	}
	if f == nil {
		return 0 // of a directory
	}
	return f.(fusefs.FileFsyncer).Fsync(ctx, flags)
}

// faulty mounts the directory below at a new one, through the faults.
func faulty(t *testing.T, below string, f *faults) (dir string, done func()) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(below, &st); err != nil {
		t.Fatal(err)
	}
	data := &fusefs.LoopbackRoot{Path: below, Dev: uint64(st.Dev)}
	root := &faultNode{LoopbackNode: fusefs.LoopbackNode{RootData: data}, faults: f}
	data.RootNode = root
	dir = filepath.Join(workDir(t), "faulty")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := fusefs.Mount(dir, root, &fusefs.Options{MountOptions: fuse.MountOptions{AllowOther: true, DirectMountStrict: true, FsName: "faulty"}})
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	}
}

// Every kind of operation of the output and of the cache fails once, early and
// late: the build ends with one line that names the file, nothing is left, and
// the next build on the same cache makes the right disk.
func TestFaultyDisk(t *testing.T) {
	needRoot(t)
	source := "oci:" + largeImage(t)
	reference := workDir(t)
	if code, stderr := imgbuild(t, reference, "--output", reference, "--no-cache", "--type", "qcow2", source); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	want := digest(t, filepath.Join(reference, "qcow2/disk.qcow2"))
	for _, place := range []string{"output", "cache"} {
		for _, kind := range []string{"write", "fsync", "rename", "create", "truncate", "read"} {
			for _, at := range []int64{1, 2, 20} {
				t.Run(fmt.Sprintf("%s %d of the %s", kind, at, place), func(t *testing.T) {
					work := workDir(t)
					for _, d := range []string{"out", "cache"} {
						if err := os.Mkdir(filepath.Join(work, d), 0o755); err != nil {
							t.Fatal(err)
						}
						if err := os.Chown(filepath.Join(work, d), nobody, nobody); err != nil {
							t.Fatal(err)
						}
					}
					f := &faults{kind: kind, errno: syscall.EIO}
					f.at.Store(at)
					dirs := map[string]string{"output": filepath.Join(work, "out"), "cache": filepath.Join(work, "cache")}
					dir, done := faulty(t, dirs[place], f)
					below := dirs[place]
					dirs[place] = dir
					code, stderr := imgbuild(t, work, "--output", dirs["output"], "--cache", dirs["cache"], "--type", "qcow2", source)
					done()
					dirs[place] = below
					if code == 0 {
						// There are fewer operations of the kind, or the fault did not
						// matter: then the disk is right.
						if f.seen.Load() >= at && place == "output" && kind != "fsync" && kind != "read" {
							t.Errorf("the fault was not noticed")
						}
						if digest(t, filepath.Join(work, "out/qcow2/disk.qcow2")) != want {
							t.Errorf("the disk is wrong, and exit is 0")
						}
						return
					}
					if code != 8 || strings.Count("\n"+stderr, "\nimgbuild: ")-strings.Count(stderr, "imgbuild: warning: ") != 1 || !strings.Contains(stderr, "input/output error") {
						t.Errorf("exit %d:\n%s", code, stderr)
					}
					nothingOf(t, work)
					if code, stderr := imgbuild(t, work, "--output", dirs["output"], "--cache", dirs["cache"], "--type", "qcow2", source); code != 0 {
						t.Fatalf("afterwards: exit %d: %s", code, stderr)
					}
					if digest(t, filepath.Join(work, "out/qcow2/disk.qcow2")) != want {
						t.Errorf("afterwards the disk differs")
					}
				})
			}
		}
	}
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}
