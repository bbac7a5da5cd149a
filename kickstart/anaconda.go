package kickstart

import (
	"fmt"
	"slices"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/customize/crypt"
	"imgbuild/fault"
	"imgbuild/layouts"
)

// Where Anaconda finds things while it installs: its medium, and the two kickstarts
// on it.
const (
	AnacondaMedium = "/run/install/repo"
	AnacondaMain   = "osbuild.ks"
	AnacondaBase   = "osbuild-base.ks"
)

// Anaconda is what Anaconda is told by the two kickstarts that bootc-image-builder
// puts onto its media: the base, which installs the container on the medium, and the
// main one, which includes it. Other than there, disks are erased without a question
// only on demand, and a root password that is asked for stays.
type Anaconda struct {
	// Payload is the directory of the OCI layout on the medium.
	Payload string
	// Target is what the installed system follows, and Transport how, as `bootc switch`
	// takes both.
	Target, Transport string
	// Stateroot is the name of the stateroot, "" for Anaconda's default.
	Stateroot string
	// Signed makes the installed system verify signatures of images.
	Signed bool
	// RootFS is the type of the root file system.
	RootFS string
	// Unattended lets Anaconda erase all disks and reboot without a question.
	Unattended bool
	// Own is a kickstart that does all the rest, "" for none.
	Own string
	// Customizations are those of the system; passwords are hashes.
	Customizations blueprints.Customizations
}

// Files returns both kickstarts.
func (a *Anaconda) Files() (main, base string) {
	var b lineWriter
	container := []string{"--url=" + AnacondaMedium + "/" + a.Payload, "--transport=oci"}
	if a.Stateroot != "" {
		container = append(container, "--stateroot="+a.Stateroot)
	}
	b.line("ostreecontainer", container...)
	if a.Own == "" {
		a.system(&b)
	}
	verify := ""
	if a.Signed {
		verify = " --enforce-container-sigpolicy"
	}
	b.post("set -e", "bootc switch --mutate-in-place"+verify+" --transport "+quote(a.Transport)+" "+quote(a.Target),
		"# what tests of media wait for", "if [ -c /dev/ttyS0 ]; then", `  echo "Install finished" > /dev/ttyS0 || true`, "fi")
	if a.Own == "" {
		a.sudoers(&b)
	}
	var m lineWriter
	m.line("%include", AnacondaMedium+"/"+AnacondaBase)
	switch {
	case a.Own != "":
		m.WriteString(strings.TrimRight(a.Own, "\n") + "\n")
	case a.Unattended && a.RootFS == layouts.Btrfs:
		m.line("autopart", "--nohome", "--type=btrfs")
	case a.Unattended:
		m.line("autopart", "--nohome", "--type=plain", "--fstype="+a.RootFS)
	}
	if a.Own == "" && a.Unattended {
		m.line("reboot", "--eject")
	}
	return m.String(), b.String()
}

// system writes what the customizations ask for.
func (a *Anaconda) system(b *lineWriter) {
	c := &a.Customizations
	for _, g := range c.Group {
		words := []string{"--name=" + g.Name}
		if g.GID != nil {
			words = append(words, fmt.Sprintf("--gid=%d", *g.GID))
		}
		b.line("group", words...)
	}
	a.users(b)
	lang, keyboard, zone := "en_US.UTF-8", "us", "UTC"
	if l := c.Locale; l != nil {
		if len(l.Languages) > 0 {
			lang = l.Languages[0]
		}
		if l.Keyboard != nil {
			keyboard = *l.Keyboard
		}
	}
	words := []string{lang}
	if c.Locale != nil && len(c.Locale.Languages) > 1 {
		words = append(words, "--addsupport="+strings.Join(c.Locale.Languages[1:], ","))
	}
	b.line("lang", words...)
	b.line("keyboard", keyboard)
	if t := c.Timezone; t != nil {
		if t.Timezone != nil {
			zone = *t.Timezone
		}
		for _, s := range t.NTPServers {
			b.line("timesource", "--ntp-server="+s)
		}
	}
	b.line("timezone", zone, "--utc")
	a.services(b)
	if a.Unattended {
		b.line("clearpart", "--all")
	}
	network := []string{"--device=link", "--bootproto=dhcp", "--onboot=on", "--activate"}
	if c.Hostname != nil {
		network = append(network, "--hostname="+*c.Hostname)
	}
	b.line("network", network...)
	if k := c.Kernel; k != nil && k.Append != "" {
		b.line("bootloader", "--append="+k.Append)
	}
}

