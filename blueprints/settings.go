package blueprints

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"imgbuild/customize/accounts"
	"imgbuild/customize/certs"
	"imgbuild/customize/clock"
	"imgbuild/customize/console"
	"imgbuild/customize/crypt"
	"imgbuild/customize/dnf"
	"imgbuild/customize/files"
	"imgbuild/customize/fips"
	"imgbuild/customize/firewalld"
	"imgbuild/customize/firstboot"
	"imgbuild/customize/ignition"
	"imgbuild/customize/locale"
	"imgbuild/customize/sshd"
	"imgbuild/customize/units"
)

// Settings are the customizations of the system as the packages below customize
// take them. What was not given is nil.
type Settings struct {
	Users     []accounts.User
	Groups    []accounts.Group
	Hostname  *string
	Clock     *clock.Config
	Locale    *locale.Config
	Units     *units.Config
	Firewall  *firewalld.Config
	Files     *files.Config
	SSHD      *sshd.Config
	Certs     *certs.Config
	Ignition  *ignition.Config
	FIPS      *fips.Config
	Console   *console.Config
	DNF       *dnf.Config
	Firstboot *firstboot.Config

	// The paths of the users and of their keys, below customizations.
	userPaths []string
	keyPaths  [][]string
}

// Settings returns what the configuration asks of the system.
func (c *Config) Settings() *Settings {
	b := &c.Blueprint.Customizations
	s := &Settings{Hostname: b.Hostname}
	s.accounts(b)
	if t := b.Timezone; t != nil {
		s.Clock = &clock.Config{Timezone: t.Timezone, NTPServers: t.NTPServers}
	}
	if l := b.Locale; l != nil {
		s.Locale = &locale.Config{Languages: l.Languages, Keyboard: l.Keyboard}
	}
	if u := b.Services; u != nil {
		s.Units = &units.Config{Enabled: u.Enabled, Disabled: u.Disabled, Masked: u.Masked}
	}
	if f := b.Firewall; f != nil {
		s.Firewall = firewall(f)
	}
	if len(b.Files)+len(b.Directories) > 0 {
		s.Files = filesAndDirectories(b)
	}
	if d := b.SSHD; d != nil {
		s.SSHD = &sshd.Config{
			PasswordAuthentication: d.PasswordAuthentication, ClientAliveInterval: d.ClientAliveInterval,
			PermitRootLogin: d.PermitRootLogin, KbdInteractiveAuthentication: d.KbdInteractiveAuthentication,
		}
	}
	if a := b.CACerts; a != nil {
		s.Certs = &certs.Config{PEM: a.PEMCerts}
	}
	if i := b.Ignition; i != nil {
		s.Ignition = &ignition.Config{}
		if e := i.Embedded; e != nil {
			s.Ignition.Embedded = &ignition.Embedded{Config: e.Config}
		}
		if f := i.FirstBoot; f != nil {
			s.Ignition.Firstboot = &ignition.Firstboot{URL: f.URL, Empty: f.Empty}
		}
	}
	if b.FIPS != nil {
		s.FIPS = &fips.Config{Enabled: *b.FIPS}
	}
	if l := b.Bootloader; l != nil && l.Grub2 != nil {
		s.Console = &console.Config{TerminalInput: l.Grub2.TerminalInput, TerminalOutput: l.Grub2.TerminalOutput}
		if l.Grub2.Serial != nil {
			s.Console.Serial = *l.Grub2.Serial
		}
	}
	if d := b.DNF; d != nil && d.Config != nil {
		s.DNF = &dnf.Config{SetReleaseVer: d.Config.SetReleaseVer}
	}
	if f := b.Firstboot; f != nil {
		s.Firstboot = scripts(f)
	}
	return s
}

// accounts sets users and groups. The keys of the old table sshkey go to the user
// they name.
func (s *Settings) accounts(b *Customizations) {
	for i, u := range b.User {
		s.Users = append(s.Users, accounts.User{
			Name: u.Name, Description: u.Description, Password: u.Password, Home: u.Home, Shell: u.Shell, Groups: u.Groups,
			UID: u.UID, GID: u.GID, ExpireDate: u.ExpireDate, ForcePasswordReset: u.ForcePasswordReset != nil && *u.ForcePasswordReset,
		})
		at := fmt.Sprintf("user[%d]", i)
		s.userPaths = append(s.userPaths, at)
		s.keyPaths = append(s.keyPaths, nil)
		if u.Key != nil {
			s.addKeys(len(s.Users)-1, *u.Key, at+".key")
		}
	}
	for i, k := range b.SSHKey {
		at := fmt.Sprintf("sshkey[%d]", i)
		user := -1
		for j := range s.Users {
			if s.Users[j].Name == k.User {
				user = j
				break
			}
		}
		if user < 0 {
			user = len(s.Users)
			s.Users = append(s.Users, accounts.User{Name: k.User})
			s.userPaths = append(s.userPaths, at)
			s.keyPaths = append(s.keyPaths, nil)
		}
		s.addKeys(user, k.Key, at+".key")
	}
	for _, g := range b.Group {
		s.Groups = append(s.Groups, accounts.Group{Name: g.Name, GID: g.GID})
	}
}

