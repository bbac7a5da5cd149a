// Package installer installs the image of an installation medium: it is what runs
// as the first process of a machine that was started from one.
//
// Its questions and answers are a state machine over two interfaces, [Machine] and
// [Console], so that all of it can be driven in memory; what is special to Linux as
// process 1 is in the files *_linux.go.
//
// What to do is settled by, the first that says something: the kernel command line
// (imgbuild.target=SPEC, imgbuild.unattended, imgbuild.wipe, imgbuild.rootfs=TYPE,
// imgbuild.seed=TEXT, imgbuild.reboot=reboot|poweroff|halt|ask, imgbuild.check,
// imgbuild.shell), the settings on the medium (package settings), its kickstart, and
// its description (package medium).
//
// Nothing is erased without somebody's word: a person types yes after reading what
// is on the disk, or the medium is for unattended installation and names a disk by a
// rule that only one disk meets. The medium itself is never a target, and without a
// word of consent neither is a disk that holds data.
package installer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"imgbuild/blockdev"
	"imgbuild/fault"
	"imgbuild/installer/medium"
	"imgbuild/kickstart"
	"imgbuild/pipeline"
)

// Machine is what the installer needs of the machine it runs on.
type Machine interface {
	// Disks lists what can be installed to, and what cannot with the reason.
	Disks(ctx context.Context) ([]blockdev.Disk, error)
	// Select returns the disk of the list that a selection means.
	Select(disks []blockdev.Disk, s blockdev.Selection) (blockdev.Disk, error)
	// MediumDisk is the name of the disk that the medium is on, "" where it is on
	// none.
	MediumDisk() string
	// CheckMedium reads the medium and compares it with its checksum. The error is
	// errNetwork where there is none.
	CheckMedium(ctx context.Context, progress func(done, total int64)) error
	// Install installs. The disk is the one that was chosen.
	Install(ctx context.Context, job *Job, p pipeline.Progress) error
	// Shell gives whoever answered last a shell, until that ends.
	Shell(ctx context.Context) error
	// SaveLog keeps the log where it survives, and says where, or "".
	SaveLog(log []byte) string
}

// Console is everything that people at the machine see and type.
type Console interface {
	io.Writer
	// ReadLine returns a line, without what ended it. Of a secret nothing is shown.
	ReadLine(ctx context.Context, secret bool) (string, error)
}

// Job is an installation that is decided.
type Job struct {
	Options pipeline.Options
	Disk    blockdev.Disk
	// Kickstart has the scripts to run, nil without.
	Kickstart *kickstart.File
	Output    io.Writer // of the scripts
}

// End is what the machine does when the installer is done.
type End = kickstart.End

// Installer is one run.
type Installer struct {
	Machine     Machine
	Description *medium.Description
	Orders      Orders
	// Clock returns the time that has passed since some moment, in seconds.
	Clock func() float64

	console Console
	log     *log
	job     Job
	done    bool // the disk is installed
}

// Run installs, and returns what comes then. The error is that of the console: there
// is nobody left to say it to.
func (in *Installer) Run(ctx context.Context, c Console) (End, error) {
	in.log = &log{}
	in.console = &teed{c, in.log}
	in.say("\n%s\nImage %s (%s)\n", title(in.Description), in.Description.Image.Reference, short(in.Description.Image.Digest))
	if in.Orders.Shell {
		if err := in.Machine.Shell(ctx); err != nil {
			in.say("%v\n", err)
		}
	}
	if in.Orders.Check {
		if err := in.check(ctx); err != nil {
			return in.failed(ctx, err)
		}
	}
	return in.start(ctx)
}

// start decides what is done, does it, and ends.
func (in *Installer) start(ctx context.Context) (End, error) {
	err := in.decide(ctx)
	var end ended
	switch {
	case errors.As(err, &end):
		return end.how, nil
	case errors.Is(err, errConsole) || ctx.Err() != nil:
		return "", err
	case err != nil:
		return in.failed(ctx, err)
	}
	if err := in.install(ctx); err != nil {
		return in.failed(ctx, err)
	}
	return in.finish(ctx)
}

