package remaster

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"imgbuild/blockdev"
	"imgbuild/bootloader/grub"
	"imgbuild/fault"
	"imgbuild/formats/iso"
	"imgbuild/installer/settings"
	"imgbuild/kickstart"
)

// maxSettings bounds the file of settings that is read, in bytes.
const maxSettings = 16 << 20

// Changes are what is to be different on a medium. A nil pointer leaves something
// as it is.
type Changes struct {
	// Kickstart is the text of a kickstart, "" for none. KickstartName is what it is
	// called in messages.
	Kickstart     *string
	KickstartName string
	Target        *string // "" leaves the choice to the installer
	Wipe          *bool
	Unattended    *bool
	// Kernel arguments as whole words; deletions come first.
	DeleteKargs, AddKargs []string
}

// none tells whether nothing is to be changed.
func (c *Changes) none() bool {
	return c.Kickstart == nil && c.Target == nil && c.Wipe == nil && c.Unattended == nil && len(c.DeleteKargs) == 0 && len(c.AddKargs) == 0
}

// Plan returns what the changes amount to on a medium. Errors are of class
// fault.Config or fault.Usage where the changes are at fault, and fault.BadImage
// where the ISO is.
func Plan(im *iso.Image, c *Changes) ([]iso.Change, error) {
	if c.none() {
		return nil, fault.New(fault.Usage, errors.New("nothing is to be changed"), "say --kickstart, --target, --wipe, --unattended, --karg or --delete-karg")
	}
	var out []iso.Change
	if len(c.AddKargs) > 0 || len(c.DeleteKargs) > 0 {
		changes, err := planKargs(im, c)
		if err != nil {
			return nil, err
		}
		out = append(out, changes...)
	}
	if c.Kickstart != nil || c.Target != nil || c.Wipe != nil || c.Unattended != nil {
		changes, err := planSettings(im, c)
		if err != nil {
			return nil, err
		}
		out = append(out, changes...)
	}
	return out, nil
}

// area reads a file that can be changed.
func area(im *iso.Image, path string, limit int64, hint string) ([]byte, error) {
	b, err := im.ReadFile(path, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Unsupported, fmt.Errorf("the ISO has no room for changes: /%s is missing", path), hint)
	case err != nil:
		return nil, fault.Default(fault.BadImage, fmt.Errorf("/%s: %w", path, err))
	}
	return b, nil
}

func planKargs(im *iso.Image, c *Changes) ([]iso.Change, error) {
	b, err := area(im, grub.KargsPath, grub.SizeKargs, "media made by imgbuild have room for kernel arguments")
	if err != nil {
		return nil, err
	}
	args, err := grub.ParseKargs(b)
	if err != nil {
		return nil, fault.New(fault.BadImage, fmt.Errorf("/%s: %w", grub.KargsPath, err), "")
	}
	for _, gone := range c.DeleteKargs {
		k := slices.Index(args, gone)
		if k < 0 {
			return nil, fault.New(fault.Config, fmt.Errorf("--delete-karg %s: the medium has no such argument to delete", gone), "these can be deleted: "+orNone(args))
		}
		args = slices.Delete(args, k, k+1)
	}
	text, err := grub.Kargs(append(args, c.AddKargs...))
	if err != nil {
		return nil, fault.New(fault.Config, err, "")
	}
	return im.Replace(grub.KargsPath, text)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}

func planSettings(im *iso.Image, c *Changes) ([]iso.Change, error) {
	b, err := area(im, settings.Path, maxSettings, "media made by `imgbuild --type iso` have settings: their installer reads them")
	if err != nil {
		return nil, err
	}
	s, err := settings.Decode(b)
	if err != nil {
		return nil, fault.New(fault.BadImage, fmt.Errorf("/%s: %w", settings.Path, err), "")
	}
	if c.Kickstart != nil {
		if *c.Kickstart != "" {
			if _, err := kickstart.Parse(c.KickstartName, []byte(*c.Kickstart)); err != nil {
				return nil, err
			}
		}
		s.Kickstart = *c.Kickstart
	}
	if c.Target != nil {
		if *c.Target != "" {
			if err := blockdev.CheckSpec(*c.Target); err != nil {
				return nil, fault.Default(fault.Usage, err)
			}
		}
		s.Target = *c.Target
	}
	if c.Wipe != nil {
		s.Wipe = *c.Wipe
	}
	if c.Unattended != nil {
		s.Unattended = *c.Unattended
	}
	// As when the medium is made.
	if s.Unattended && s.Target == "" && s.Kickstart == "" {
		s.Target = "first-empty"
	}
	text, err := settings.Encode(s, len(b))
	if err != nil {
		return nil, fault.New(fault.Config, err, "")
	}
	return im.Replace(settings.Path, text)
}
