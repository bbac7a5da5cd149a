// Package ignition prepares the first boot of systems that Ignition sets up: the
// stamp that makes GRUB ask for it, and the configuration in /boot where Ignition's
// dracut module of Fedora's and RHEL's editions looks for it.
package ignition

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// Config is the table "ignition".
type Config struct {
	Embedded  *Embedded
	Firstboot *Firstboot
}

// Embedded is the table "ignition.embedded".
type Embedded struct {
	Config string // in base64
}

// Firstboot is the table "ignition.firstboot".
type Firstboot struct {
	URL   string
	Empty bool
}

// maxConfig bounds a configuration.
const maxConfig = 8 << 20

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	if c.Embedded != nil && c.Firstboot != nil {
		p.Add("ignition.embedded", fault.New(fault.Usage, errors.New("cannot be used with ignition.firstboot"), ""))
	}
	if c.Embedded != nil {
		if _, err := decode(c.Embedded.Config); err != nil {
			p.Add("ignition.embedded.config", fault.New(fault.Usage, err, "base64 -w0 config.ign prints it; butane makes config.ign"))
		}
	}
	if f := c.Firstboot; f != nil {
		switch {
		case f.Empty && f.URL != "":
			p.Add("ignition.firstboot.url", fault.New(fault.Usage, errors.New("cannot be used with ignition.firstboot.empty"), ""))
		case f.URL == "" && !f.Empty:
			p.Add("ignition.firstboot", fault.New(fault.Usage, errors.New("neither url nor empty is given"), ""))
		case f.URL != "":
			if _, err := network(f.URL); err != nil {
				p.Add("ignition.firstboot.url", fault.New(fault.Usage, err, ""))
			}
		}
	}
	return p
}

// decode returns a configuration, which has to be one.
func decode(text string) ([]byte, error) {
	if len(text) > maxConfig {
		return nil, fmt.Errorf("more than %d bytes", maxConfig)
	}
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, errors.New("is not base64")
	}
	var conf struct {
		Ignition struct{ Version string }
	}
	if err := json.Unmarshal(b, &conf); err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if conf.Ignition.Version == "" {
		return nil, errors.New("is not a configuration of Ignition: it has no ignition.version")
	}
	return b, nil
}

// network returns the arguments of the first boot: those of a URL, or several as
// osbuild takes them.
func network(text string) ([]string, error) {
	fields := strings.Fields(text)
	arguments := true
	for _, f := range fields {
		if strings.ContainsAny(f, "'\"\\$`") || strings.ContainsFunc(f, func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fmt.Errorf("%q has characters that GRUB's configuration cannot carry", f)
		}
		name, _, ok := strings.Cut(f, "=")
		arguments = arguments && ok && !strings.ContainsAny(name, ":/")
	}
	if arguments {
		return fields, nil
	}
	u, err := url.Parse(text)
	if err != nil || len(fields) != 1 || u.Host == "" && u.Scheme != "data" {
		return nil, fmt.Errorf("%q is not a URL", text)
	}
	switch u.Scheme {
	case "http", "https", "tftp", "s3", "gs", "data":
	default:
		return nil, fmt.Errorf("Ignition cannot fetch %s: URLs", u.Scheme)
	}
	return []string{"rd.neednet=1", "ignition.config.url=" + fields[0]}, nil
}

// Apply returns the files of the boot file system and the kernel arguments. The
// error is customize.Problems where the configuration and the image do not fit.
func Apply(sys *customize.System, c Config) (effects customize.Effects, warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return effects, nil, p
	}
	if c.Embedded == nil && c.Firstboot == nil {
		return effects, nil, nil
	}
	field := "ignition.firstboot"
	if c.Embedded != nil {
		field = "ignition.embedded"
	}
	refuse := func(why, hint string) (customize.Effects, customize.Problems, error) {
		return customize.Effects{}, nil, customize.Problems{{Field: field, Err: fault.New(fault.Unsupported, errors.New(why), hint)}}
	}
	modules := dracutModules(sys)
	if len(modules) == 0 {
		return refuse("there is no Ignition in the image", "put "+sys.InstallLine("ignition", "ignition-edge")+" into the Containerfile, and make the initramfs with it: "+initramfsLine)
	}
	glue, err := customize.GRUBConfigHas(sys, "ignition.firstboot")
	if err != nil {
		return effects, nil, err
	}
	if !glue {
		return refuse("the image's configuration of GRUB does not look for Ignition's stamp, so Ignition would never run",
			"put a file into /usr/lib/bootupd/grub2-static/configs.d in the Containerfile that sources ignition.firstboot of /boot and sets ignition_firstboot")
	}
	if c.Embedded != nil {
		if !modules["ignition-edge"] && !modules["coreos-ignition"] {
			return refuse("Ignition of the image does not look for a configuration in /boot", "put "+sys.InstallLine("ignition-edge")+" into the Containerfile, and make the initramfs with it: "+initramfsLine)
		}
		conf, err := decode(c.Embedded.Config)
		if err != nil {
			return effects, nil, err
		}
		effects.Boot = append(effects.Boot, customize.BootFile{Path: "ignition/config.ign", Mode: 0o600, Text: conf})
	}
	stamp := ""
	if c.Firstboot != nil && c.Firstboot.URL != "" {
		arguments, err := network(c.Firstboot.URL)
		if err != nil {
			return effects, nil, err
		}
		stamp = "set ignition_network_kcmdline='" + strings.Join(arguments, " ") + "'"
	}
	effects.Boot = append(effects.Boot, customize.BootFile{Path: "ignition.firstboot", Mode: 0o644, Text: []byte(stamp)})
	effects.Kargs, err = kargs(sys)
	return effects, nil, err
}

// initramfsLine is the Containerfile line that makes the initramfs anew.
const initramfsLine = "RUN kver=$(cd /usr/lib/modules && echo *) && dracut -f --kver $kver /usr/lib/modules/$kver/initramfs.img"

// dracutModules returns Ignition's modules by their names without numbers.
func dracutModules(sys *customize.System) map[string]bool {
	found := map[string]bool{}
	dir := sys.Lookup("/usr/lib/dracut/modules.d")
	if dir == nil {
		return found
	}
	for _, e := range dir.Entries() {
		if name := strings.TrimLeft(e.Name, "0123456789"); name == "ignition" || name == "ignition-edge" || name == "coreos-ignition" {
			found[name] = true
		}
	}
	return found
}

// kargs returns the arguments that the image does not have yet: GRUB puts Ignition's
// in place of the second one.
func kargs(sys *customize.System) (list []string, err error) {
	have := ""
	const dir = "/usr/lib/bootc/kargs.d"
	if d := sys.Lookup(dir); d != nil {
		for _, e := range d.Entries() {
			if p := path.Join(dir, e.Name); isFile(sys.Lookup(p)) {
				text, err := sys.ReadFile(p, 1<<20)
				if err != nil {
					return nil, err
				}
				have += string(text)
			}
		}
	}
	if !strings.Contains(have, "ignition.platform.id=") {
		list = append(list, "ignition.platform.id=metal")
	}
	if !strings.Contains(have, "$ignition_firstboot") {
		list = append(list, "$ignition_firstboot")
	}
	return list, nil
}

func isFile(i *tree.Inode) bool { return i != nil && i.IsFile() }
