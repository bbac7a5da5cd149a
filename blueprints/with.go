package blueprints

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"imgbuild/document"
	"imgbuild/fault"
)

// With returns the configuration with the customizations of something else than a
// config file, which have places of their own. What both set is a problem, unless it
// is a list: lists add up. All is checked together. c may be nil.
func (c *Config) With(name string, own Customizations, places document.Places) (*Config, error) {
	out := &Config{places: document.Places{}}
	if c != nil {
		*out = *c
		out.places = maps.Clone(c.places)
	}
	out.Files = append(slices.Clone(out.Files), name)
	out.Warnings = nil
	r := &Report{}
	b := &out.Blueprint.Customizations
	own.check(r, b, out.places, places)
	if len(r.Problems) > 0 {
		return nil, r.err(out.Files)
	}
	m := merger{from: places, into: out.places}
	b.User = join(&m, "user", b.User, own.User)
	b.Group = join(&m, "group", b.Group, own.Group)
	b.SSHKey = join(&m, "sshkey", b.SSHKey, own.SSHKey)
	b.Files = join(&m, "files", b.Files, own.Files)
	if own.Hostname != nil {
		b.Hostname = own.Hostname
		m.keep("hostname")
	}
	if k := own.Kernel; k != nil {
		kernel := Kernel{}
		if b.Kernel != nil {
			kernel = *b.Kernel
		}
		kernel.Append = strings.TrimSpace(kernel.Append + " " + k.Append)
		b.Kernel = &kernel
		m.keep("kernel.append")
	}
	if t := own.Timezone; t != nil {
		clock := Timezone{}
		if b.Timezone != nil {
			clock = *b.Timezone
		}
		if t.Timezone != nil {
			clock.Timezone = t.Timezone
			m.keep("timezone.timezone")
		}
		clock.NTPServers = join(&m, "timezone.ntpservers", clock.NTPServers, t.NTPServers)
		b.Timezone = &clock
	}
	if l := own.Locale; l != nil {
		locale := Locale{}
		if b.Locale != nil {
			locale = *b.Locale
		}
		if l.Keyboard != nil {
			locale.Keyboard = l.Keyboard
			m.keep("locale.keyboard")
		}
		locale.Languages = join(&m, "locale.languages", locale.Languages, l.Languages)
		b.Locale = &locale
	}
	if s := own.Services; s != nil {
		services := Services{}
		if b.Services != nil {
			services = *b.Services
		}
		services.Enabled = join(&m, "services.enabled", services.Enabled, s.Enabled)
		services.Disabled = join(&m, "services.disabled", services.Disabled, s.Disabled)
		services.Masked = join(&m, "services.masked", services.Masked, s.Masked)
		b.Services = &services
	}
	if f := own.Firewall; f != nil {
		b.Firewall = m.firewall(b.Firewall, f)
	}
	if own.SSHD != nil {
		sshd := SSHD{}
		if b.SSHD != nil {
			sshd = *b.SSHD
		}
		sshd.PermitRootLogin = own.SSHD.PermitRootLogin
		b.SSHD = &sshd
		m.keep("sshd")
	}
	out.normalize()
	out.check(r)
	return out, out.settle(r)
}

// check adds what cannot be said twice.
func (own *Customizations) check(r *Report, b *Customizations, at, places document.Places) {
	twice := func(path string, both bool) {
		if both {
			path = "customizations." + path
			r.Problems = append(r.Problems, Problem{
				At: places.Of(path), Path: path, Class: fault.Config, Message: fmt.Sprintf("is set in %s as well", at.Of(path)), Hint: "say it in one place",
			})
		}
	}
	twice("hostname", own.Hostname != nil && b.Hostname != nil)
	if t := own.Timezone; t != nil && b.Timezone != nil {
		twice("timezone.timezone", t.Timezone != nil && b.Timezone.Timezone != nil)
	}
	if l := own.Locale; l != nil && b.Locale != nil {
		twice("locale.languages", len(l.Languages) > 0 && len(b.Locale.Languages) > 0)
		twice("locale.keyboard", l.Keyboard != nil && b.Locale.Keyboard != nil)
	}
	twice("sshd.permit_root_login", own.SSHD != nil && b.SSHD != nil && b.SSHD.PermitRootLogin != "")
}

// merger takes places over.
type merger struct{ from, into document.Places }

// keep takes the place of a key.
func (m *merger) keep(path string) {
	path = "customizations." + path
	m.into[path] = m.from.Of(path)
}

// join appends a list at a path, and the places of its elements.
func join[T any](m *merger, path string, before, more []T) []T {
	for i := range more {
		m.into[fmt.Sprintf("customizations.%s[%d]", path, len(before)+i)] = m.from.Of(fmt.Sprintf("customizations.%s[%d]", path, i))
	}
	return append(slices.Clone(before), more...)
}

func (m *merger) firewall(before, f *Firewall) *Firewall {
	out := Firewall{}
	if before != nil {
		out = *before
	}
	out.Ports = join(m, "firewall.ports", out.Ports, f.Ports)
	if f.Services != nil {
		services := FirewallServices{}
		if out.Services != nil {
			services = *out.Services
		}
		services.Enabled = join(m, "firewall.services.enabled", services.Enabled, f.Services.Enabled)
		services.Disabled = join(m, "firewall.services.disabled", services.Disabled, f.Services.Disabled)
		out.Services = &services
	}
	return &out
}