// addKeys adds the keys of a text as it would stand in authorized_keys.
func (s *Settings) addKeys(user int, text, at string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		s.Users[user].Keys = append(s.Users[user].Keys, line)
		s.keyPaths[user] = append(s.keyPaths[user], at)
	}
}

// accountPath returns the path of the key that a problem of an account is about.
func (c *Config) accountPath(p accounts.Problem) string {
	at := fmt.Sprintf("group[%d]", p.Index)
	if p.Subject == accounts.InUser {
		s := c.Settings()
		if p.Index >= len(s.userPaths) {
			return "customizations.user"
		}
		at = s.userPaths[p.Index]
		if keys := s.keyPaths[p.Index]; p.Field == "key" && p.Item >= 0 && p.Item < len(keys) {
			return "customizations." + keys[p.Item]
		}
		if strings.HasPrefix(at, "sshkey[") {
			return "customizations." + at + ".user"
		}
	}
	at += "." + p.Field
	if p.Item >= 0 && p.Field == "groups" {
		at += fmt.Sprintf("[%d]", p.Item)
	}
	return "customizations." + at
}

func firewall(f *Firewall) *firewalld.Config {
	out := &firewalld.Config{Ports: f.Ports}
	if f.Services != nil {
		out.Enabled, out.Disabled = f.Services.Enabled, f.Services.Disabled
	}
	for _, z := range f.Zones {
		zone := firewalld.Zone{Sources: z.Sources}
		if z.Name != nil {
			zone.Name = *z.Name
		}
		out.Zones = append(out.Zones, zone)
	}
	return out
}

func filesAndDirectories(b *Customizations) *files.Config {
	out := &files.Config{}
	for _, d := range b.Directories {
		out.Directories = append(out.Directories, files.Directory{
			Path: d.Path, User: owner(d.User), Group: owner(d.Group), Mode: d.Mode, EnsureParents: d.EnsureParents,
		})
	}
	for _, f := range b.Files {
		out.Files = append(out.Files, files.File{
			Path: f.Path, User: owner(f.User), Group: owner(f.Group), Mode: f.Mode, Data: f.Data, URI: f.URI, SHA256: f.SHA256,
		})
	}
	return out
}

func owner(o *Owner) files.Owner {
	switch {
	case o == nil:
		return files.Owner{}
	case o.Name != "":
		return files.Owner{Name: o.Name}
	}
	id := int64(o.ID)
	return files.Owner{ID: &id}
}

func scripts(f *Firstboot) *firstboot.Config {
	out := &firstboot.Config{}
	for _, s := range f.Scripts {
		out.Scripts = append(out.Scripts, firstboot.Script{
			Type: s.Type, Name: s.Name, IgnoreFailure: s.IgnoreFailure, After: s.After, Before: s.Before, Contents: s.Contents,
			CACerts: s.CACerts, Command: s.Command, JobTemplateURL: s.JobTemplateURL, HostConfigKey: s.HostConfigKey,
		})
	}
	return out
}

// KernelArguments returns the arguments to append to the kernel command line.
func (c *Config) KernelArguments() []string {
	if c == nil || c.Blueprint.Customizations.Kernel == nil {
		return nil
	}
	return SplitKargs(c.Blueprint.Customizations.Kernel.Append)
}

// Digest identifies what the configuration asks of the disk beyond kernel
// arguments, "" where that is nothing. Passwords in plain text have no part in it:
// what derives from it is on the disk, and would tell a guess faster than the hash
// of the password does.
func (c *Config) Digest() (string, error) {
	if c == nil {
		return "", nil
	}
	b := c.Blueprint.Customizations
	b.Kernel = nil
	b.User = slices.Clone(b.User)
	for i := range b.User {
		if p := b.User[i].Password; p != nil {
			if kind, err := crypt.Classify(*p); err != nil || kind == crypt.Plain {
				plain := "plain text"
				b.User[i].Password = &plain
			}
		}
	}
	text, err := json.Marshal(b)
	if err != nil {
		return "", err
	}
	none, err := json.Marshal(Customizations{})
	if err != nil || string(text) == string(none) {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(text)), nil
}
