// Package firstboot installs scripts that run once, when the system boots first: as
// services of systemd, one after the other, until one fails.
package firstboot

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/customize/certs"
	"imgbuild/customize/units"
	"imgbuild/fault"
)

// Config is the table "firstboot".
type Config struct {
	Scripts []Script
}

// Script is an item of "firstboot.scripts". Which fields there are depends on the
// type.
type Script struct {
	Type          string // custom, satellite or aap
	Name          string
	IgnoreFailure bool
	After, Before []string // units
	Contents      string   // custom
	CACerts       []string // satellite, aap
	Command       string   // satellite
	// JobTemplateURL and HostConfigKey are those of aap.
	JobTemplateURL, HostConfigKey string
}

const (
	// prefix is what image-builder calls its services.
	prefix = "osbuild-first-boot-"
	// startUnit comes before all scripts. Since it moves the stamp to where it is gone
	// after a reboot, they run in the first boot only, whether they fail or not.
	startUnit = prefix + "start.service"
	stamp     = "/var/lib/imgbuild/first-boot"
	mark      = "/run/imgbuild-first-boot"
	scriptDir = "/etc/imgbuild/first-boot"
	unitDir   = "/etc/systemd/system"
	// maxScript bounds a script.
	maxScript = 1 << 20
)

var scriptName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

func field(i int, name string) string { return fmt.Sprintf("firstboot.scripts[%d].%s", i, name) }

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	used := map[string]bool{}
	for i, s := range c.Scripts {
		bad := func(name, format string, args ...any) {
			p.Add(field(i, name), fault.New(fault.Usage, fmt.Errorf(format, args...), ""))
		}
		kind := strings.ToLower(s.Type)
		name := s.Name
		switch kind {
		case "custom":
			switch {
			case name == "":
			case !scriptName.MatchString(name):
				bad("name", "%q is not a name of letters, digits, - and _", name)
			case name == "satellite" || name == "aap" || name == "start" || strings.HasPrefix(name, "custom"):
				bad("name", "%s is reserved", name)
			}
			if s.Contents == "" {
				bad("contents", "is missing")
			}
		case "satellite":
			name = kind
			if s.Command == "" {
				bad("command", "is missing")
			}
		case "aap":
			name = kind
			if u, err := url.Parse(s.JobTemplateURL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.ContainsAny(s.JobTemplateURL, "\n\r\x00") {
				bad("job_template_url", "%q is not a URL", s.JobTemplateURL)
			}
			if s.HostConfigKey == "" || strings.ContainsAny(s.HostConfigKey, "\n\r\x00") {
				bad("host_config_key", "is missing, or has a line break")
			}
		default:
			bad("type", "%q is not one of custom, satellite and aap", s.Type)
			continue
		}
		if name != "" && used[name] {
			bad("name", "there is a script %s already", name)
		}
		used[name] = true
		if strings.Contains(s.Contents+s.Command, "\x00") || len(s.Contents)+len(s.Command) > maxScript {
			bad("contents", "has a NUL byte, or more than %d bytes", maxScript)
		}
		for _, l := range []struct {
			name string
			list []string
		}{{"after", s.After}, {"before", s.Before}} {
			for k, unit := range l.list {
				if !units.ValidName(unit) {
					bad(fmt.Sprintf("%s[%d]", l.name, k), "%q is not the name of a unit with its suffix", unit)
				}
			}
		}
		p = append(p, certs.Validate(certs.Config{PEM: s.CACerts, Field: field(i, "cacerts")})...)
	}
	return p
}

// Apply writes the scripts and the services that run them. The error is
// customize.Problems where the configuration and the image do not fit; the system
// is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return nil, p
	}
	if len(c.Scripts) == 0 {
		return nil, nil
	}
	if sys.Lookup("/usr/lib/systemd/systemd") == nil {
		return nil, customize.Problems{{Field: "firstboot", Err: fault.New(fault.Unsupported, errors.New("there is no systemd in the image"), "")}}
	}
	var problems customize.Problems
	for i, s := range c.Scripts {
		w, err := certs.Apply(sys, certs.Config{PEM: s.CACerts, Field: field(i, "cacerts")})
		warnings = append(warnings, w...)
		if err == nil {
			continue
		}
		var p customize.Problems
		if !errors.As(err, &p) {
			return nil, err
		}
		problems = append(problems, p...)
	}
	for i, s := range c.Scripts {
		if strings.ToLower(s.Type) == "aap" && sys.Lookup("/usr/bin/curl") == nil {
			problems.Add(field(i, "type"), fault.New(fault.Unsupported, errors.New("there is no curl in the image"), "put "+sys.InstallLine("curl")+" into the Containerfile"))
		}
	}
	if len(problems) > 0 {
		return warnings, problems
	}
	return warnings, write(sys, c.Scripts)
}

// write writes the files.
func write(sys *customize.System, scripts []Script) error {
	shell := "/bin/sh"
	if sys.Lookup("/usr/bin/bash") != nil {
		shell = "/usr/bin/bash"
	}
	if err := sys.WriteFile(stamp, 0o600, nil); err != nil {
		return err
	}
	start := "[Unit]\nDescription=Start of the first boot's scripts\nConditionPathExists=" + stamp + "\n\n" +
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/mv " + stamp + " " + mark + "\n"
	if err := sys.WriteFile(unitDir+"/"+startUnit, 0o644, []byte(start)); err != nil {
		return err
	}
	before := startUnit
	for i, name := range names(scripts) {
		s := scripts[i]
		file := scriptDir + "/" + name
		if err := sys.WriteFile(file, 0o700, []byte(s.text(shell))); err != nil {
			return err
		}
		unit := prefix + name + ".service"
		if err := sys.WriteFile(unitDir+"/"+unit, 0o644, []byte(s.unit(name, file, before))); err != nil {
			return err
		}
		if err := sys.Link(unitDir+"/multi-user.target.wants/"+unit, unitDir+"/"+unit); err != nil {
			return err
		}
		before = unit
	}
	return nil
}

// names gives each script its name: image-builder counts those of type custom that
// have none.
func names(scripts []Script) (list []string) {
	n := 0
	for _, s := range scripts {
		name := s.Name
		switch kind := strings.ToLower(s.Type); {
		case kind != "custom":
			name = kind
		case name == "":
			n++
			name = fmt.Sprintf("custom-%d", n)
		}
		list = append(list, name)
	}
	return list
}

// text returns the script, with an interpreter.
func (s Script) text(shell string) string {
	text := s.Contents
	switch strings.ToLower(s.Type) {
	case "satellite":
		text = s.Command
	case "aap":
		text = fmt.Sprintf("curl -i --data %s %s", quote("host_config_key="+s.HostConfigKey), quote(s.JobTemplateURL))
	}
	if !strings.HasPrefix(text, "#!") {
		text = "#!" + shell + "\n" + text
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

// quote quotes a word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// unit returns the service that runs a script after another unit went well.
func (s Script) unit(name, file, before string) string {
	after := slices.Concat([]string{"network-online.target", before}, s.After)
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=First boot: %s\nConditionPathExists=%s\nWants=network-online.target\nRequires=%s\n", name, mark, before)
	fmt.Fprintf(&b, "After=%s\n", strings.Join(after, " "))
	if len(s.Before) > 0 {
		fmt.Fprintf(&b, "Before=%s\n", strings.Join(s.Before, " "))
	}
	ignore := ""
	if s.IgnoreFailure {
		ignore = "-"
	}
	fmt.Fprintf(&b, "\n[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=infinity\nExecStart=%s%s\n\n[Install]\nWantedBy=multi-user.target\n", ignore, file)
	return b.String()
}
