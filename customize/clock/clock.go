// Package clock sets the time zone, localtime(5), and the servers of network time
// for chrony and systemd-timesyncd.
package clock

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "timezone".
type Config struct {
	Timezone   *string
	NTPServers []string
}

var (
	zoneName   = regexp.MustCompile(`^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$`)
	serverName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?$|^[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?$`)
)

const (
	zoneinfo = "/usr/share/zoneinfo"
	// maxConf bounds the configuration files that are read.
	maxConf = 1 << 20
)

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	if c.Timezone != nil && (!zoneName.MatchString(*c.Timezone) || len(*c.Timezone) > 255) {
		p.Add("timezone.timezone", fault.New(fault.Usage, fmt.Errorf("%q is not a time zone", *c.Timezone), `a time zone is named as in the tz database: "Europe/Berlin" or "UTC"`))
	}
	for i, s := range c.NTPServers {
		field := fmt.Sprintf("timezone.ntpservers[%d]", i)
		switch {
		case !serverName.MatchString(s) || len(s) > 255:
			p.Add(field, fault.New(fault.Usage, fmt.Errorf("%q is not the name or the address of a host", s), ""))
		case slices.Contains(c.NTPServers[:i], s):
			p.Add(field, fault.New(fault.Usage, fmt.Errorf("%s is in the list twice", s), ""))
		}
	}
	return p
}

// Apply links /etc/localtime as systemd-firstboot and timedatectl do, and writes the
// servers into the configuration of chrony as osbuild's stage does, of timesyncd into
// a drop-in. The error is customize.Problems where the configuration and the image do
// not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return nil, p
	}
	var problems customize.Problems
	if c.Timezone != nil {
		problems.Add("timezone.timezone", setZone(sys, *c.Timezone))
	}
	if len(c.NTPServers) > 0 {
		problems.Add("timezone.ntpservers", setServers(sys, c.NTPServers))
	}
	return nil, problems.Err()
}

func setZone(sys *customize.System, zone string) error {
	switch data := sys.Lookup(zoneinfo + "/" + zone); {
	case data != nil && data.IsFile():
		magic := make([]byte, 4)
		if _, err := data.Content.ReadAt(magic, 0); err != nil || string(magic) != "TZif" {
			return fault.New(fault.Usage, fmt.Errorf("%s is not a time zone: %s/%[1]s is a file of another kind", zone, zoneinfo), "")
		}
		if err := sys.Link("/etc/localtime", "../usr/share/zoneinfo/"+zone); err != nil {
			return err
		}
	case data == nil && zone == "UTC":
		// Without /etc/localtime it is UTC.
		if _, err := sys.Remove("/etc/localtime"); err != nil {
			return err
		}
	case sys.Lookup(zoneinfo) == nil:
		return fault.New(fault.Unsupported, errors.New("there are no time zones in the image"), "put "+sys.InstallLine("tzdata")+" into the Containerfile")
	default:
		return fault.New(fault.Usage, fmt.Errorf("the image knows no time zone %s", zone), "timedatectl list-timezones lists them")
	}
	// Debian kept the name in a file of its own.
	if old := sys.Lookup("/etc/timezone"); old != nil && old.IsFile() {
		return sys.WriteFile("/etc/timezone", 0o644, []byte(zone+"\n"))
	}
	return nil
}

func setServers(sys *customize.System, servers []string) error {
	found := false
	if sys.Lookup("/usr/sbin/chronyd") != nil || sys.Lookup("/usr/bin/chronyd") != nil {
		found = true
		conf := "/etc/chrony.conf"
		if sys.Lookup(conf) == nil {
			conf = "/etc/chrony/chrony.conf"
		}
		text, err := sys.ReadFile(conf, maxConf)
		if err != nil {
			return fault.New(fault.BadImage, fmt.Errorf("chrony is in the image, but not its configuration: %w", err), "")
		}
		if err := sys.WriteFile(conf, 0o644, chronyConf(text, servers)); err != nil {
			return err
		}
	}
	if sys.Lookup("/usr/lib/systemd/systemd-timesyncd") != nil {
		found = true
		text := "[Time]\nNTP=\nNTP=" + strings.Join(servers, " ") + "\n"
		if err := sys.WriteFile("/etc/systemd/timesyncd.conf.d/60-imgbuild.conf", 0o644, []byte(text)); err != nil {
			return err
		}
	}
	if !found {
		return fault.New(fault.Unsupported, errors.New("there is neither chrony nor systemd-timesyncd in the image"), "put "+sys.InstallLine("chrony")+" into the Containerfile")
	}
	return nil
}

var timeSource = regexp.MustCompile(`^(server|pool|peer) `)

// chronyConf returns a chrony.conf with other servers, as the stage org.osbuild.chrony
// makes it.
func chronyConf(text []byte, servers []string) []byte {
	var lines []string
	for _, s := range servers {
		lines = append(lines, "server "+s+" iburst")
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if !timeSource.MatchString(line) {
			lines = append(lines, line)
		}
	}
	return []byte(strings.Join(lines, "\n"))
}