// users writes the accounts and their keys. Root is locked where nobody may choose
// otherwise and nothing is said of it.
func (a *Anaconda) users(b *lineWriter) {
	c := &a.Customizations
	root := false
	for _, u := range c.User {
		if u.Name == "root" {
			root = true
			if u.Password != nil {
				b.password("rootpw", *u.Password)
			} else {
				b.line("rootpw", "--lock")
			}
		} else {
			words := []string{"--name=" + u.Name}
			add := func(option string, value *string) {
				if value != nil && *value != "" {
					words = append(words, option+"="+*value)
				}
			}
			add("--gecos", u.Description)
			add("--shell", u.Shell)
			add("--homedir", u.Home)
			if u.UID != nil {
				words = append(words, fmt.Sprintf("--uid=%d", *u.UID))
			}
			if u.GID != nil {
				words = append(words, fmt.Sprintf("--gid=%d", *u.GID))
			}
			if len(u.Groups) > 0 {
				words = append(words, "--groups="+strings.Join(u.Groups, ","))
			}
			if u.Password != nil {
				if kind, _ := crypt.Classify(*u.Password); kind == crypt.Hashed {
					words = append(words, "--iscrypted", "--password="+*u.Password)
				} else {
					words = append(words, "--lock")
				}
			}
			b.line("user", words...)
		}
		if u.Key != nil {
			b.keys(u.Name, *u.Key)
		}
	}
	for _, k := range c.SSHKey {
		b.keys(k.User, k.Key)
	}
	if !root && (a.Unattended || len(c.User) > 0) {
		b.line("rootpw", "--lock")
	}
}

// services writes what runs and what is let through to it.
func (a *Anaconda) services(b *lineWriter) {
	c := &a.Customizations
	if s := c.Services; s != nil && len(s.Enabled)+len(s.Disabled) > 0 {
		var words []string
		if len(s.Disabled) > 0 {
			words = append(words, "--disabled="+strings.Join(s.Disabled, ","))
		}
		if len(s.Enabled) > 0 {
			words = append(words, "--enabled="+strings.Join(s.Enabled, ","))
		}
		b.line("services", words...)
	}
	f := c.Firewall
	if f == nil {
		return
	}
	words := []string{"--enabled"}
	for _, p := range f.Ports {
		words = append(words, "--port="+p)
	}
	if f.Services != nil {
		if len(f.Services.Enabled) > 0 {
			words = append(words, "--service="+strings.Join(f.Services.Enabled, ","))
		}
		if len(f.Services.Disabled) > 0 {
			words = append(words, "--remove-service="+strings.Join(f.Services.Disabled, ","))
		}
	}
	if len(words) > 1 {
		b.line("firewall", words...)
	}
}

// sudoers writes the script for those who need no password.
func (a *Anaconda) sudoers(b *lineWriter) {
	i := a.Customizations.Installer
	if i == nil || len(i.SudoNopasswd) == 0 {
		return
	}
	lines := []string{"set -e", "mkdir -p /etc/sudoers.d"}
	who := slices.Clone(i.SudoNopasswd)
	slices.Sort(who)
	for _, w := range slices.Compact(who) {
		name, text := blueprints.Sudoers(w)
		lines = append(lines, fmt.Sprintf(`printf '%%s\tALL=(ALL)\tNOPASSWD: ALL\n' %s >%s`, quote(strings.SplitN(text, "\t", 2)[0]), quote("/etc/sudoers.d/"+name)),
			"chmod 0440 "+quote("/etc/sudoers.d/"+name))
	}
	b.post(append(lines, "restorecon -rF /etc/sudoers.d || true")...)
}

// CheckOwn returns what is wrong with a kickstart for Anaconda, and what may be: its
// version of the syntax is not known here, and may be another one. An error is a
// *Report.
func CheckOwn(name, text string) (warnings []string, err error) {
	p := newParser(name)
	p.file(text)
	wrong := &Report{Name: name}
	for _, q := range p.report.Problems {
		switch {
		case q.Kind == Syntax:
			warnings = append(warnings, name+": "+q.Error())
		case q.Kind == Unsupported && slices.Contains([]string{"ostreecontainer", "ostreesetup", "bootc", "liveimg", "url", "nfs", "cdrom", "harddrive", "hmc"}, q.Command):
			q.Message, q.Hint = "the medium installs its own container, by a line ostreecontainer that comes first", hintDrop
			q.Kind = Value
			wrong.Problems = append(wrong.Problems, q)
		}
	}
	if err := wrong.err(); err != nil {
		return nil, fault.New(fault.Config, err, "")
	}
	return warnings, nil
}

// lineWriter writes a kickstart.
type lineWriter struct{ strings.Builder }

func (b *lineWriter) line(command string, words ...string) {
	b.WriteString(command)
	for _, w := range words {
		b.WriteByte(' ')
		// Of an option, only the value needs quotes.
		if name, value, ok := strings.Cut(w, "="); ok && strings.HasPrefix(name, "--") {
			b.WriteString(name + "=" + quote(value))
		} else {
			b.WriteString(quote(w))
		}
	}
	b.WriteByte('\n')
}

// password writes a line for a password that is a hash or a lock.
func (b *lineWriter) password(command, password string) {
	if kind, _ := crypt.Classify(password); kind == crypt.Hashed {
		b.line(command, "--iscrypted", password)
	} else {
		b.line(command, "--lock")
	}
}

// keys writes a line for each key of a text as it would stand in authorized_keys.
func (b *lineWriter) keys(user, text string) {
	for key := range strings.Lines(text) {
		if key = strings.TrimSpace(key); key != "" && key[0] != '#' {
			b.line("sshkey", "--username="+user, key)
		}
	}
}

func (b *lineWriter) post(lines ...string) {
	b.WriteString("%post --erroronfail\n" + strings.Join(lines, "\n") + "\n%end\n")
}

// quote returns a word as shlex and shells read it back.
func quote(s string) string {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/@+=,%", r)
	})
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
