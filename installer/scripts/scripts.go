// Package scripts runs the scripts of a kickstart: %pre in the installer before the
// disk is touched, %post in the system that was installed, or with --nochroot in the
// installer beside it.
//
// The order and the surroundings are Anaconda's: a script is a file that its
// interpreter gets as its argument; what it prints goes to its --log and to the
// installer's own log; a failure ends the installation where --erroronfail says so,
// and is noted otherwise. For %post the installed system is at [Sysroot], with /var,
// /boot, the EFI system partition and every other file system of the layout where the
// running system has them, and with /proc, /sys, /dev, /run and /tmp; /usr is
// read-only, as it will be. The physical root file system is at [Sysimage], and in the
// system at /sysroot. Afterwards, what scripts made in /etc and /var without an
// SELinux label gets the one of the system's policy.
//
// Scripts run on Linux only.
package scripts

import (
	"errors"
	"fmt"
	"io"
	"path"

	"imgbuild/fault"
	"imgbuild/kickstart"
	"imgbuild/pipeline"
)

// Where the installed system is while %post runs, as with Anaconda.
const (
	Sysroot  = "/mnt/sysroot"
	Sysimage = "/mnt/sysimage"
)

// Options say how scripts run.
type Options struct {
	// Output gets what scripts print, and notes about them. nil discards it.
	Output io.Writer
	// Dir is put before [Sysroot] and [Sysimage]; "" is none. It is for tests.
	Dir string
}

func (o *Options) output() io.Writer {
	if o.Output == nil {
		return io.Discard
	}
	return o.Output
}

// Target is an installed system on disks that nothing uses any more.
type Target struct {
	// Mounts are its file systems, that of / first, then as they depend on each other.
	Mounts []Mount
	// Deployment is the directory of the deployment, and Var that of its /var, below /
	// of the root file system.
	Deployment, Var string
}

// Mount is a file system of a target.
type Mount struct {
	Source  string // a block device
	Type    string // as the kernel calls it
	Options string // as mount(8) takes them with -o
	Where   string // in the running system
}

// NewTarget returns the system that an installation by a plan leaves. device returns
// the path of the partition with a number.
func NewTarget(p *pipeline.Plan, device func(number int) string) (*Target, error) {
	t := &Target{
		Deployment: path.Join("ostree/deploy", p.Stateroot, "deploy", p.Commit+".0"),
		Var:        path.Join("ostree/deploy", p.Stateroot, "var"),
	}
	for _, q := range p.Disk.Partitions {
		if q.FileSystem == "swap" || q.FileSystem == "" {
			continue
		}
		m := Mount{Source: device(q.Number), Type: q.FileSystem}
		if q.Mount != "" {
			m.Where = q.Mount
			t.Mounts = append(t.Mounts, m)
		}
		for _, s := range q.Subvolumes {
			if s.Mount != "" {
				m.Where, m.Options = s.Mount, "subvol="+s.Name
				t.Mounts = append(t.Mounts, m)
			}
		}
	}
	t.sort()
	if len(t.Mounts) == 0 || t.Mounts[0].Where != "/" {
		return nil, fault.New(fault.Internal, errors.New("the plan has no root file system"), "")
	}
	return t, nil
}

// failure returns the error of a script.
func failure(s *kickstart.Script, err error) error {
	return fmt.Errorf("%s in line %d of the kickstart: %w", s.Section(), s.Line, err)
}
