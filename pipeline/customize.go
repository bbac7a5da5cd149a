package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"imgbuild/blueprints"
	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/customize/accounts"
	"imgbuild/customize/certs"
	"imgbuild/customize/clock"
	"imgbuild/customize/console"
	"imgbuild/customize/dnf"
	"imgbuild/customize/files"
	"imgbuild/customize/fips"
	"imgbuild/customize/firewalld"
	"imgbuild/customize/firstboot"
	"imgbuild/customize/hostname"
	"imgbuild/customize/ignition"
	"imgbuild/customize/locale"
	"imgbuild/customize/sshd"
	"imgbuild/customize/units"
	"imgbuild/fault"
	"imgbuild/tree"
)

// customization is what the customizations of a build come to.
type customization struct {
	effects  customize.Effects
	warnings []string
	source   files.Source
}

// step applies one kind of customization.
type step struct {
	apply func(ctx context.Context, s *customize.System) (customize.Effects, []error, error)
	// needs is the step without which this one would complain of what is missing.
	needs, name string
}

// steps returns what is to be done, in the order it is to be done in: owners of
// files are looked up, and units may be among the files.
func (c *customization) steps(config *blueprints.Config) []step {
	var list []step
	// The two kinds of functions that apply something.
	plain := func(apply func(*customize.System) (customize.Problems, error)) {
		list = append(list, step{apply: func(_ context.Context, s *customize.System) (customize.Effects, []error, error) {
			warnings, err := apply(s)
			return customize.Effects{}, warnings.Unwrap(), err
		}})
	}
	effective := func(apply func(*customize.System) (customize.Effects, customize.Problems, error)) {
		list = append(list, step{apply: func(_ context.Context, s *customize.System) (customize.Effects, []error, error) {
			effects, warnings, err := apply(s)
			return effects, warnings.Unwrap(), err
		}})
	}
	s := config.Settings()
	if len(s.Users)+len(s.Groups) > 0 {
		list = append(list, step{name: "accounts", apply: func(_ context.Context, sys *customize.System) (customize.Effects, []error, error) {
			warnings, err := accounts.Apply(sys, s.Users, s.Groups)
			return customize.Effects{}, warnings.Unwrap(), err
		}})
	}
	if s.Files != nil {
		list = append(list, step{name: "files", needs: "accounts", apply: func(ctx context.Context, sys *customize.System) (customize.Effects, []error, error) {
			warnings, err := files.Apply(ctx, sys, *s.Files, files.Options{Allow: config.Options.AllowPaths}, c.source)
			return customize.Effects{}, warnings.Unwrap(), err
		}})
	}
	if s.Hostname != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return hostname.Apply(sys, *s.Hostname) })
	}
	if s.Clock != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return clock.Apply(sys, *s.Clock) })
	}
	if s.Locale != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return locale.Apply(sys, *s.Locale) })
	}
	if s.Firewall != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return firewalld.Apply(sys, *s.Firewall) })
	}
	if s.SSHD != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return sshd.Apply(sys, *s.SSHD) })
	}
	if s.Certs != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return certs.Apply(sys, *s.Certs) })
	}
	if s.DNF != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return dnf.Apply(sys, *s.DNF) })
	}
	if s.FIPS != nil {
		effective(func(sys *customize.System) (customize.Effects, customize.Problems, error) {
			return fips.Apply(sys, *s.FIPS)
		})
	}
	if s.Ignition != nil {
		effective(func(sys *customize.System) (customize.Effects, customize.Problems, error) {
			return ignition.Apply(sys, *s.Ignition)
		})
	}
	if s.Console != nil {
		effective(func(sys *customize.System) (customize.Effects, customize.Problems, error) {
			return console.Apply(sys, *s.Console)
		})
	}
	if s.Firstboot != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return firstboot.Apply(sys, *s.Firstboot) })
	}
	if s.Units != nil {
		plain(func(sys *customize.System) (customize.Problems, error) { return units.Apply(sys, *s.Units) })
		list[len(list)-1].needs = "files"
	}
	return list
}

