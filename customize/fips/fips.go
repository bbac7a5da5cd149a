// Package fips turns FIPS mode on as osbuild does: the kernel argument, the mark in
// /etc, and the policy FIPS of crypto-policies. The module that checks the kernel
// before anything is used has to be in the image's initramfs.
package fips

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the key "fips".
type Config struct {
	Enabled bool
}

const (
	field    = "fips"
	policies = "/usr/share/crypto-policies/FIPS"
	backEnds = "/etc/crypto-policies/back-ends"
	localDir = "/etc/crypto-policies/local.d"
	// maxConf bounds the files of crypto policies.
	maxConf = 1 << 20
)

// containerLines are what to write into the Containerfile instead.
const containerLines = `RUN echo 'add_dracutmodules+=" fips "' >/usr/lib/dracut/dracut.conf.d/40-fips.conf && ` +
	`kver=$(cd /usr/lib/modules && echo *) && dracut -f --kver $kver /usr/lib/modules/$kver/initramfs.img`

// Validate returns everything that is wrong whatever the image: nothing.
func Validate(Config) customize.Problems { return nil }

// Apply sets the policy and returns the kernel argument. The error is
// customize.Problems where the configuration and the image do not fit; the system
// is to be given up after any error.
func Apply(sys *customize.System, c Config) (effects customize.Effects, warnings customize.Problems, err error) {
	if !c.Enabled {
		return effects, nil, nil
	}
	found, err := inInitramfs(sys)
	if err != nil {
		err = fault.New(fault.Unsupported, fmt.Errorf("it is not known whether the image's initramfs has dracut's module fips: %w", err), "put "+containerLines+" into the Containerfile")
	} else if !found {
		err = fault.New(fault.Unsupported, errors.New("the image's initramfs is without dracut's module fips, so the kernel would not be checked"), "put "+containerLines+" into the Containerfile")
	}
	if err != nil {
		return effects, nil, customize.Problems{{Field: field, Err: err}}
	}
	if err := sys.WriteFile("/etc/system-fips", 0o644, []byte("# FIPS module installation complete\n")); err != nil {
		return effects, nil, err
	}
	if sys.Lookup(policies) == nil || sys.Lookup(backEnds) == nil {
		warnings.Add(field, fault.New(fault.Unsupported, errors.New("the image has no crypto policies, so its libraries decide for themselves what FIPS mode means"), ""))
	} else if err := setPolicy(sys); err != nil {
		return effects, nil, err
	}
	return customize.Effects{Kargs: []string{"fips=1"}}, warnings, nil
}

// inInitramfs tells whether all kernels of the image have the module.
func inInitramfs(sys *customize.System) (bool, error) {
	const dir = "/usr/lib/modules"
	kernels := sys.Lookup(dir)
	if kernels == nil {
		return false, errors.New("there is no kernel")
	}
	n := 0
	for _, e := range kernels.Entries() {
		i := sys.Lookup(path.Join(dir, e.Name, "initramfs.img"))
		if i == nil || !i.IsFile() {
			continue
		}
		n++
		found, err := hasFIPS(i.Content.Reader())
		if err != nil || !found {
			return false, err
		}
	}
	return n > 0, nil
}

// setPolicy is update-crypto-policies --set FIPS: a link for each back end, or a
// file where there are local additions to it.
func setPolicy(sys *customize.System) error {
	for _, e := range sys.Lookup(backEnds).Entries() {
		name, ok := strings.CutSuffix(e.Name, ".config")
		target := policies + "/" + name + ".txt"
		if !ok || sys.Lookup(target) == nil {
			continue
		}
		local, err := additions(sys, name)
		if err != nil {
			return err
		}
		p := backEnds + "/" + e.Name
		if len(local) == 0 {
			if err := sys.Link(p, target); err != nil {
				return err
			}
			continue
		}
		text, err := sys.ReadFile(target, maxConf)
		if err != nil {
			return err
		}
		if _, err := sys.Remove(p); err != nil {
			return err
		}
		if err := sys.WriteFile(p, 0o644, append(bytes.Clone(text), local...)); err != nil {
			return err
		}
	}
	for _, p := range []string{"/etc/crypto-policies/config", "/etc/crypto-policies/state/current"} {
		if err := sys.WriteFile(p, 0o644, []byte("FIPS\n")); err != nil {
			return err
		}
	}
	return nil
}

// additions returns the local additions to a back end.
func additions(sys *customize.System, name string) (text []byte, err error) {
	dir := sys.Lookup(localDir)
	if dir == nil {
		return nil, nil
	}
	for _, e := range dir.Entries() {
		if !strings.HasPrefix(e.Name, name+"-") || !strings.HasSuffix(e.Name, ".config") {
			continue
		}
		b, err := sys.ReadFile(path.Join(localDir, e.Name), maxConf)
		if err != nil {
			return nil, err
		}
		text = append(text, b...)
	}
	return text, nil
}
