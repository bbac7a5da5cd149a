package ignition

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

const conf = `{"ignition":{"version":"3.4.0"}}`

func embedded(text string) Config {
	return Config{Embedded: &Embedded{base64.StdEncoding.EncodeToString([]byte(text))}}
}

// image is one with Ignition, as Fedora IoT and its relatives have it.
func image() map[string]string {
	return map[string]string{
		"usr/lib/dracut/modules.d/30ignition/module-setup.sh":      "x",
		"usr/lib/dracut/modules.d/35ignition-edge/module-setup.sh": "x",
		"usr/lib/bootupd/grub2-static/configs.d/05_ignition.cfg":   "if [ -f \"/ignition.firstboot\" ]; then",
		"usr/bin/dnf": "x",
	}
}

func TestApply(t *testing.T) {
	const both = "ignition.platform.id=metal $ignition_firstboot"
	for _, tc := range []struct {
		c     Config
		kargs string // in kargs.d
		stamp string
		added string
	}{
		{Config{Firstboot: &Firstboot{Empty: true}}, "", "", both},
		{Config{Firstboot: &Firstboot{URL: "https://example.com/a.ign"}}, "", "set ignition_network_kcmdline='rd.neednet=1 ignition.config.url=https://example.com/a.ign'", both},
		// As osbuild takes it.
		{Config{Firstboot: &Firstboot{URL: "ip=dhcp  ignition.config.url=http://example.com/a?b=c"}}, "", "set ignition_network_kcmdline='ip=dhcp ignition.config.url=http://example.com/a?b=c'", both},
		{embedded(conf), `kargs = ["ignition.platform.id=qemu", "$ignition_firstboot"]`, "", ""},
		{embedded(conf), `kargs = ["$ignition_firstboot"]`, "", "ignition.platform.id=metal"},
	} {
		files := image()
		if tc.kargs != "" {
			files["usr/lib/bootc/kargs.d/10.toml"] = tc.kargs
		}
		effects, _, err := Apply(systems.System(t, files), tc.c)
		if err != nil || strings.Join(effects.Kargs, " ") != tc.added {
			t.Errorf("%+v: %v, %q", tc.c, err, effects.Kargs)
			continue
		}
		got := map[string]string{}
		for _, b := range effects.Boot {
			got[fmt.Sprintf("%s %o", b.Path, b.Mode)] = string(b.Text)
		}
		if text, ok := got["ignition.firstboot 644"]; !ok || text != tc.stamp {
			t.Errorf("%+v: %q", tc.c, got)
		}
		if text, ok := got["ignition/config.ign 600"]; ok != (tc.c.Embedded != nil) || ok && text != conf {
			t.Errorf("%+v: %q", tc.c, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for without, want := range map[string]string{
		"modules.d/30":  "no Ignition",
		"05_ignition":   "does not look for Ignition's stamp",
		"ignition-edge": "does not look for a configuration in /boot",
	} {
		files := image()
		for p := range files {
			if strings.Contains(p, without) || without == "modules.d/30" && strings.Contains(p, "modules.d") {
				delete(files, p)
			}
		}
		_, _, err := Apply(systems.System(t, files), embedded(conf))
		if fault.ClassOf(err) != fault.Unsupported || !strings.Contains(err.Error(), want) || fault.HintOf(err) == "" {
			t.Errorf("without %s: %v", without, err)
		}
	}
	if effects, _, err := Apply(systems.System(t, nil), Config{}); err != nil || len(effects.Boot) > 0 {
		t.Errorf("nothing to do: %v", err)
	}
}

func TestValidate(t *testing.T) {
	both := embedded(conf)
	both.Firstboot = &Firstboot{Empty: true}
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{both, "cannot be used with ignition.firstboot"},
		{Config{Embedded: &Embedded{"?"}}, "ignition.embedded.config: is not base64"},
		{embedded("x"), "is not JSON"},
		{embedded("{}"), "no ignition.version"},
		{Config{Firstboot: &Firstboot{}}, "neither url nor empty"},
		{Config{Firstboot: &Firstboot{URL: "https://example.com", Empty: true}}, "ignition.firstboot.url: cannot be used"},
		{Config{Firstboot: &Firstboot{URL: "example.com/x"}}, "is not a URL"},
		{Config{Firstboot: &Firstboot{URL: "ftp://example.com/x"}}, "cannot fetch ftp"},
		{Config{Firstboot: &Firstboot{URL: "https://example.com/'x"}}, "cannot carry"},
		{Config{Firstboot: &Firstboot{URL: "https://example.com/ x"}}, "is not a URL"},
		{Config{Firstboot: &Firstboot{URL: "a=$b"}}, "cannot carry"},
	} {
		if p := Validate(tc.c); len(p) == 0 || !strings.Contains(p.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.c, p, tc.want)
		}
	}
}