// rehearse applies the customizations to a copy of what will be deployed: what is
// wrong with them is all said at once and before anything is made, and their
// effects outside of /etc and /var are known before these are needed.
func (d *disks) rehearse(ctx context.Context, source files.Source, sys *system, o *Options, id identity, p Progress) error {
	if o.Config == nil {
		return nil
	}
	d.custom.source = source
	for {
		before := len(o.Config.Ignored)
		problems, err := d.rehearseOnce(ctx, sys, o, id)
		if err != nil {
			return err
		}
		if len(problems) == 0 {
			for _, w := range d.custom.warnings {
				p.Warn(w)
			}
			return nil
		}
		if err := o.Config.Problems(problems); err != nil {
			return err
		}
		// What is not supported is ignored on demand, and taken out.
		if len(o.Config.Ignored) == before {
			return problems[0]
		}
		for _, w := range o.Config.Ignored[before:] {
			p.Warn(w)
		}
	}
}

// rehearseOnce returns the problems of all customizations.
func (d *disks) rehearseOnce(ctx context.Context, sys *system, o *Options, id identity) (problems []error, err error) {
	fresh := func() *customize.System {
		return customize.New(sys.merged, private(sys.etc()), private(sys.merged.Child("var")), d.time, id.bytes)
	}
	trial := fresh()
	d.custom.effects, d.custom.warnings = customize.Effects{}, nil
	var done []step
	failed := map[string]bool{}
	for _, step := range d.custom.steps(o.Config) {
		if step.needs != "" && failed[step.needs] {
			failed[step.name] = true
			continue
		}
		effects, warnings, err := step.apply(ctx, trial)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		for _, w := range warnings {
			if text := o.Config.Warning(w); !slices.Contains(o.Config.Warnings, text) {
				d.custom.warnings = append(d.custom.warnings, text)
			}
		}
		if err == nil {
			d.custom.effects.Add(effects)
			done = append(done, step)
			continue
		}
		failed[step.name] = true
		if !errors.As(err, new(customize.Problems)) && !errors.As(err, new(accounts.Problems)) {
			return nil, err
		}
		problems = append(problems, err)
		// The system is half changed; the others get one without this.
		trial = fresh()
		for _, again := range done {
			if _, _, err := again.apply(ctx, trial); err != nil {
				return problems, nil
			}
		}
	}
	return problems, nil
}

// etc returns the image's /etc.
func (sys *system) etc() *tree.Inode {
	if usr := sys.merged.Child("usr"); usr != nil && usr.Child("etc") != nil {
		return usr.Child("etc")
	}
	return sys.merged.Child("etc")
}

// customize applies the customizations to what is deployed.
func (d *disks) customize(ctx context.Context, sys *system, o *Options, id identity) error {
	if o.Config == nil {
		return nil
	}
	s := customize.New(sys.merged, d.sysroot.Etc, d.sysroot.Var, d.time, id.bytes)
	for _, step := range d.custom.steps(o.Config) {
		if _, _, err := step.apply(ctx, s); err != nil {
			if err := o.Config.Problems([]error{err}); err != nil {
				return err
			}
			return err
		}
	}
	for _, b := range d.custom.effects.Boot {
		f := tree.NewFile(b.Mode, content.Bytes(b.Text))
		f.Mtime = d.time
		if err := tree.Put(d.sysroot.Boot, b.Path, f); err != nil {
			return fault.Default(fault.BadImage, fmt.Errorf("/boot/%s: %w", b.Path, err))
		}
	}
	return nil
}

// private returns a copy of a directory with all below it that is no part of a
// repository; nil becomes an empty directory.
func private(i *tree.Inode) *tree.Inode {
	if i == nil {
		return tree.NewDir(0o755)
	}
	c := i.Copy()
	c.Object = tree.Sum{}
	if i.IsDir() {
		for _, e := range i.Entries() {
			c.Set(e.Name, private(e.Inode))
		}
	}
	return c
}
