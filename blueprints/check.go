package blueprints

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/bootc"
	"imgbuild/customize/accounts"
	"imgbuild/customize/certs"
	"imgbuild/customize/clock"
	"imgbuild/customize/console"
	"imgbuild/customize/dnf"
	"imgbuild/customize/files"
	"imgbuild/customize/fips"
	"imgbuild/customize/firewalld"
	"imgbuild/customize/firstboot"
	"imgbuild/customize/hostname"
	"imgbuild/customize/ignition"
	"imgbuild/customize/locale"
	"imgbuild/customize/sshd"
	"imgbuild/customize/units"
	"imgbuild/fault"
)

// checker collects problems with keys below customizations.
type checker struct {
	config *Config
	report *Report
}

func (k checker) add(path string, err error) {
	k.report.Problems = append(k.report.Problems, k.config.problem("customizations."+path, err))
}

func (k checker) addf(path, format string, args ...any) {
	k.add(path, fmt.Errorf(format, args...))
}

// check adds everything that is wrong with the values whatever the image.
func (c *Config) check(r *Report) {
	k := checker{c, r}
	k.filesystems()
	k.disk()
	k.firstboot()
	k.kernel()
	k.media()
	s := c.Settings()
	k.users(s)
	for _, err := range s.validate(c.filesOptions()) {
		r.addAt(c, err)
	}
	for _, p := range accounts.Warnings(s.Users) {
		c.Warnings = append(c.Warnings, c.problem(c.accountPath(p), p.Err).Error())
	}
}

func (c *Config) filesOptions() files.Options { return files.Options{Allow: c.Options.AllowPaths} }

// validate returns what the packages that apply the settings say of them.
func (s *Settings) validate(o files.Options) (errs []error) {
	add := func(err error) { errs = append(errs, err) }
	if p := accounts.Validate(s.Users, s.Groups); len(p) > 0 {
		add(p)
	}
	if s.Hostname != nil {
		add(hostname.Validate(*s.Hostname).Err())
	}
	if s.Clock != nil {
		add(clock.Validate(*s.Clock).Err())
	}
	if s.Locale != nil {
		add(locale.Validate(*s.Locale).Err())
	}
	if s.Units != nil {
		add(units.Validate(*s.Units).Err())
	}
	if s.Firewall != nil {
		add(firewalld.Validate(*s.Firewall).Err())
	}
	if s.Files != nil {
		add(files.Validate(*s.Files, o).Err())
	}
	if s.SSHD != nil {
		add(sshd.Validate(*s.SSHD).Err())
	}
	if s.Certs != nil {
		add(certs.Validate(*s.Certs).Err())
	}
	if s.Ignition != nil {
		add(ignition.Validate(*s.Ignition).Err())
	}
	if s.FIPS != nil {
		add(fips.Validate(*s.FIPS).Err())
	}
	if s.Console != nil {
		add(console.Validate(*s.Console).Err())
	}
	if s.DNF != nil {
		add(dnf.Validate(*s.DNF).Err())
	}
	if s.Firstboot != nil {
		add(firstboot.Validate(*s.Firstboot).Err())
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// users checks the old table of keys, which has no counterpart in accounts.
func (k checker) users(*Settings) {
	for i, s := range k.config.Blueprint.Customizations.SSHKey {
		if strings.TrimSpace(s.Key) == "" && k.config.has(fmt.Sprintf("customizations.sshkey[%d].key", i)) {
			k.addf(fmt.Sprintf("sshkey[%d].key", i), "empty")
		}
	}
}

// kernel checks the kernel command line.
func (k checker) kernel() {
	b := k.config.Blueprint.Customizations
	if b.Kernel == nil {
		return
	}
	for _, arg := range SplitKargs(b.Kernel.Append) {
		if err := bootc.CheckKarg(arg); err != nil {
			k.add("kernel.append", fault.New(fault.Config, err, fault.HintOf(err)))
		}
		if strings.HasPrefix(arg, "ostree=") {
			k.add("kernel.append", fault.New(fault.Config, fmt.Errorf("argument %q belongs to ostree", arg), "drop it; imgbuild writes the one of the deployment"))
		}
	}
}

// filesystems checks the sizes of file systems as upstream does
// (filesystem_customizations.go, and checkMountpoints of
// distro/generic/bootc_imagetype.go in osbuild/image-builder).
func (k checker) filesystems() {
	b := k.config.Blueprint.Customizations
	seen := map[string]bool{}
	for i, f := range b.Filesystem {
		at := fmt.Sprintf("filesystem[%d]", i)
		has := func(key string) bool { return k.config.has("customizations." + at + "." + key) }
		switch {
		case has("size") && has("minsize"):
			k.addf(at+".size", "size and minsize cannot both be set (size is an alias for minsize)")
		case !has("size") && !has("minsize"):
			k.addf(at+".minsize", "missing")
		}
		if !has("mountpoint") {
			continue
		}
		at += ".mountpoint"
		if err := checkMountpoint(f.Mountpoint); err != nil {
			k.add(at, err)
		} else if !MountpointAllowed(f.Mountpoint) {
			k.addf(at, "path %q is not allowed: only /, /boot and paths below /var that are no links there can be file systems of their own", f.Mountpoint)
		} else if seen[f.Mountpoint] {
			k.addf(at, "duplicate mountpoint %q", f.Mountpoint)
		}
		seen[f.Mountpoint] = true
	}
	if len(b.Filesystem) > 0 && b.Disk != nil {
		k.addf("disk", "cannot combine disk and filesystem customizations")
	}
}

// MountpointAllowed tells whether customizations.filesystem may have a mountpoint,
// on a root that is no btrfs; on a btrfs, only / and /boot.
func MountpointAllowed(p string) bool {
	if p == "/" || p == "/boot" {
		return true
	}
	// Links to elsewhere, and what belongs to the users of the system.
	for _, denied := range []string{"/var/home", "/var/lock", "/var/mail", "/var/mnt", "/var/roothome", "/var/run", "/var/srv", "/var/usrlocal"} {
		if p == denied || strings.HasPrefix(p, denied+"/") {
			return false
		}
	}
	return strings.HasPrefix(p, "/var/")
}

// checkMountpoint is upstream's validateMountpoint.
func checkMountpoint(p string) error {
	if p == "" {
		return errors.New("mountpoint is empty")
	}
	if !strings.HasPrefix(p, "/") {
		return fmt.Errorf("mountpoint %q is not an absolute path", p)
	}
	if clean := path.Clean(p); clean != p {
		return fmt.Errorf("mountpoint %q is not a canonical path (did you mean %q?)", p, clean)
	}
	return nil
}

// firstboot checks which keys the kinds of script have, as upstream's SelectUnion.
func (k checker) firstboot() {
	b := k.config.Blueprint.Customizations.Firstboot
	if b == nil {
		return
	}
	keys := map[string][]string{
		"custom": {"contents"}, "satellite": {"cacerts", "command"}, "aap": {"cacerts", "job_template_url", "host_config_key"},
	}
	for i, s := range b.Scripts {
		own, ok := keys[s.Type]
		if !ok {
			continue // said by the reader
		}
		at := fmt.Sprintf("firstboot.scripts[%d]", i)
		for _, key := range []string{"contents", "cacerts", "command", "job_template_url", "host_config_key"} {
			if k.config.has("customizations."+at+"."+key) && !slices.Contains(own, key) {
				k.addf(at+"."+key, "not a key of scripts of type %q", s.Type)
			}
		}
	}
}
