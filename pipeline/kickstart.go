package pipeline

import (
	"errors"
	"fmt"
	"slices"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/installer/settings"
	"imgbuild/kickstart"
)

// readKickstart puts the kickstart of the configuration, which imgbuild's installer
// has to understand, into the settings of the medium.
func (o *Options) readKickstart() error {
	name, text := o.Config.Kickstart()
	if text == "" {
		return nil
	}
	if o.disks() {
		return usage(errors.New("kickstart: it says what an installer does, and the disk that is made beside the medium would be without it"), "make them in two runs")
	}
	if _, err := kickstart.Parse(name, []byte(text)); err != nil {
		return err
	}
	s := &o.Media.Settings
	s.Kickstart = text
	_, err := settings.Encode(s, settings.AreaSize)
	return fault.New(fault.Config, err, "")
}

// WithKickstart returns the options of a disk with what a kickstart asks of it: the
// configuration with its customizations, its layout or the type of its root file
// system. Which disk that is and how it all ends is the caller's to heed.
func WithKickstart(o Options, f *kickstart.File) (Options, error) {
	s := f.Settings
	config, err := o.Config.With(f.Name, s.Customizations, s.Places)
	if err != nil {
		return o, err
	}
	b := &config.Blueprint.Customizations
	switch {
	case s.Layout != nil && o.Layout != nil:
		return o, fault.New(fault.Config, fmt.Errorf("%s: lines part, and there is the layout %s as well", f.Name, o.Layout.Name), "lay out the disk in one place")
	case s.Layout != nil && (b.Disk != nil || len(b.Filesystem) > 0):
		return o, fault.New(fault.Config, fmt.Errorf("%s: lines part, and the configuration has customizations.disk or customizations.filesystem as well", f.Name), "lay out the disk in one place")
	case s.Layout != nil:
		o.Layout = &LayoutFile{Name: f.Name, Layout: s.Layout}
	case s.RootFS != "" && o.RootFS != "" && s.RootFS != o.RootFS:
		return o, fault.New(fault.Config, fmt.Errorf("%s: autopart asks for %s, and the root file system is to be %s", f.Name, s.RootFS, o.RootFS), "")
	case s.RootFS != "":
		o.RootFS = s.RootFS
	}
	o.Config = config
	return o, nil
}

// CheckKickstart checks the kickstart of a configuration, if it has one, by the medium
// that it is for, as far as that can be done without an image.
func CheckKickstart(c *blueprints.Config) (warnings []string, err error) {
	name, text := c.Kickstart()
	switch {
	case text == "":
		return nil, nil
	case c.Options.Media == blueprints.Anaconda:
		return kickstart.CheckOwn(name, text)
	}
	f, err := kickstart.Parse(name, []byte(text))
	if err != nil {
		return nil, err
	}
	o, err := WithKickstart(Options{Config: c}, f)
	if err != nil {
		return nil, err
	}
	for _, w := range o.Config.Warnings {
		if !slices.Contains(c.Warnings, w) {
			warnings = append(warnings, w)
		}
	}
	return warnings, nil
}

// rehearsed returns the options that a medium's disk is planned with, so that what is
// wrong with its kickstart is known now.
func (o *Options) rehearsed(p Progress) (*Options, error) {
	if o.Media.Settings.Kickstart == "" {
		return o, nil
	}
	name, text := o.Config.Kickstart()
	f, err := kickstart.Parse(name, []byte(text))
	if err != nil {
		return nil, err
	}
	out, err := WithKickstart(*o, f)
	if err != nil {
		return nil, err
	}
	for _, w := range out.Config.Warnings {
		if !slices.Contains(o.Config.Warnings, w) {
			p.Warn(w)
		}
	}
	return &out, out.validate()
}
