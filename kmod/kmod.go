// Package kmod chooses the kernel modules that a small system needs to get at
// disks and media, and finds the one for a device at run time.
//
// What a module needs and serves is taken from the modules themselves: the
// section .modinfo of the ELF file (include/linux/moduleinfo.h: name, alias,
// depends, softdep, firmware), plain or compressed with gzip, xz or zstd, and the
// lists modules.builtin of what the kernel has without modules. The files of
// depmod are not needed, and not trusted.
package kmod

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"imgbuild/content"
	"imgbuild/tree"
	"imgbuild/xz"
)

// maxModule bounds an uncompressed module in bytes; the largest have 15 MiB, or
// 100 MiB with debugging information.
const maxModule = 256 << 20

// maxTotal bounds all chosen modules together, uncompressed, in bytes, and their
// firmware as well. A choice from a distribution's kernel has 40 to 70 MiB.
const maxTotal = 1 << 30

// maxModules bounds the number of module files of a kernel; the largest
// distribution kernels have 5,000.
const maxModules = 1 << 16

// Module is a kernel module.
type Module struct {
	Name    string      // as the kernel has it, with underscores
	Path    string      // below usr/lib/modules/VERSION, without an ending for compression
	Content content.Ref // uncompressed, signature included
	info
}

// Kernel is the modules of one kernel version.
type Kernel struct {
	files   map[string]moduleFile // by name
	builtin map[string]bool       // names of what is part of the kernel
}

// moduleFile is where a module is.
type moduleFile struct {
	path  string // below the kernel's directory
	inode *tree.Inode
}

// Open lists the modules in dir, the directory usr/lib/modules/VERSION of an
// image. No module is read.
func Open(dir *tree.Inode) (*Kernel, error) {
	k := &Kernel{files: map[string]moduleFile{}, builtin: map[string]bool{}}
	err := tree.Walk(dir, func(p string, i *tree.Inode) error {
		name, ok := moduleName(p)
		if !ok || !i.IsFile() {
			return nil
		}
		if len(k.files) == maxModules {
			return fmt.Errorf("more than %d kernel modules", maxModules)
		}
		rel := p[1:]
		// As depmod.d has it by default: what is below updates comes first.
		if old, double := k.files[name]; double && (strings.HasPrefix(old.path, "updates/") || !strings.HasPrefix(rel, "updates/")) {
			return nil
		}
		k.files[name] = moduleFile{rel, i}
		return nil
	})
	if err != nil {
		return nil, err
	}
	const list = "modules.builtin"
	if i := dir.Child(list); i != nil && i.IsFile() {
		text, err := i.Content.ReadAll(4 << 20)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		for line := range strings.Lines(string(text)) {
			if name, ok := moduleName(strings.TrimSpace(line)); ok {
				k.builtin[name] = true
			}
		}
	}
	return k, nil
}

// Has tells whether the kernel has what the module called name does, as a module
// or built in.
func (k *Kernel) Has(name string) bool {
	_, ok := k.files[name]
	return ok || k.builtin[name]
}

// moduleName returns the name that the kernel has for the module in a file.
func moduleName(file string) (name string, ok bool) {
	base := path.Base(file)
	for _, end := range []string{"", ".xz", ".gz", ".zst"} {
		if name, ok := strings.CutSuffix(base, ".ko"+end); ok && name != "" {
			return underscores(name), true
		}
	}
	return "", false
}

func underscores(s string) string { return strings.ReplaceAll(s, "-", "_") }

// read reads the modules of those names side by side, and takes what they have from
// the bytes that are left for all of them.
func (k *Kernel) read(ctx context.Context, names []string, left *atomic.Int64) ([]*Module, error) {
	list := make([]*Module, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for n, name := range names {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f := k.files[name]
			m, err := readModule(f)
			if err != nil {
				return fmt.Errorf("kernel module %s: %w", f.path, err)
			}
			if left.Add(-m.Content.Size()) < 0 {
				return fmt.Errorf("the kernel modules for disks take more than %d bytes", maxTotal)
			}
			m.Name, list[n] = name, m
			return nil
		})
	}
	return list, g.Wait()
}

// readModule reads one module.
func readModule(f moduleFile) (*Module, error) {
	data, err := decompress(f)
	if err != nil {
		return nil, err
	}
	m := &Module{Path: f.path, Content: content.Bytes(data)}
	if dot := strings.LastIndex(f.path, ".ko"); dot >= 0 {
		m.Path = f.path[:dot+len(".ko")]
	}
	if m.info, err = readInfo(bytes.NewReader(data)); err != nil {
		return nil, err
	}
	return m, nil
}

// decompress returns the plain module.
func decompress(f moduleFile) ([]byte, error) {
	// The xz decoder reads byte by byte.
	var r io.Reader = bufio.NewReaderSize(f.inode.Content.Reader(), 64<<10)
	switch path.Ext(f.path) {
	case ".xz":
		// Kernels' own modules have 1 or 2 MiB, xz -9 makes 64 MiB.
		z, err := xz.NewReader(r, 64<<20)
		if err != nil {
			return nil, err
		}
		r = z
	case ".gz":
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = z
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	}
	data, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > maxModule:
		return nil, fmt.Errorf("more than %d bytes", maxModule)
	case len(data) == 0:
		return nil, errors.New("the file is empty")
	}
	return slices.Clip(data), nil
}
