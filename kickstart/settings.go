package kickstart

import (
	"fmt"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/customize/crypt"
	"imgbuild/document"
	"imgbuild/layouts"
)

// End is what an installation ends with.
type End string

// The ends. Without one, the installer asks.
const (
	EndAsk      End = ""
	EndReboot   End = "reboot"
	EndPowerOff End = "poweroff"
	EndHalt     End = "halt"
)

// Settings are what a kickstart asks for, in imgbuild's terms.
type Settings struct {
	// Customizations are those of the installed system, and Places the lines that
	// they come from.
	Customizations blueprints.Customizations
	Places         document.Places
	// Layout is what the lines part ask for, nil without.
	Layout *layouts.Layout
	// RootFS is the type of the root file system that autopart asks for, "" for the
	// image's.
	RootFS string
	// Target names the disk to install to by a path below /dev, "" where the
	// kickstart leaves that open.
	Target string
	// Exclude names disks, by paths below /dev, that are not to be touched.
	Exclude []string
	// Wipe allows to erase a disk that holds data: clearpart --all.
	Wipe bool
	// Unattended says that nothing is to be asked: the kickstart has part or
	// autopart, which is what an installer has to be told.
	Unattended bool
	// End is what comes last, and Eject whether the medium is to be ejected then:
	// imgbuild's installer does that to discs in any case.
	End   End
	Eject bool
}

// translation turns commands into settings.
type translation struct {
	p *parser
	s *Settings

	disks diskNames
	parts []Command
	clear *Command
	zero  *Command
}

// settings translates what is read; what cannot be is added to the report.
func (p *parser) settings() *Settings {
	t := &translation{p: p, s: &Settings{Places: document.Places{"": {File: p.out.Name}}}}
	for i := range p.out.Commands {
		c := &p.out.Commands[i]
		if f := translations()[c.Name]; f != nil {
			f(t, c)
		}
	}
	t.finishGroups()
	t.layout()
	t.target()
	return t.s
}

func translations() map[string]func(*translation, *Command) {
	part := func(t *translation, c *Command) { t.parts = append(t.parts, *c) }
	return map[string]func(*translation, *Command){
		"user": (*translation).user, "group": (*translation).group, "rootpw": (*translation).rootpw, "sshkey": (*translation).sshkey,
		"lang": (*translation).lang, "keyboard": (*translation).keyboard, "timezone": (*translation).timezone,
		"timesource": (*translation).timesource, "network": (*translation).network, "services": (*translation).services,
		"firewall": (*translation).firewall, "selinux": (*translation).selinux, "bootloader": (*translation).bootloader,
		"reboot": (*translation).end, "poweroff": (*translation).end, "shutdown": (*translation).end, "halt": (*translation).end,
		"ignoredisk": (*translation).ignoredisk, "clearpart": (*translation).clearpart, "autopart": (*translation).autopart,
		"part": part, "partition": part,
		"zerombr": func(t *translation, c *Command) { t.zero = c },
	}
}

// place notes where a key below customizations comes from.
func (t *translation) place(c *Command, format string, args ...any) {
	t.s.Places["customizations."+fmt.Sprintf(format, args...)] = document.Position{File: t.p.out.Name, Line: c.Line}
}