// decide fills in the job.
func (in *Installer) decide(ctx context.Context) error {
	options, err := Options(in.Description, medium.Mount)
	if err != nil {
		return err
	}
	in.job = Job{Options: *options, Kickstart: in.Orders.Kickstart, Output: in.console}
	if err := in.Orders.apply(&in.job.Options); err != nil {
		return err
	}
	if in.Orders.Unattended {
		return in.unattended(ctx)
	}
	return in.attended(ctx)
}

// unattended chooses the disk by the rules.
func (in *Installer) unattended(ctx context.Context) error {
	in.say("\nUnattended installation to %s\n", in.Orders.Target)
	disks, err := in.Machine.Disks(ctx)
	if err != nil {
		return err
	}
	d, err := in.Machine.Select(disks, in.selection(in.Orders.Target, in.Orders.Wipe))
	if err != nil {
		return err
	}
	if err := in.Orders.forbidden(d); err != nil {
		return err
	}
	in.job.Disk = d
	in.say("Installing to %s, which holds: %s\n", describe(d), d.Content)
	return nil
}

// selection returns a selection with what holds for all of them.
func (in *Installer) selection(spec string, wipe bool) blockdev.Selection {
	s := blockdev.Selection{Spec: spec, Wipe: wipe, Need: in.Description.MinimumDisk}
	if name := in.Machine.MediumDisk(); name != "" {
		s.Except = append(s.Except, name)
	}
	return s
}

// check reads the whole medium.
func (in *Installer) check(ctx context.Context) error {
	p := in.newProgress()
	p.Stage("Checking the medium", 0)
	last := int64(0)
	err := in.Machine.CheckMedium(ctx, func(done, total int64) {
		p.total(total)
		p.Advance(done - last)
		last = done
	})
	p.end()
	if errors.Is(err, errNetwork) {
		in.say("The medium has no checksum: %v.\n", err)
		return nil
	}
	if err != nil {
		return fault.New(fault.BadImage, fmt.Errorf("the medium is damaged: %w", err), "write it again, or use another one")
	}
	in.say("The medium is sound.\n")
	return nil
}

// install does the job.
func (in *Installer) install(ctx context.Context) error {
	p := in.newProgress()
	err := in.Machine.Install(ctx, &in.job, p)
	p.end()
	return err
}

// finish says that all is done, and does what was ordered or is asked for.
func (in *Installer) finish(ctx context.Context) (End, error) {
	in.done = true
	in.say("\nInstalled to %s.\n", describe(in.job.Disk))
	in.saveLog()
	end := in.Orders.End
	if end == kickstart.EndAsk && in.Orders.Unattended {
		end = kickstart.EndReboot
	}
	if end != kickstart.EndAsk {
		return end, nil
	}
	return in.askEnd(ctx, "")
}

// failed says why nothing more is done. What was ordered for the end is not done:
// a machine that starts its installer again and again helps nobody.
func (in *Installer) failed(ctx context.Context, err error) (End, error) {
	in.say("\nThe installation failed: %v\n", err)
	for _, line := range fault.DetailsOf(err) {
		in.say("  %s\n", line)
	}
	if hint := fault.HintOf(err); hint != "" {
		in.say("hint: %s\n", hint)
	}
	in.saveLog()
	return in.askEnd(ctx, "t) try again  ")
}

// saveLog keeps the log where the medium has room.
func (in *Installer) saveLog() {
	if where := in.Machine.SaveLog(in.log.bytes()); where != "" {
		in.say("The log of this is in %s.\n", where)
	}
}

// ended is the error of a dialogue that somebody ended.
type ended struct{ how End }

func (ended) Error() string { return "ended" }

func (in *Installer) say(format string, args ...any) {
	fmt.Fprintf(in.console, "%s", printable(fmt.Sprintf(format, args...)))
}
