package installer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/blockdev"
	"imgbuild/blueprints"
	"imgbuild/document"
	"imgbuild/fault"
	"imgbuild/installer/medium"
	"imgbuild/installer/settings"
	"imgbuild/kickstart"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// Orders are what the installer was told beside its description.
type Orders struct {
	Target     string // as blockdev.Selection has it
	Wipe       bool
	Unattended bool
	RootFS     string
	Seed       string // of the identifiers, "" for that of the medium
	End        End
	Check      bool // the medium, before anything else
	Shell      bool // before anything else
	Kickstart  *kickstart.File
}

// prefix begins the kernel arguments for the installer.
const prefix = "imgbuild."

// Arguments returns the arguments for the installer on a kernel command line, which
// has blanks within double quotes. The last of a name counts.
func Arguments(cmdline string) map[string]string {
	m := map[string]string{}
	var word strings.Builder
	quoted := false
	flush := func() {
		key, value, ok := strings.Cut(word.String(), "=")
		if name, mine := strings.CutPrefix(key, prefix); mine {
			if !ok {
				value = "1"
			}
			m[name] = value
		}
		if key == "rd.live.check" {
			m["check"] = "1" // what Anaconda's media call it
		}
		word.Reset()
	}
	for _, r := range cmdline {
		switch {
		case r == '"':
			quoted = !quoted
		case (r == ' ' || r == '\t' || r == '\n') && !quoted:
			flush()
		default:
			word.WriteRune(r)
		}
	}
	flush()
	return m
}

// NewOrders settles what was said in several places: kernel arguments, the settings
// on the medium with their kickstart, and the description.
func NewOrders(args map[string]string, s *settings.Settings, d *medium.Description) (Orders, error) {
	o := Orders{Target: d.Target, Wipe: d.Wipe, Unattended: d.Unattended}
	if s.Kickstart != "" {
		f, err := kickstart.Parse("kickstart", []byte(s.Kickstart))
		if err != nil {
			return o, err
		}
		k := f.Settings
		o.Kickstart, o.RootFS, o.End = f, k.RootFS, k.End
		if k.Target != "" {
			o.Target = k.Target
		}
		o.Wipe, o.Unattended = o.Wipe || k.Wipe, o.Unattended || k.Unattended
	}
	if s.Target != "" {
		o.Target = s.Target
	}
	o.Wipe, o.Unattended = o.Wipe || s.Wipe, o.Unattended || s.Unattended
	if err := o.arguments(args); err != nil {
		return o, err
	}
	if o.Unattended && o.Target == "" {
		o.Target = "first-empty"
	}
	if o.Target != "" {
		if err := blockdev.CheckSpec(o.Target); err != nil {
			return o, err
		}
	}
	return o, nil
}

// arguments applies the kernel arguments. One that is not known is an error: it may
// have been meant to keep something from being erased.
func (o *Orders) arguments(args map[string]string) error {
	for _, name := range sorted(args) {
		value := args[name]
		var err error
		switch name {
		case "target":
			o.Target = value
		case "wipe":
			o.Wipe, err = boolean(value)
		case "unattended":
			o.Unattended, err = boolean(value)
		case "check":
			o.Check, err = boolean(value)
		case "shell":
			o.Shell, err = boolean(value)
		case "rootfs":
			if o.RootFS = value; !slices.Contains([]string{"ext4", "xfs", "btrfs"}, value) {
				err = errors.New("ext4, xfs or btrfs")
			}
		case "seed":
			if o.Seed = value; value == "" {
				err = errors.New("a text")
			}
		case "reboot":
			switch End(value) {
			case "ask":
				o.End = kickstart.EndAsk
			case "1":
				o.End = kickstart.EndReboot
			case kickstart.EndReboot, kickstart.EndPowerOff, kickstart.EndHalt:
				o.End = End(value)
			default:
				err = errors.New("reboot, poweroff, halt or ask")
			}
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("kernel argument %s%s=%s: %w", prefix, name, value, err), "")
		}
	}
	return nil
}

func boolean(s string) (bool, error) {
	switch s {
	case "1", "yes", "true", "on":
		return true, nil
	case "0", "no", "false", "off":
		return false, nil
	}
	return false, errors.New("yes or no")
}

// forbidden returns an error where the kickstart keeps the installer from a disk.
func (o *Orders) forbidden(d blockdev.Disk) error {
	if o.Kickstart == nil {
		return nil
	}
	for _, path := range o.Kickstart.Settings.Exclude {
		if path == d.Path || slices.ContainsFunc(d.ByID, func(id string) bool { return path == "/dev/disk/by-id/"+id }) {
			return fault.New(fault.Device, fmt.Errorf("%s: the kickstart excludes it", d.Path), "")
		}
	}
	return nil
}

// apply changes the options of the build by the orders.
func (o *Orders) apply(b *pipeline.Options) (err error) {
	if o.Kickstart != nil {
		if *b, err = pipeline.WithKickstart(*b, o.Kickstart); err != nil {
			return err
		}
	}
	if o.RootFS != "" {
		b.RootFS = o.RootFS
	}
	if o.Seed != "" {
		b.Seed = o.Seed
	}
	return nil
}

// loadConfig returns the configuration of a medium.
func loadConfig(d *medium.Build) (*blueprints.Config, error) {
	if len(d.Config) == 0 {
		return nil, nil
	}
	c, err := blueprints.Load([]blueprints.Source{{Name: "config.json", Text: d.Config}}, blueprints.Options{IgnoreUnsupported: d.IgnoreUnsupported, AllowPaths: d.AllowPaths})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Options returns the options of the build that a description asks for, of a medium
// that is mounted at mount.
func Options(d *medium.Description, mount string) (*pipeline.Options, error) {
	b := &d.Build
	o := &pipeline.Options{
		Arch: d.Arch, HostArch: d.Arch, NoCache: true,
		Target: b.Target, Stateroot: b.Stateroot, RootFS: b.RootFS, Kargs: b.Kargs, KargDelete: b.KargDelete,
		NoDefaults: b.NoDefaults, SELinuxOff: b.SELinuxOff, SigPolicy: b.SigPolicy, SkipBound: b.SkipBound, Seed: b.Seed,
		Sizes: pipeline.Sizes{Root: b.RootSize, Free: b.FreeSpace}, Limits: b.Limits,
	}
	var err error
	if o.Image, err = oci.ParseReference("oci:" + mount + "/" + medium.Payload + "@" + d.Image.Digest); err != nil {
		return nil, err
	}
	if d.Image.Reference != "" {
		called, err := oci.ParseReference(d.Image.Reference)
		if err != nil {
			return nil, err
		}
		o.CalledAs = &called
	}
	if b.Layout != "" {
		if o.Layout, err = pipeline.ReadLayout(b.LayoutName, []byte(b.Layout)); err != nil {
			return nil, err
		}
	}
	o.Config, err = loadConfig(b)
	return o, err
}

// hasUsers tells whether the configuration makes accounts already.
func hasUsers(c *blueprints.Config) bool {
	return c != nil && (len(c.Blueprint.Customizations.User) > 0 || len(c.Blueprint.Customizations.SSHKey) > 0)
}

// addUser adds a user to the configuration of a job.
func (in *Installer) addUser(u blueprints.User) error {
	const name = "the answers"
	c, err := in.job.Options.Config.With(name, blueprints.Customizations{User: []blueprints.User{u}}, document.Places{"": {File: name}})
	if err != nil {
		return err
	}
	in.job.Options.Config = c
	return nil
}

func sorted(m map[string]string) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
