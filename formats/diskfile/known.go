package diskfile

import (
	"io"
	"os"

	"imgbuild/formats/input"
	"imgbuild/formats/qcow2"
	"imgbuild/formats/vdi"
	"imgbuild/formats/vhd"
	"imgbuild/formats/vhdx"
	"imgbuild/formats/vmdk"
)

// format is a format that is read.
type format struct {
	name string
	// wrapper says that there is another format in it; whoever names a format
	// names that.
	wrapper bool
	probe   func(p *part) bool
	open    func(o *opener, p *part) error
}

// Formats lists the formats that a disk can be said to have.
func Formats() []string {
	var names []string
	for _, k := range known() {
		if !k.wrapper {
			names = append(names, k.name)
		}
	}
	return names
}

// known lists all formats. What comes first is tried first.
func known() []format {
	plain := func(open func(*input.File) (*input.Disk, error)) func(*opener, *part) error {
		return func(o *opener, p *part) (err error) {
			o.disk.Disk, err = open(p.File)
			return err
		}
	}
	head := func(probe func([]byte) bool) func(*part) bool {
		return func(p *part) bool { return probe(p.head) }
	}
	return []format{
		{"gzip", true, magic("\x1f\x8b\x08"), (*opener).openGzip},
		{"xz", true, magic("\xfd7zXZ\x00"), (*opener).openXZ},
		{"zstd", true, magic("\x28\xb5\x2f\xfd"), (*opener).openZstd},
		{"tar", true, isTar, (*opener).openTar},
		{"qcow2", false, head(qcow2.Probe), plain(qcow2.Open)},
		{"vmdk", false, head(vmdk.Probe), (*opener).openVMDK},
		{"vhdx", false, head(vhdx.Probe), plain(vhdx.Open)},
		{"vdi", false, head(vdi.Probe), plain(vdi.Open)},
		{"vhd", false, func(p *part) bool { return vhd.Probe(p.File, p.head) }, plain(vhd.Open)},
		{"raw", false, nil, (*opener).openRaw},
	}
}

// magic returns the probe of files that begin with s.
func magic(s string) func(*part) bool {
	return func(p *part) bool { return len(p.head) >= len(s) && string(p.head[:len(s)]) == s }
}

// openVMDK opens a VMware disk, whose descriptor may name other files beside it.
func (o *opener) openVMDK(p *part) (err error) {
	var openFile vmdk.OpenFile
	if p.beside != "" {
		openFile = func(name string) (*input.File, error) { return o.openBeside(p.beside, name) }
	}
	o.disk.Disk, err = vmdk.Open(p.File, openFile)
	return err
}

// openBeside opens a file in a directory, which it is not led out of by links.
func (o *opener) openBeside(dir, name string) (*input.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, notFound(err)
	}
	defer root.Close()
	f, size, err := o.openIn(root, name)
	if err != nil {
		return nil, notFound(err)
	}
	return input.NewFile(f, size), nil
}

// openIn opens a regular file in a directory, and returns its size. It is closed
// with the disk.
func (o *opener) openIn(root *os.Root, name string) (*os.File, int64, error) {
	// Opening a pipe would wait for somebody to write to it.
	info, err := root.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = input.Bad("%s is no regular file", name)
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	o.disk.closers = append(o.disk.closers, f)
	size, err := f.Seek(0, io.SeekEnd)
	return f, size, err
}
