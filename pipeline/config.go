package pipeline

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/bootc"
	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/tree"
)

// embeddedConfigs are the places of a config file in the image, the first one
// winning.
func embeddedConfigs() []string {
	var list []string
	for _, dir := range []string{"usr/lib/image-builder/bootc", "usr/lib/bootc-image-builder"} {
		list = append(list, dir+"/config.json", dir+"/config.toml")
	}
	return list
}

// readConfig adds what the image's own config file says to the configuration, and
// checks that the configuration is for this image.
func (sys *system) readConfig(o *Options, p Progress) error {
	warned, ignored := 0, 0
	if o.Config != nil {
		warned, ignored = len(o.Config.Warnings), len(o.Config.Ignored)
	}
	for _, name := range embeddedConfigs() {
		i, err := tree.Resolve(sys.merged, name)
		if err != nil || !i.IsFile() {
			continue
		}
		text, err := tree.ReadFile(sys.merged, name, blueprints.MaxSize)
		if err != nil {
			return badImage(err, o)
		}
		if o.Config, err = blueprints.Embed(o.Config, blueprints.Source{Name: "/" + name, Text: text}); err != nil {
			return err
		}
		break
	}
	if o.Config == nil {
		return nil
	}
	err := o.Config.Problems(append(sys.foreign(o), sys.sealed(o.Config)...))
	for _, w := range slices.Concat(o.Config.Warnings[warned:], o.Config.Ignored[ignored:]) {
		p.Warn(w)
	}
	return err
}

// foreign returns what says that the configuration is for another image.
func (sys *system) foreign(o *Options) (list []error) {
	b := &o.Config.Blueprint
	if b.Architecture != "" {
		arch, err := oci.ParseArch(b.Architecture)
		switch {
		case err != nil:
			list = append(list, &blueprints.KeyError{Path: "architecture", Err: fault.New(fault.Config, err, fault.HintOf(err))})
		case arch != o.Arch:
			list = append(list, &blueprints.KeyError{Path: "architecture", Err: fault.New(fault.Config,
				fmt.Errorf("%s, and the image is for %s", b.Architecture, o.Arch), "")})
		}
	}
	id, version := sys.facts.OSRelease["ID"], sys.facts.OSRelease["VERSION_ID"]
	if b.Distro != "" && id != "" && !sameDistro(b.Distro, id, version) {
		list = append(list, &blueprints.KeyError{Path: "distro", Err: fault.New(fault.Unsupported,
			fmt.Errorf("the blueprint is for %s, and the image is %s", b.Distro, strings.TrimSuffix(id+"-"+version, "-")), "")})
	}
	return list
}

// sameDistro tells whether a name as image-builder gives them, fedora-43 or rhel-9.6
// or the older rhel-96, is that of an image. It may leave out a minor version.
func sameDistro(name, id, version string) bool {
	got, gotVersion, _ := strings.Cut(strings.ToLower(name), "-")
	if got != strings.ToLower(id) {
		return name == id+"-"+version
	}
	plain := strings.ReplaceAll(version, ".", "")
	return gotVersion == "" || gotVersion == version || gotVersion == plain || strings.HasPrefix(version, gotVersion+".")
}

// sealed returns the customizations that cannot take effect in an image whose /etc
// is not that of the deployment.
func (sys *system) sealed(c *blueprints.Config) (list []error) {
	if !sys.facts.EtcTransient {
		return nil
	}
	for _, path := range c.Asked() {
		switch path {
		case "customizations.kernel", "customizations.filesystem", "customizations.disk", "customizations.partitioning_mode":
			continue
		}
		list = append(list, &blueprints.KeyError{Path: path, Err: fault.New(fault.Unsupported,
			errors.New("cannot take effect: the image has a transient /etc (prepare-root.conf), so the running system does not see the one on the disk"), "")})
	}
	return list
}

// nameSealed adds to the refusal of an image with a unified kernel image what of
// the configuration could not take effect in it.
func nameSealed(err error, c *blueprints.Config) error {
	if c == nil || !errors.Is(err, bootc.ErrUKI) {
		return err
	}
	asked := c.Asked()
	if len(asked) == 0 {
		return err
	}
	return fault.New(fault.ClassOf(err), fmt.Errorf("%w; and %s could not take effect: its command line and its /etc are sealed", err, strings.Join(asked, ", ")), fault.HintOf(err))
}

// kargs returns the kernel arguments that are asked for: those of the config
// files, then those of the command line.
func (o *Options) kargs() []string {
	return append(append([]string{}, o.Config.KernelArguments()...), o.Kargs...)
}
