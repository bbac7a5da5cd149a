package blueprints

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"imgbuild/document"
	"imgbuild/fault"
)

// Media is a kind of medium, "" for none.
type Media string

// The kinds.
const (
	OwnInstaller Media = "iso"             // with imgbuild's own installer
	Anaconda     Media = "bootc-installer" // with Anaconda from an image
	Live         Media = "live-iso"        // without any: it starts the image
)

// refusals returns what is not applied where a medium is made.
func (m Media) refusals() []refusal {
	list := refusals()
	if m == "" {
		return list
	}
	if m == Live {
		list = slices.DeleteFunc(list, func(f refusal) bool { return f.path == "customizations.iso" })
		for i := range list {
			switch list[i].path {
			case "customizations.installer", "customizations.installation_device":
				list[i].why = "a live system installs nothing"
			}
		}
		return list
	}
	list = slices.DeleteFunc(list, func(f refusal) bool {
		return f.path == "customizations.installer" || f.path == "customizations.iso" || f.path == "customizations.installation_device"
	})
	list = append(list, refusal{"customizations.installer.payload", "flatpaks are put into the image, or installed by a service of it", nil})
	if m == OwnInstaller {
		return append(list, refusal{"customizations.installer.modules", "these are modules of Anaconda, and the medium has imgbuild's own installer", nil})
	}
	const why = "Anaconda writes the disk, by a kickstart, and that has nothing for it; type iso has imgbuild's own installer"
	for _, key := range []string{"filesystem", "disk", "partitioning_mode", "installation_device", "ignition", "directories", "files", "cacerts",
		"firstboot", "dnf", "sshd", "bootloader", "services.masked", "firewall.zones"} {
		list = append(list, refusal{"customizations." + key, why, nil})
	}
	return append(list, refusal{"customizations.installer.wipe", "clearpart is a line of a kickstart; unattended = true writes it", nil})
}

// appliedToMedia says where the keys about media take effect, and since when.
func appliedToMedia() [][3]string {
	const iso, both = "type iso: ", "types iso and bootc-installer: "
	return [][3]string{
		{"customizations.installation_device", iso + "the disk that is installed, as `--iso-target`", "0.3"},
		{"customizations.installer.unattended", iso + "the installer asks nothing, as `--iso-unattended`; bootc-installer: the kickstart erases the disks and asks nothing", "0.3"},
		{"customizations.installer.wipe", iso + "a disk that holds data is erased without a question. imgbuild's own key", "0.3"},
		{"customizations.installer.sudo-nopasswd", both + "`/etc/sudoers.d` of the installed system", "0.3"},
		{"customizations.installer.kickstart.contents", iso + "what of kickstarts imgbuild's installer understands (docs/kickstart.md), all else is refused; bootc-installer: `/osbuild.ks`. As `--kickstart`", "0.3"},
		{"customizations.installer.modules.enable", "type bootc-installer: `/etc/anaconda/conf.d` of the installer", "0.3"},
		{"customizations.installer.modules.disable", "type bootc-installer: the same; it goes before `enable`", "0.3"},
		{"customizations.installer.bootloader.grub2.menu-timeout", both + "seconds that the medium's menu waits", "0.3"},
		{"customizations.iso.volume_id", "ISOs of all types: name of the medium (`blkid`)", "0.3"},
		{"customizations.iso.publisher", "ISOs of all types: publisher identifier of the medium (`isoinfo -d`)", "0.3"},
		{"customizations.iso.application_id", "ISOs of all types: application identifier of the medium (`isoinfo -d`)", "0.3"},
	}
}