func (t *translation) wrong(c *Command, option, hint, format string, args ...any) {
	t.p.add(Problem{Line: c.Line, Command: c.Name, Option: option, Kind: Value, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (t *translation) refuse(c *Command, option, hint, format string, args ...any) {
	t.p.add(Problem{Line: c.Line, Command: c.Name, Option: option, Kind: Unsupported, Message: "not applied: " + fmt.Sprintf(format, args...), Hint: hint})
}

// optional returns a pointer to what an option says, nil without.
func (c *Command) optional(name string) *string {
	v, ok := c.options[name]
	if !ok {
		return nil
	}
	return &v.text
}

func (t *translation) user(c *Command) {
	b := &t.s.Customizations
	u := blueprints.User{
		Name: c.text("--name"), Description: c.optional("--gecos"), Home: c.optional("--homedir"), Shell: c.optional("--shell"),
		UID: c.number("--uid"), GID: c.number("--gid"), Password: t.password(c, c.optional("--password")),
	}
	for _, g := range c.list("--groups") {
		name, rest, numbered := strings.Cut(g, "(")
		if numbered {
			gid, err := parseInt(strings.TrimSuffix(rest, ")"))
			if err != nil || !strings.HasSuffix(rest, ")") {
				t.wrong(c, "--groups", "NAME or NAME(GID)", "%s is no group", quoteShort(g))
				continue
			}
			t.needGroup(c, name, gid)
		}
		u.Groups = append(u.Groups, name)
	}
	t.place(c, "user[%d]", len(b.User))
	b.User = append(b.User, u)
}

// needGroup makes a group that a user is in, with its number.
func (t *translation) needGroup(c *Command, name string, gid int64) {
	b := &t.s.Customizations
	for _, g := range b.Group {
		if g.Name == name && g.GID != nil && *g.GID == gid {
			return
		}
	}
	t.place(c, "group[%d]", len(b.Group))
	b.Group = append(b.Group, blueprints.Group{Name: name, GID: &gid})
}

// finishGroups joins a group that users named with its number and a line group that
// says the same.
func (t *translation) finishGroups() {
	b := &t.s.Customizations
	for i := 0; i < len(b.Group); i++ {
		for j := len(b.Group) - 1; j > i; j-- {
			x, y := b.Group[i], b.Group[j]
			if x.Name == y.Name && x.GID != nil && y.GID != nil && *x.GID == *y.GID {
				b.Group = slices.Delete(b.Group, j, j+1)
				for k := j; k <= len(b.Group); k++ {
					t.s.Places[fmt.Sprintf("customizations.group[%d]", k)] = t.s.Places[fmt.Sprintf("customizations.group[%d]", k+1)]
				}
			}
		}
	}
}

// password returns what a blueprint has for a password and its options.
func (t *translation) password(c *Command, given *string) *string {
	crypted, plain := c.has("--iscrypted"), c.has("--plaintext")
	lock := "!"
	if given == nil || *given == "" {
		if c.has("--lock") {
			return &lock
		}
		return nil
	}
	kind, err := crypt.Classify(*given)
	switch {
	case crypted && plain:
		t.wrong(c, "--plaintext", "", "contradicts --iscrypted")
	case crypted && err != nil:
		t.wrong(c, "--iscrypted", "", "the password: %v", err)
	case crypted && kind == crypt.Plain:
		t.wrong(c, "--iscrypted", "openssl passwd -6 makes one", "the password is no hash that crypt(5) knows")
	case !crypted && kind != crypt.Plain:
		t.wrong(c, "", "--iscrypted", "the password looks like a hash, and would be hashed again")
	case c.has("--lock") && kind == crypt.Plain:
		t.wrong(c, "--lock", "--iscrypted with a hash, or no password", "a locked password is kept as a hash")
	case c.has("--lock") && kind == crypt.Hashed:
		lock += *given
		return &lock
	}
	return given
}

func (t *translation) group(c *Command) {
	b := &t.s.Customizations
	t.place(c, "group[%d]", len(b.Group))
	b.Group = append(b.Group, blueprints.Group{Name: c.text("--name"), GID: c.number("--gid")})
}

func (t *translation) rootpw(c *Command) {
	b := &t.s.Customizations
	var given *string
	if len(c.Args) > 0 {
		given = &c.Args[0]
	}
	t.place(c, "user[%d]", len(b.User))
	b.User = append(b.User, blueprints.User{Name: "root", Password: t.password(c, given)})
	if c.has("--allow-ssh") {
		t.place(c, "sshd")
		b.SSHD = &blueprints.SSHD{PermitRootLogin: "yes"}
	}
}

func (t *translation) sshkey(c *Command) {
	b := &t.s.Customizations
	t.place(c, "sshkey[%d]", len(b.SSHKey))
	b.SSHKey = append(b.SSHKey, blueprints.SSHKey{User: c.text("--username"), Key: c.Args[0]})
}

// locale is the table of languages and keyboard.
func (t *translation) locale() *blueprints.Locale {
	b := &t.s.Customizations
	if b.Locale == nil {
		b.Locale = &blueprints.Locale{}
	}
	return b.Locale
}

// lang completes a locale as Anaconda does: the encoding is UTF-8.
func (t *translation) lang(c *Command) {
	for _, l := range append([]string{c.Args[0]}, c.list("--addsupport")...) {
		if base, modifier, ok := strings.Cut(l, "@"); !strings.Contains(l, ".") && l != "C" && l != "POSIX" {
			l = base + ".UTF-8"
			if ok {
				l += "@" + modifier
			}
		}
		t.locale().Languages = append(t.locale().Languages, l)
	}
	t.place(c, "locale.languages")
}

// keyboard takes one keymap, which the layout of X11 follows. A layout that is
// nothing but a name has the name of its keymap.
func (t *translation) keyboard(c *Command) {
	layouts := c.list("--xlayouts")
	keymap := c.text("--vckeymap")
	if len(c.Args) > 0 {
		if keymap != "" && keymap != c.Args[0] {
			t.wrong(c, "--vckeymap", "", "contradicts %s", quoteShort(c.Args[0]))
		}
		keymap = c.Args[0]
	}
	switch {
	case len(layouts) > 1:
		t.refuse(c, "--xlayouts", "--vckeymap names the keyboard", "a blueprint has one keyboard, and its layout of X11 follows from it")
	case len(layouts) == 1 && strings.ContainsAny(layouts[0], "( "):
		t.refuse(c, "--xlayouts", "--vckeymap=LAYOUT-VARIANT", "a layout with a variant is chosen by its keymap")
	case len(layouts) == 1 && keymap != "" && keymap != layouts[0] && !strings.HasPrefix(keymap, layouts[0]+"-"):
		t.refuse(c, "--xlayouts", "--vckeymap alone", "the layout of X11 follows from the keymap %s", quoteShort(keymap))
	case len(layouts) == 1 && keymap == "":
		keymap = layouts[0]
	}
	t.locale().Keyboard = &keymap
	t.place(c, "locale.keyboard")
}

func (t *translation) clock() *blueprints.Timezone {
	b := &t.s.Customizations
	if b.Timezone == nil {
		b.Timezone = &blueprints.Timezone{}
	}
	return b.Timezone
}

// adjtime says that the machine's clock has local time, see hwclock(8).
const adjtime = "0.0 0 0.0\n0\nLOCAL\n"

func (t *translation) timezone(c *Command) {
	b := &t.s.Customizations
	if len(c.Args) > 0 {
		t.clock().Timezone = &c.Args[0]
		t.place(c, "timezone.timezone")
	}
	if s := c.list("--ntpservers"); len(s) > 0 {
		t.clock().NTPServers = append(t.clock().NTPServers, s...)
		t.place(c, "timezone.ntpservers")
	}
	if len(c.Args) > 0 && !c.has("--utc") {
		t.place(c, "files[%d]", len(b.Files))
		b.Files = append(b.Files, blueprints.File{Path: "/etc/adjtime", Data: adjtime})
	}
}

func (t *translation) timesource(c *Command) {
	if s := c.text("--ntp-server"); s != "" {
		t.place(c, "timezone.ntpservers[%d]", len(t.clock().NTPServers))
		t.clock().NTPServers = append(t.clock().NTPServers, s)
	}
}

func (t *translation) network(c *Command) {
	if h := c.optional("--hostname"); h != nil {
		if old := t.s.Customizations.Hostname; old != nil {
			t.wrong(c, "--hostname", "", "is %s already", quoteShort(*old))
		}
		t.s.Customizations.Hostname = h
		t.place(c, "hostname")
	} else if len(c.options) == 0 {
		t.wrong(c, "", hintDrop, "says nothing")
	}
}

func (t *translation) units() *blueprints.Services {
	b := &t.s.Customizations
	if b.Services == nil {
		b.Services = &blueprints.Services{}
	}
	return b.Services
}

func (t *translation) services(c *Command) {
	s := t.units()
	t.place(c, "services.enabled")
	for _, n := range c.list("--disabled") {
		t.place(c, "services.disabled[%d]", len(s.Disabled))
		s.Disabled = append(s.Disabled, n)
	}
	s.Enabled = append(s.Enabled, c.list("--enabled")...)
}

// firewall opens ports and services; --disabled disables the service, as
// firewall-offline-cmd does.
func (t *translation) firewall(c *Command) {
	off := c.has("--disabled")
	if c.has("--use-system-defaults") || off {
		for _, o := range []string{"--enabled", "--port", "--service", "--ftp", "--http", "--smtp", "--ssh", "--remove-service"} {
			if c.has(o) {
				t.wrong(c, o, "", "does nothing beside --disabled and --use-system-defaults")
			}
		}
		if off && c.has("--use-system-defaults") {
			t.wrong(c, "--disabled", "", "contradicts --use-system-defaults")
		}
		if off {
			s := t.units()
			t.place(c, "services.disabled[%d]", len(s.Disabled))
			s.Disabled = append(s.Disabled, "firewalld.service")
		}
		return
	}
	f := &blueprints.Firewall{}
	for _, p := range c.list("--port") {
		if !strings.Contains(p, ":") {
			p += ":tcp"
		}
		f.Ports = append(f.Ports, p)
	}
	services := &blueprints.FirewallServices{Enabled: slices.Clone(c.list("--service")), Disabled: c.list("--remove-service")}
	for _, s := range []string{"ftp", "http", "smtp", "ssh"} {
		if c.has("--"+s) && !slices.Contains(services.Enabled, s) {
			services.Enabled = append(services.Enabled, s)
		}
	}
	if len(services.Enabled)+len(services.Disabled) > 0 {
		f.Services = services
	}
	if f.Services == nil && f.Ports == nil {
		// The firewall as the image has it, switched on.
		s := t.units()
		t.place(c, "services.enabled[%d]", len(s.Enabled))
		s.Enabled = append(s.Enabled, "firewalld.service")
		return
	}
	t.place(c, "firewall")
	t.s.Customizations.Firewall = f
}

// selinux is said to the kernel, which goes before /etc/selinux/config.
func (t *translation) selinux(c *Command) {
	switch {
	case len(c.options) > 1:
		t.wrong(c, "", "", "takes one of --enforcing, --permissive and --disabled")
	case c.has("--enforcing"):
		t.karg(c, "enforcing=1")
	case c.has("--permissive"):
		t.karg(c, "enforcing=0")
	case c.has("--disabled"):
		t.karg(c, "selinux=0")
	default:
		t.wrong(c, "", hintDrop, "says nothing")
	}
}

func (t *translation) karg(c *Command, arg string) {
	b := &t.s.Customizations
	if b.Kernel == nil {
		b.Kernel = &blueprints.Kernel{}
	}
	b.Kernel.Append = strings.TrimSpace(b.Kernel.Append + " " + arg)
	t.place(c, "kernel.append")
}

func (t *translation) bootloader(c *Command) {
	if a := c.text("--append"); a != "" {
		t.karg(c, a)
	}
	switch c.text("--location") {
	case "", "mbr":
	case "none":
		t.refuse(c, "--location", "", "without a boot loader the disk would not start")
	default:
		t.refuse(c, "--location", "--location=mbr", "boot loaders go where the firmware looks for them")
	}
	if d := c.text("--boot-drive"); d != "" {
		t.disks.use(t, c, "--boot-drive", d)
	}
}

func (t *translation) end(c *Command) {
	t.s.End = map[string]End{"reboot": EndReboot, "poweroff": EndPowerOff, "shutdown": EndPowerOff, "halt": EndHalt}[c.Name]
	t.s.Eject = c.has("--eject")
}
