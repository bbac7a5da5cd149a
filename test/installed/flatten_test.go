//go:build linux

package installed

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// What follows reads an image with an encapsulated base without the code under
// test: with the standard library's tar, on disk, as root.

// layersOf reads an OCI layout: the labels, and the tars of its layers.
func layersOf(t *testing.T, layout string) (labels map[string]string, base int, open []func() *tar.Reader) {
	t.Helper()
	blob := func(digest string) string {
		return filepath.Join(layout, "blobs/sha256", strings.TrimPrefix(digest, "sha256:"))
	}
	var manifest struct {
		Config struct{ Digest string }
		Layers []struct{ MediaType, Digest string }
	}
	readJSON(t, blob(manifestDigest(t, layout)), &manifest)
	var config struct {
		Config struct{ Labels map[string]string }
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	readJSON(t, blob(manifest.Config.Digest), &config)
	for _, l := range manifest.Layers {
		open = append(open, func() *tar.Reader {
			f, err := os.Open(blob(l.Digest))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			var r io.Reader
			if strings.HasSuffix(l.MediaType, "zstd") {
				r, err = zstd.NewReader(f)
			} else {
				r, err = gzip.NewReader(f)
			}
			if err != nil {
				t.Fatal(err)
			}
			return tar.NewReader(r)
		})
	}
	labels = config.Config.Labels
	return labels, slices.Index(config.RootFS.DiffIDs, labels["ostree.final-diffid"]) + 1, open
}

// entries calls fn for every entry of a tar.
func entries(t *testing.T, r *tar.Reader, fn func(name string, h *tar.Header) error) {
	t.Helper()
	for {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err == nil {
			err = fn(strings.Trim(strings.TrimPrefix(h.Name, "./"), "/"), h)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// unpackEntry writes an entry to path as root does.
func unpackEntry(path string, h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeSymlink {
		if err := os.Symlink(h.Linkname, path); err != nil {
			return err
		}
		return os.Lchown(path, h.Uid, h.Gid)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return setMeta(path, h)
}

func setMeta(path string, h *tar.Header) error {
	if err := os.Lchown(path, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := unix.Chmod(path, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && name != "security.selinux" {
			if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// assembleBase puts the repository together that the base layers hold, as the
// real tool would have written it, in repo.
func assembleBase(t *testing.T, layers []func() *tar.Reader, repo string) {
	t.Helper()
	run(t, "ostree", "init", "--mode=bare", "--repo="+repo)
	object := regexp.MustCompile(`^sysroot/ostree/repo/objects/(..)/(.{62})\.([a-z.-]+)$`)
	for _, open := range layers {
		variants := sidecars(t, open())
		r := open()
		entries(t, r, func(name string, h *tar.Header) error {
			m := object.FindStringSubmatch(name)
			if m == nil || h.Typeflag == tar.TypeDir || strings.Contains(m[3], "xattrs") {
				return nil
			}
			path := filepath.Join(repo, "objects", m[1], m[2]+"."+m[3])
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if _, err := os.Lstat(path); err == nil {
				return nil // in an earlier layer already
			}
			h.PAXRecords = nil // the xattrs of an object stand beside it
			if err := unpackEntry(path, h, r); err != nil || m[3] != "file" {
				return err
			}
			stem := strings.TrimSuffix(name, ".file")
			variant, ok := variants[stem+".file-xattrs-link"]
			if !ok {
				variant = variants[stem+".file.xattrs"]
			}
			for key, value := range pairs(variant) {
				if err := unix.Lsetxattr(path, key, []byte(value), 0); err != nil {
					return fmt.Errorf("%s: %w", key, err)
				}
			}
			return nil
		})
	}
}

// sidecars returns what the xattrs entries of a layer hold, by their names.
func sidecars(t *testing.T, r *tar.Reader) map[string][]byte {
	t.Helper()
	variants, links := map[string][]byte{}, map[string]string{}
	entries(t, r, func(name string, h *tar.Header) error {
		if !strings.Contains(name, "xattrs") || !strings.HasPrefix(name, "sysroot/ostree/repo/") {
			return nil
		}
		if h.Typeflag == tar.TypeLink {
			links[name] = h.Linkname
			return nil
		}
		b, err := io.ReadAll(r)
		variants[name] = b
		return err
	})
	for name, target := range links {
		variants[name] = variants[target]
	}
	return variants
}

// pairs reads a GVariant a(ayay).
func pairs(b []byte) map[string]string {
	width := func(n int) int {
		if n < 1<<8 {
			return 1
		}
		return 2
	}
	number := func(b []byte) (v int) {
		for k, c := range b {
			v |= int(c) << (8 * k)
		}
		return v
	}
	out := map[string]string{}
	if len(b) == 0 {
		return out
	}
	w := width(len(b))
	table := number(b[len(b)-w:])
	start := 0
	for at := table; at < len(b); at += w {
		one := b[start:number(b[at:at+w])]
		start = number(b[at : at+w])
		value := number(one[len(one)-width(len(one)):])
		out[string(one[:value-1])] = string(one[value : len(one)-width(len(one))])
	}
	return out
}

// flatten lays the layers above the base over a checkout of it, on disk, by the
// rules of bootc.
func flatten(t *testing.T, root string, layers []func() *tar.Reader, all bool) {
	t.Helper()
	for k, open := range layers {
		// What a layer hides is that of the layers below it.
		entries(t, open(), func(name string, h *tar.Header) error {
			name, ok := inCommit(name, all)
			base := filepath.Base(name)
			if !ok || !strings.HasPrefix(base, ".wh.") {
				return nil
			}
			dir := filepath.Join(root, filepath.Dir(name))
			if base != ".wh..wh..opq" {
				return os.RemoveAll(filepath.Join(dir, strings.TrimPrefix(base, ".wh.")))
			}
			hidden, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
				return err
			}
			for _, e := range hidden {
				if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
					return err
				}
			}
			return nil
		})
		r := open()
		written := map[string]bool{}
		entries(t, r, func(name string, h *tar.Header) error {
			name, ok := inCommit(name, all)
			if !ok || strings.HasPrefix(filepath.Base(name), ".wh.") {
				return nil
			}
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return fmt.Errorf("layer %d: %w", k, err)
			}
			old, err := os.Lstat(path)
			switch {
			case h.Typeflag == tar.TypeDir && err == nil && old.IsDir():
				if written[name] {
					return setMeta(path, h)
				}
				return nil // a directory keeps what the first layer says of it
			case err == nil:
				if err := os.RemoveAll(path); err != nil {
					return err
				}
			}
			if h.Typeflag == tar.TypeDir {
				written[name] = true
				if err := os.Mkdir(path, 0o755); err != nil {
					return err
				}
				return setMeta(path, h)
			}
			if h.Typeflag == tar.TypeLink {
				target, _ := inCommit(strings.Trim(strings.TrimPrefix(h.Linkname, "./"), "/"), true)
				return os.Link(filepath.Join(root, target), path)
			}
			return unpackEntry(path, h, r)
		})
	}
	for _, name := range []string{"usr/etc/hostname", "usr/etc/resolv.conf"} {
		if info, err := os.Lstat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			if err := os.Remove(filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// inCommit returns where a path of a layer is in the commit, and whether it is
// there at all.
func inCommit(name string, all bool) (string, bool) {
	top, below, deeper := strings.Cut(name, "/")
	switch top {
	case "", ".":
		return ".", true
	case "etc":
		return "usr/" + name, true
	case "usr", "var":
		return name, true
	case "run", "tmp", "proc", "sys", "dev":
		return name, !deeper || below == ""
	}
	return name, all && !strings.HasPrefix(name, "sysroot/ostree/repo/")
}
