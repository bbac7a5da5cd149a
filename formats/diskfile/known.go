package diskfile

import (
	"imgbuild/formats/input"
	"imgbuild/formats/qcow2"
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
		{"raw", false, nil, (*opener).openRaw},
	}
}

// magic returns the probe of files that begin with s.
func magic(s string) func(*part) bool {
	return func(p *part) bool { return len(p.head) >= len(s) && string(p.head[:len(s)]) == s }
}