// sudoer is a user or a group as sudoers has it.
var sudoer = regexp.MustCompile(`^%?[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)

// Sudoers returns the name and the content of the file in /etc/sudoers.d for a user
// or %group that needs no password. The name has no period: sudo passes over such
// files.
func Sudoers(who string) (name, text string) {
	return strings.ReplaceAll(who, ".", "_"), who + "\tALL=(ALL)\tNOPASSWD: ALL\n"
}

// media checks what is said about media.
func (k checker) media() {
	i := k.config.Blueprint.Customizations.Installer
	if i == nil || k.config.Options.Media == "" {
		return
	}
	for n, who := range i.SudoNopasswd {
		if !sudoer.MatchString(who) {
			k.add(fmt.Sprintf("installer.sudo-nopasswd[%d]", n), fmt.Errorf("%q is neither a user nor a %%group", who))
		}
	}
	if g := i.Bootloader; g != nil && g.Grub2 != nil && g.Grub2.MenuTimeout != nil && (*g.Grub2.MenuTimeout < 0 || *g.Grub2.MenuTimeout > 3600) {
		k.addf("installer.bootloader.grub2.menu-timeout", "%d is no number of seconds up to an hour", *g.Grub2.MenuTimeout)
	}
	if k.config.Options.Media == Anaconda {
		k.anaconda(i)
	}
}

// anaconda checks what Anaconda is told, and what a kickstart of the user's makes
// impossible: it stands for itself.
func (k checker) anaconda(i *Installer) {
	b := &k.config.Blueprint.Customizations
	for n, u := range b.User {
		at := fmt.Sprintf("user[%d].", n)
		none := fault.New(fault.Unsupported, errors.New("not applied: a kickstart has nothing for it"), "type iso has imgbuild's own installer")
		if u.ExpireDate != nil {
			k.add(at+"expiredate", none)
		}
		if u.ForcePasswordReset != nil && *u.ForcePasswordReset {
			k.add(at+"force_password_reset", none)
		}
	}
	if i.Kickstart == nil || i.Kickstart.Contents == "" {
		return
	}
	lines := byKickstart()
	for _, path := range slices.Sorted(maps.Keys(lines)) {
		line := lines[path]
		if asked(&k.config.Blueprint, "customizations."+path) {
			k.add(path, fault.New(fault.Config, errors.New("excludes installer.kickstart.contents, which Anaconda takes as it is"), line))
		}
	}
}

// byKickstart are the customizations that a kickstart of one's own has to make
// itself, and the lines that do.
func byKickstart() map[string]string {
	return map[string]string{
		"user": "write a line user", "group": "write a line group", "sshkey": "write a line sshkey", "hostname": "write network --hostname",
		"timezone": "write a line timezone", "locale": "write lines lang and keyboard", "services": "write a line services",
		"firewall": "write a line firewall", "installer.unattended": "write lines clearpart, autopart and reboot",
		"installer.sudo-nopasswd": "write a %post", "kernel.append": "write bootloader --append",
	}
}

// kickstartPath is the key of a kickstart's text.
const kickstartPath = "customizations.installer.kickstart.contents"

// setKickstart takes the kickstart of the command line.
func (c *Config) setKickstart(r *Report) {
	s := c.Options.Kickstart
	if s == nil {
		return
	}
	b := &c.Blueprint.Customizations
	if b.Installer == nil {
		b.Installer = &Installer{}
	}
	if b.Installer.Kickstart != nil && b.Installer.Kickstart.Contents != "" {
		r.Problems = append(r.Problems, c.problem(kickstartPath, fmt.Errorf("there is --kickstart %s as well", s.Name)))
		return
	}
	b.Installer.Kickstart = &Kickstart{Contents: string(s.Text)}
	c.Files = append(c.Files, s.Name)
	c.places[kickstartPath] = document.Position{File: s.Name}
}

// Kickstart returns the text of the kickstart and its name for messages, "" without
// one.
func (c *Config) Kickstart() (name, text string) {
	if c == nil || c.Blueprint.Customizations.Installer == nil || c.Blueprint.Customizations.Installer.Kickstart == nil {
		return "", ""
	}
	at := c.places.Of(kickstartPath)
	name = at.String()
	if at.Line > 0 {
		name += ": installer.kickstart.contents"
	}
	return name, c.Blueprint.Customizations.Installer.Kickstart.Contents
}

// sudoers turns the users that need no password into files, where imgbuild installs.
func (c *Config) sudoers() {
	b := &c.Blueprint.Customizations
	if c.Options.Media != OwnInstaller || b.Installer == nil {
		return
	}
	for i, who := range b.Installer.SudoNopasswd {
		name, text := Sudoers(who)
		c.places[fmt.Sprintf("customizations.files[%d]", len(b.Files))] = c.places.Of(fmt.Sprintf("customizations.installer.sudo-nopasswd[%d]", i))
		b.Files = append(b.Files, File{Path: "/etc/sudoers.d/" + name, Mode: "0440", Data: text})
	}
}
