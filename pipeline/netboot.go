package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/formats/iso"
	"imgbuild/initramfs"
	"imgbuild/installer/medium"
	"imgbuild/tree"
)

// Files of a directory that machines start from over a network.
const (
	netbootScript = "boot.ipxe"
	netbootKernel = "vmlinuz"
	netbootInitrd = "initrd.img"
	netbootMedium = "medium.cpio"
)

// netboot is what the installer starts from over a network: the kernel, the
// initramfs, and all that is on an installation medium as a second one.
type netboot struct {
	script []byte
	kernel content.Ref
	initrd content.Ref
	medium []netbootEntry
}

// netbootEntry is a file or directory of the medium.
type netbootEntry struct {
	name string // in the archive
	dir  bool
	data content.Ref
	iso.Stream
}

// createNetboot makes the directory. One that has other files as well is somebody's
// own: what it is served from is no place to empty.
func createNetboot(path string) (*artefact, error) {
	own := []string{netbootScript, netbootKernel, netbootInitrd, netbootMedium}
	return createDir(path, "directory of type pxe alone", func(names []string) bool {
		return slices.Contains(names, netbootScript) && !slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(own, n) })
	})
}

// newNetboot puts together what the installer starts from over a network.
func (b *build) newNetboot(ctx context.Context, asked *frozen, p Progress) (*netboot, error) {
	t, d, err := b.newInstallMedium(ctx, asked, p)
	if err != nil {
		return nil, err
	}
	n := &netboot{script: ipxeScript(printableTitle(d.Title), d.Arch, installTimeout(&asked.options))}
	for _, f := range []struct {
		path string
		ref  *content.Ref
	}{{medium.Kernel, &n.kernel}, {medium.Initrd, &n.initrd}} {
		*f.ref = tree.Lookup(t.root, f.path).Content
	}
	err = tree.Walk(t.root, func(path string, i *tree.Inode) error {
		e := netbootEntry{name: strings.TrimSuffix(strings.TrimPrefix(medium.InMemory, "/")+path, "/"), dir: i.IsDir(), data: i.Content}
		e.Size = i.Content.Size()
		if s, ok := t.options.Streams[i]; ok {
			e.Stream = s
		}
		switch {
		case path == "/"+medium.Kernel || path == "/"+medium.Initrd:
			return nil
		case e.Size > math.MaxUint32:
			return fault.New(fault.Unsupported, fmt.Errorf("%s has %d bytes, and an initramfs holds files of less than 4 GiB", path, e.Size),
				"build the image of smaller layers, or take --type iso")
		}
		n.medium = append(n.medium, e)
		return nil
	})
	return n, err
}

// ipxeScript returns the script that iPXE runs. The kernel finds the two archives by
// the names that it is told where it starts as an EFI program. The menu waits so many
// seconds.
func ipxeScript(title, arch string, timeout int) []byte {
	serial := "console=ttyS0,115200"
	if arch == "arm64" {
		serial = "console=ttyAMA0,115200"
	}
	entries := []struct{ key, text, args string }{
		{"screen", "Install " + title, ""},
		{"serial", "Install " + title + " (serial console)", " console=tty0 " + serial},
		{"shell", "Shell of the installer", " imgbuild.shell"},
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#!ipxe\n# Starts the installer of %s. Written by imgbuild.\nmenu %s\n", title, title)
	for _, e := range entries {
		fmt.Fprintf(&b, "item %s %s\n", e.key, e.text)
	}
	if timeout == 0 {
		b.WriteString("goto screen\n") // to choose, 0 is for ever
	} else {
		fmt.Fprintf(&b, "choose --default screen --timeout %d target && goto ${target} || exit 1\n", 1000*timeout)
	}
	for _, e := range entries {
		fmt.Fprintf(&b, ":%s\nset more%s\ngoto start\n", e.key, e.args)
	}
	fmt.Fprintf(&b, ":start\nkernel %[1]s initrd=%[2]s initrd=%[3]s %[4]s ${more} ${imgbuild} || goto failed\n"+
		"initrd --name %[2]s %[2]s || goto failed\ninitrd --name %[3]s %[3]s || goto failed\nboot || goto failed\n"+
		":failed\necho The installer could not be loaded. A machine with more memory may be needed.\nshell\n",
		netbootKernel, netbootInitrd, netbootMedium, strings.Join(installerArguments(), " "))
	return []byte(b.String())
}

// size implements product.
func (n *netboot) size() (int64, error) {
	return int64(len(n.script)) + n.kernel.Size() + n.initrd.Size() + n.archiveSize(), nil
}

// archiveSize returns the length of the archive with the medium, in bytes.
func (n *netboot) archiveSize() int64 {
	size := initramfs.EndSize()
	for _, e := range n.medium {
		size += initramfs.EntrySize(e.name, e.Size)
	}
	return size
}

// write implements product.
func (n *netboot) write(ctx context.Context, a *artefact, progress func(done int64)) error {
	done := int64(0)
	for _, f := range []struct {
		name  string
		write func(w io.Writer) error
	}{
		{netbootScript, func(w io.Writer) error { _, err := w.Write(n.script); return err }},
		{netbootKernel, func(w io.Writer) error { _, err := io.Copy(w, n.kernel.Reader()); return err }},
		{netbootInitrd, func(w io.Writer) error { _, err := io.Copy(w, n.initrd.Reader()); return err }},
		{netbootMedium, func(w io.Writer) error { return n.archive(ctx, w) }},
	} {
		err := writeDurable(filepath.Join(a.temp, f.name), func(w io.Writer) error {
			return f.write(&countingWriter{ctx, w, &done, progress})
		})
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, outputError(err))
		}
	}
	return nil
}

// archive writes the medium.
func (n *netboot) archive(ctx context.Context, w io.Writer) error {
	z := initramfs.NewWriter(w)
	for _, e := range n.medium {
		err := func() error {
			if e.dir {
				return z.Dir(e.name)
			}
			if e.Open == nil {
				return z.File(e.name, e.Size, e.data.Reader())
			}
			r, err := e.Open(ctx)
			if err != nil {
				return err
			}
			defer r.Close()
			if err := z.File(e.name, e.Size, r); err != nil {
				return err
			}
			// Its end is where it is verified.
			if k, err := io.Copy(io.Discard, io.LimitReader(r, 1)); err != nil || k != 0 {
				return errors.Join(err, fmt.Errorf("%s: more than %d bytes, or another digest", e.name, e.Size))
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return z.Close()
}

// writeDurable writes a new file.
func writeDurable(name string, write func(w io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// countingWriter tells of what is written, and ends with its context.
type countingWriter struct {
	ctx      context.Context
	w        io.Writer
	done     *int64
	progress func(int64)
}

func (c *countingWriter) Write(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(b)
	*c.done += int64(n)
	c.progress(*c.done)
	return n, err
}
