// Package firewalld writes zones of firewalld as firewall-offline-cmd of firewalld
// 2 does: opened ports and services of the default zone, and sources of zones.
package firewalld

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// Config is the table "firewall".
type Config struct {
	// Ports are ports and ranges, "22:tcp", "8000-8080:udp" or "imap:tcp", opened in
	// the default zone.
	Ports []string
	// Enabled and Disabled are services of the default zone.
	Enabled, Disabled []string
	Zones             []Zone
}

// Zone is an item of "firewall.zones". A zone that does not exist is made.
type Zone struct {
	Name    string
	Sources []string
}

// Where firewalld looks, the first one wins.
const (
	etc = "/etc/firewalld"
	lib = "/usr/lib/firewalld"
)

var (
	zoneName    = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	serviceName = regexp.MustCompile(`^[a-zA-Z0-9_.+-]+$`)
)

// maxZoneName is max_zone_name_len of firewalld 2; before 2.5 it was oldZoneName.
const (
	maxZoneName = 96
	oldZoneName = 17
)

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	bad := func(field, format string, args ...any) {
		p.Add(field, fault.New(fault.Usage, fmt.Errorf(format, args...), ""))
	}
	for i, s := range c.Ports {
		field := fmt.Sprintf("firewall.ports[%d]", i)
		switch port, err := parsePort(s); {
		case err != nil:
			p.Add(field, fault.New(fault.Usage, err, ""))
		case isNumber(port.ports):
			if _, err := (services{}).span(port.ports); err != nil {
				bad(field, "port %s %w", port.ports, err)
			}
		}
	}
	where := map[string]string{}
	for _, l := range []struct {
		key   string
		names []string
	}{{"enabled", c.Enabled}, {"disabled", c.Disabled}} {
		for i, name := range l.names {
			field := fmt.Sprintf("firewall.services.%s[%d]", l.key, i)
			switch {
			case !serviceName.MatchString(name):
				bad(field, "%q is not the name of a service", name)
			case where[name] != "" && where[name] != l.key:
				bad(field, "%s is in firewall.services.%s as well", name, where[name])
			}
			where[name] = l.key
		}
	}
	bound := map[string]string{}
	for i, z := range c.Zones {
		field := fmt.Sprintf("firewall.zones[%d]", i)
		switch {
		case z.Name == "":
			bad(field+".name", "is missing")
		case !zoneName.MatchString(z.Name) || len(z.Name) > maxZoneName:
			bad(field+".name", "%q is not a name that a zone can have: letters, digits, - and _, at most %d", z.Name, maxZoneName)
		}
		if len(z.Sources) == 0 {
			bad(field+".sources", "is missing: a zone is for the sources that it lists")
		}
		for k, s := range z.Sources {
			field := fmt.Sprintf("%s.sources[%d]", field, k)
			if err := checkSource(s); err != nil {
				p.Add(field, fault.New(fault.Usage, err, ""))
			} else if other := bound[s]; other != "" && other != z.Name {
				bad(field, "%s is a source of zone %s already", s, other)
			}
			bound[s] = z.Name
		}
	}
	return p
}

// Apply writes zone files below /etc/firewalld. The error is customize.Problems
// where the configuration and the image do not fit; the system is to be given up
// after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return nil, p
	}
	if len(c.Ports)+len(c.Enabled)+len(c.Disabled)+len(c.Zones) == 0 {
		return nil, nil
	}
	if sys.Lookup("/usr/sbin/firewalld") == nil && sys.Lookup("/usr/bin/firewalld") == nil {
		return nil, customize.Problems{{Field: "firewall", Err: fault.New(fault.Unsupported, errors.New("there is no firewalld in the image"),
			"put "+sys.InstallLine("firewalld")+" into the Containerfile")}}
	}
	known, err := readServices(sys)
	if err != nil {
		return nil, err
	}
	f := &firewall{sys: sys, known: known}
	if len(c.Ports)+len(c.Enabled)+len(c.Disabled) > 0 {
		f.defaultZone(c)
	}
	for i, z := range c.Zones {
		f.sources(fmt.Sprintf("firewall.zones[%d]", i), z)
	}
	return f.warnings, f.problems.Err()
}

type firewall struct {
	sys                *customize.System
	known              services
	warnings, problems customize.Problems
}

func (f *firewall) warn(field, format string, args ...any) {
	f.warnings.Add(field, fault.New(fault.Usage, fmt.Errorf(format, args...), ""))
}

func (f *firewall) problem(field string, err error) {
	f.problems.Add(field, fault.Default(fault.Usage, err))
}

// find returns the path of a configuration file, "" where there is none.
func (f *firewall) find(kind, name string) string {
	for _, dir := range []string{etc, lib} {
		p := path.Join(dir, kind, name+".xml")
		if i := f.sys.Lookup(p); i != nil && i.IsFile() {
			return p
		}
	}
	return ""
}

// read returns a zone; the error wraps fs.ErrNotExist where there is none.
func (f *firewall) read(name string) (*zone, error) {
	p := f.find("zones", name)
	if p == "" {
		return nil, fs.ErrNotExist
	}
	text, err := f.sys.ReadFile(p, maxZone)
	if err != nil {
		return nil, err
	}
	z, err := parseZone(text, f.known)
	if err != nil {
		return nil, fault.New(fault.BadImage, fmt.Errorf("%s: %w", p, err), "")
	}
	return z, nil
}

