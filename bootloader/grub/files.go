package grub

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"imgbuild/tree"
)

// lists are the files that grub-install copies beside the modules: they say
// which module has which command, file system, terminal.
var lists = [...]string{
	"command.lst", "crypto.lst", "fs.lst", "moddep.lst", "partmap.lst",
	"parttool.lst", "terminal.lst", "video.lst",
	"modinfo.sh", "efiemu32.o", "efiemu64.o",
}

// Modules returns the platform directory that goes beside grub.cfg: all
// modules and lists of the directory dir in os, owned by root, with the time
// mtime (seconds since 1970).
func Modules(os *tree.Inode, dir string, mtime int64) (*tree.Inode, error) {
	from, err := tree.Resolve(os, dir)
	if err != nil {
		return nil, err
	}
	to := newDir(mtime)
	add := func(name string) error {
		i, err := tree.Resolve(os, dir+"/"+name)
		if err != nil {
			return err
		}
		if !i.IsFile() {
			return fmt.Errorf("%s/%s: not a regular file", dir, name)
		}
		to.Set(name, newFile(i, mtime))
		return nil
	}
	for _, e := range from.Entries() {
		if strings.HasSuffix(e.Name, ".mod") {
			if err := add(e.Name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range lists {
		if from.Child(name) == nil {
			continue
		}
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// HasModule tells whether the directory dir in os has a module.
func HasModule(os *tree.Inode, dir, module string) bool {
	i, err := tree.Resolve(os, dir+"/"+module+".mod")
	return err == nil && i.IsFile()
}

// Install puts what grub-install leaves in GRUB's directory into it, for the
// platform of the directory dir in os: the modules and boot images, the font and
// the translations.
func Install(grubDir, os *tree.Inode, dir string, core *Core, mtime int64) error {
	modules, err := Modules(os, dir, mtime)
	if err != nil {
		return err
	}
	image := tree.NewFile(0o644, core.File)
	image.Mtime = mtime
	if core.BootCode == nil {
		modules.Set("core.elf", image)
		// Old firmware settings name it there, so grub-install still copies it.
		grubDir.Set("grub", image.Copy())
	} else {
		boot, err := tree.Resolve(os, dir+"/boot.img")
		if err != nil {
			return err
		}
		modules.Set("boot.img", newFile(boot, mtime))
		modules.Set("core.img", image)
	}
	grubDir.Set(path.Base(dir), modules)

	fonts := newDir(mtime)
	grubDir.Set("fonts", fonts)
	for _, at := range []string{"usr/share/grub2/unicode.pf2", "usr/share/grub/unicode.pf2"} {
		font, err := tree.Resolve(os, at)
		switch {
		case err == nil && font.IsFile():
			fonts.Set("unicode.pf2", newFile(font, mtime))
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	locale, err := translations(os, mtime)
	if err != nil {
		return err
	}
	grubDir.Set("locale", locale)
	return nil
}

// translations returns GRUB's directory of translations, <language>.mo.
func translations(os *tree.Inode, mtime int64) (*tree.Inode, error) {
	to := newDir(mtime)
	from, err := tree.Resolve(os, "usr/share/locale")
	if errors.Is(err, fs.ErrNotExist) {
		return to, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range from.Entries() {
		i, err := tree.Resolve(os, path.Join("usr/share/locale", e.Name, "LC_MESSAGES/grub.mo"))
		if err == nil && i.IsFile() && tree.ValidName(e.Name+".mo") {
			to.Set(e.Name+".mo", newFile(i, mtime))
		}
	}
	return to, nil
}

// newDir and newFile return what grub-install makes: plain modes, owned by
// root, no attributes. A file keeps the content it has in the image.
func newDir(mtime int64) *tree.Inode {
	d := tree.NewDir(0o755)
	d.Mtime = mtime
	return d
}

func newFile(i *tree.Inode, mtime int64) *tree.Inode {
	f := tree.NewFile(0o644, i.Content)
	f.Mtime = mtime
	return f
}
