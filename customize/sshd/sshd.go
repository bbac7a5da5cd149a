// Package sshd configures the SSH server, sshd_config(5): by a file in
// sshd_config.d where sshd_config includes that, and by its lines else.
package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "sshd".
type Config struct {
	PasswordAuthentication       *bool
	ClientAliveInterval          *int64 // seconds
	PermitRootLogin              string // as in sshd_config(5), "" leaves it
	KbdInteractiveAuthentication *bool
}

const (
	confDir  = "/etc/ssh"
	mainConf = confDir + "/sshd_config"
	// dropIn comes before those of distributions and cloud-init, since the first line
	// counts.
	dropIn = confDir + "/sshd_config.d/00-imgbuild.conf"
)

// rootLogins are the values of PermitRootLogin.
var rootLogins = []string{"yes", "no", "prohibit-password", "without-password", "forced-commands-only"}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	if n := c.ClientAliveInterval; n != nil && (*n < 0 || *n > 1<<31-1) {
		p.Add("sshd.client_alive_interval", fault.New(fault.Usage, fmt.Errorf("%d is not a number of seconds", *n), ""))
	}
	if l := c.PermitRootLogin; l != "" && !slices.Contains(rootLogins, l) {
		p.Add("sshd.permit_root_login", fault.New(fault.Usage, fmt.Errorf("%q is not one of %s", l, strings.Join(rootLogins, ", ")), ""))
	}
	return p
}

// line is a line to set.
type line struct{ field, keyword, value string }

func (c Config) lines() (list []line) {
	yesNo := func(field, keyword string, b *bool) {
		if b != nil {
			list = append(list, line{field, keyword, map[bool]string{true: "yes", false: "no"}[*b]})
		}
	}
	yesNo("sshd.password_authentication", "PasswordAuthentication", c.PasswordAuthentication)
	yesNo("sshd.kbd_interactive_authentication", "KbdInteractiveAuthentication", c.KbdInteractiveAuthentication)
	if c.ClientAliveInterval != nil {
		list = append(list, line{"sshd.client_alive_interval", "ClientAliveInterval", fmt.Sprint(*c.ClientAliveInterval)})
	}
	if c.PermitRootLogin != "" {
		list = append(list, line{"sshd.permit_root_login", "PermitRootLogin", c.PermitRootLogin})
	}
	return list
}

// Apply writes the settings so that the server takes them before any others. The
// error is customize.Problems where the configuration and the image do not fit; the
// system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return nil, p
	}
	lines := c.lines()
	if len(lines) == 0 {
		return nil, nil
	}
	if sys.Lookup("/usr/sbin/sshd") == nil && sys.Lookup("/usr/bin/sshd") == nil || sys.Lookup(mainConf) == nil {
		return nil, customize.Problems{{Field: "sshd", Err: fault.New(fault.Unsupported, errors.New("there is no SSH server in the image"),
			"put "+sys.InstallLine("openssh-server")+" into the Containerfile")}}
	}
	var problems customize.Problems
	r, err := read(sys)
	if err != nil {
		problems.Add("sshd", fault.New(fault.BadImage, err, ""))
		return nil, problems
	}
	if r.dropIn {
		var b bytes.Buffer
		for _, l := range lines {
			fmt.Fprintf(&b, "%s %s\n", l.keyword, l.value)
		}
		if err := sys.WriteFile(dropIn, 0o600, b.Bytes()); err != nil {
			return nil, err
		}
	}
	for _, l := range lines {
		problems.Add(l.field, ensure(sys, l))
	}
	return nil, problems.Err()
}

// maxRounds bounds the lines that are changed for one setting: those of a keyword
// and its aliases, in files that are read before.
const maxRounds = 100

// ensure makes sure that the server takes the value: a line that it reads before is
// changed, and where there is none, one is added.
func ensure(sys *customize.System, l line) error {
	for range maxRounds {
		r, err := read(sys)
		if err != nil {
			return fault.New(fault.BadImage, err, "")
		}
		found, ok := r.found[strings.ToLower(l.keyword)]
		if ok && found.value == l.value {
			return nil
		}
		file := mainConf
		if ok {
			file = found.file
		}
		text, err := sys.ReadFile(file, maxConf)
		if err != nil {
			return err
		}
		if ok {
			text = replaceLine(text, found.line, l)
		} else {
			text = addLine(text, l)
		}
		if err := sys.WriteFile(file, 0o600, text); err != nil {
			if errors.Is(err, customize.ErrReadOnly) {
				return fault.New(fault.Unsupported, fmt.Errorf("%s line %d, which is part of the image, sets %s to %s before", found.file, found.line, l.keyword, found.value),
					"change that line in the Containerfile")
			}
			return err
		}
	}
	return fault.New(fault.BadImage, fmt.Errorf("%s cannot be set in %s", l.keyword, mainConf), "")
}

// replaceLine returns the text with another line.
func replaceLine(text []byte, number int, l line) []byte {
	var b bytes.Buffer
	n := 0
	for old := range bytes.Lines(text) {
		if n++; n == number {
			fmt.Fprintf(&b, "%s %s\n", l.keyword, l.value)
			continue
		}
		b.Write(old)
	}
	return b.Bytes()
}

// addLine returns the text with one more line, before the first Match.
func addLine(text []byte, l line) []byte {
	var b bytes.Buffer
	done := false
	for old := range bytes.Lines(text) {
		if keyword, _, err := parseLine(string(old)); !done && err == nil && keyword == "match" {
			fmt.Fprintf(&b, "%s %s\n", l.keyword, l.value)
			done = true
		}
		b.Write(old)
	}
	if !done {
		if b.Len() > 0 && !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s\n", l.keyword, l.value)
	}
	return b.Bytes()
}