// write writes a zone file.
func (f *firewall) write(name string, z *zone) error {
	for _, dir := range []string{etc, etc + "/zones"} {
		if f.sys.Lookup(dir) == nil {
			if _, err := f.sys.Put(dir, func(*tree.Inode) (*tree.Inode, error) { return tree.NewDir(0o750), nil }); err != nil {
				return err
			}
		}
	}
	_, err := f.sys.Put(etc+"/zones/"+name+".xml", func(old *tree.Inode) (*tree.Inode, error) {
		i := tree.NewFile(0o644, content.Ref{})
		if old != nil {
			if !old.IsFile() {
				return nil, errors.New("not a regular file")
			}
			i = old.Copy()
		}
		i.Content, i.Object = content.Bytes(z.encode()), tree.Sum{}
		return i, nil
	})
	return err
}

// defaultName returns DefaultZone of firewalld.conf.
func (f *firewall) defaultName() (string, error) {
	const fallback = "public"
	p := etc + "/firewalld.conf"
	if f.sys.Lookup(p) == nil {
		return fallback, nil
	}
	text, err := f.sys.ReadFile(p, maxZone)
	if err != nil {
		return "", err
	}
	if name := defaultZone(text); name != "" {
		return name, nil
	}
	return fallback, nil
}

// defaultZone returns DefaultZone as firewalld_conf.read finds it, or "".
func defaultZone(conf []byte) string {
	for line := range bytes.Lines(conf) {
		l := strings.TrimSpace(string(line))
		if l == "" || l[0] == '#' || l[0] == ';' {
			continue
		}
		pair := strings.Split(l, "=")
		if len(pair) == 2 && strings.TrimSpace(pair[0]) == "DefaultZone" && strings.TrimSpace(pair[1]) != "" {
			return strings.TrimSpace(pair[1])
		}
	}
	return ""
}

// defaultZone opens ports and services of the default zone.
func (f *firewall) defaultZone(c Config) {
	name, err := f.defaultName()
	var z *zone
	if err == nil {
		z, err = f.read(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.New(fault.BadImage, fmt.Errorf("the default zone %s does not exist in the image", name), "")
	}
	if err != nil {
		f.problem("firewall", err)
		return
	}
	for i, s := range c.Enabled {
		if f.find("services", s) == "" {
			f.problem(fmt.Sprintf("firewall.services.enabled[%d]", i), fmt.Errorf("firewalld of the image knows no service %s", s))
		}
		if !slices.Contains(z.services, s) {
			z.services = append(z.services, s)
		}
	}
	for i, s := range c.Disabled {
		k := slices.Index(z.services, s)
		if k < 0 {
			f.warn(fmt.Sprintf("firewall.services.disabled[%d]", i), "%s is not enabled in zone %s anyway", s, name)
			continue
		}
		z.services = slices.Delete(z.services, k, k+1)
	}
	for i, s := range c.Ports {
		p, err := parsePort(s)
		if err == nil {
			_, err = f.known.span(p.ports)
		}
		if err != nil {
			f.problem(fmt.Sprintf("firewall.ports[%d]", i), fmt.Errorf("port %s %w", p.ports, err))
			continue
		}
		if !slices.Contains(z.ports, p) {
			z.ports = append(z.ports, p)
		}
	}
	if err := f.write(name, z); err != nil {
		f.problem("firewall", err)
	}
}

// sources adds the sources of an item to its zone.
func (f *firewall) sources(field string, c Zone) {
	z, err := f.read(c.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if f.find("policies", c.Name) != "" {
			f.problem(field+".name", fmt.Errorf("%s is a policy, and a zone cannot have the same name", c.Name))
			return
		}
		if len(c.Name) > oldZoneName {
			f.warn(field+".name", "%s has more than %d characters, which firewalld before 2.5 does not take", c.Name, oldZoneName)
		}
		z = &zone{}
	case err != nil:
		f.problem(field+".name", err)
		return
	}
	others, err := f.otherSources(c.Name)
	if err != nil {
		f.problem(field, err)
		return
	}
	for i, s := range c.Sources {
		at := fmt.Sprintf("%s.sources[%d]", field, i)
		if other := others[s]; other != "" {
			f.problem(at, fmt.Errorf("%s is a source of zone %s already", s, other))
			continue
		}
		if set, ok := strings.CutPrefix(s, "ipset:"); ok && f.find("ipsets", set) == "" {
			f.warn(at, "firewalld of the image knows no ipset %s", set)
		}
		if !slices.Contains(z.sources, s) {
			z.sources = append(z.sources, s)
		}
	}
	if err := f.write(c.Name, z); err != nil {
		f.problem(field, err)
	}
}

// otherSources returns the zones of all sources but those of one zone. Zones that
// cannot be read are left out, as firewalld leaves them out.
func (f *firewall) otherSources(but string) (map[string]string, error) {
	found := map[string]string{}
	done := map[string]bool{but: true}
	for _, dir := range []string{etc, lib} {
		i := f.sys.Lookup(dir + "/zones")
		if i == nil {
			continue
		}
		for _, e := range i.Entries() {
			name, ok := strings.CutSuffix(e.Name, ".xml")
			if !ok || done[name] {
				continue
			}
			done[name] = true
			z, err := f.read(name)
			if err != nil {
				continue
			}
			for _, s := range z.sources {
				found[s] = name
			}
		}
	}
	return found, nil
}
