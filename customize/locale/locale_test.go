package locale

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/test/systems"
)

func pointer(s string) *string { return &s }

// archive makes a locale-archive of names.
func archive(names ...string) []byte {
	b := make([]byte, sizeHead)
	binary.LittleEndian.PutUint32(b, archiveMagic)
	binary.LittleEndian.PutUint32(b[8:], sizeHead)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(names)))
	binary.LittleEndian.PutUint32(b[16:], uint32(len(names)+1))
	at := sizeHead + (len(names)+1)*sizeEntry
	var text []byte
	for _, n := range names {
		e := make([]byte, sizeEntry)
		binary.LittleEndian.PutUint32(e[4:], uint32(at+len(text)))
		binary.LittleEndian.PutUint32(e[8:], 1)
		b = append(b, e...)
		text = append(append(text, n...), 0)
	}
	return append(append(b, make([]byte, sizeEntry)...), text...)
}

func TestLanguage(t *testing.T) {
	image := map[string]string{
		"usr/lib/locale/locale-archive":        string(archive("de_DE.utf8", "en_US", "ca_ES@valencia")),
		"usr/lib/locale/fr_FR.utf8/LC_CTYPE":   "x",
		"usr/lib/locale/it_IT.utf8/LC_NUMERIC": "x",
		"usr/bin/dnf":                          "x",
	}
	for name, ok := range map[string]bool{"C": true, "POSIX": true, "C.UTF-8": true, "de_DE.UTF-8": true, "de_DE.utf8": true, "fr_FR.UTF-8": true, "en_US": true,
		"ca_ES@valencia": true, "de_DE": false, "it_IT.UTF-8": false, "en_US.UTF-8": false, "xx": false} {
		sys := systems.System(t, image)
		_, err := Apply(sys, Config{Languages: []string{name}})
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			if fault.ClassOf(err) != fault.Unsupported || !strings.HasPrefix(fault.HintOf(err), "put RUN dnf install -y glibc-langpack-"+name[:2]) {
				t.Errorf("%s: hint %s", name, fault.HintOf(err))
			}
			continue
		}
		want, _ := systems.Run(t, "--locale="+name, "etc/locale.conf")
		if got := systems.Text(t, sys, "etc/locale.conf"); got != want {
			t.Errorf("%s: %q, systemd-firstboot %q", name, got, want)
		}
	}
	// All have to be there, the first one counts.
	sys := systems.System(t, image)
	_, err := Apply(sys, Config{Languages: []string{"de_DE.UTF-8", "xx_XX.UTF-8", "yy"}})
	if err == nil || !strings.Contains(err.Error(), "locale.languages[1]: the locale xx_XX.UTF-8 is not in the image\nlocale.languages[2]") {
		t.Errorf("%v", err)
	}
	if _, err := Apply(sys, Config{Languages: []string{"de_DE.UTF-8", "C.UTF-8"}}); err != nil || systems.Text(t, sys, "etc/locale.conf") != "LANG=de_DE.UTF-8\n" {
		t.Errorf("%v", err)
	}
}

func TestDebianLocale(t *testing.T) {
	sys := systems.System(t, map[string]string{"etc/default/locale": "-> ../locale.conf", "usr/bin/apt-get": "x"})
	if _, err := Apply(sys, Config{Languages: []string{"C.UTF-8"}}); err != nil || systems.Text(t, sys, "etc/default/locale") != "-> ../locale.conf" || systems.Text(t, sys, "etc/locale.conf") != "LANG=C.UTF-8\n" {
		t.Errorf("link: %v", err)
	}
	_, err := Apply(sys, Config{Languages: []string{"de_DE.UTF-8"}})
	if want := "put RUN apt-get update && apt-get install -y locales && echo 'de_DE.UTF-8 UTF-8' >>/etc/locale.gen && locale-gen into the Containerfile"; fault.HintOf(err) != want {
		t.Errorf("hint %s", fault.HintOf(err))
	}
	sys = systems.System(t, map[string]string{"etc/default/locale": "#  File\nLANG=x\nLC_ALL=y\nLC_TIME=z\n"})
	if _, err := Apply(sys, Config{Languages: []string{"C.UTF-8"}}); err != nil || systems.Text(t, sys, "etc/default/locale") != "#  File\nLANG=C.UTF-8\nLC_TIME=z\n" {
		t.Errorf("file: %v, %q", err, systems.Text(t, sys, "etc/default/locale"))
	}
}

// keyboards returns the kbd-model-map of the systemd that systemd-firstboot is from.
func keyboards(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("systemd-firstboot")
	if err != nil {
		t.Fatalf("%v: make tools fetches it", err)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "../root/usr/share/systemd/kbd-model-map"))
	if err != nil {
		t.Fatalf("%v: put .cache/tools/bin of make tools first in PATH", err)
	}
	return string(text)
}

// Keymaps of kbd-model-map, and others, as systemd-firstboot has them.
func TestKeyboard(t *testing.T) {
	models := keyboards(t)
	for _, name := range []string{"de", "us", "uk", "de-latin1", "fr_CH", "ro-std", "jp106", "ua-utf", "xx", "us-euro"} {
		sys := systems.System(t, map[string]string{"usr/share/systemd/kbd-model-map": models, "usr/share/kbd/keymaps/i386/q/" + name + ".map.gz": "x"})
		if _, err := Apply(sys, Config{Keyboard: &name}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, ok := systems.Run(t, "--keymap="+name, "etc/vconsole.conf")
		if got := systems.Text(t, sys, "etc/vconsole.conf"); !ok || got != want {
			t.Errorf("%s: %q, systemd-firstboot %q", name, got, want)
		}
	}
}

func TestX11(t *testing.T) {
	image := map[string]string{
		"usr/share/systemd/kbd-model-map": "#\nde\tde\tpc105\t-\tterminate:ctrl_alt_bksp\nsg ch pc105 de_nodeadkeys - extra\n",
		"usr/lib/kbd/keymaps/de.map":      "x", "usr/lib/kbd/keymaps/sg.map.gz": "x", "usr/lib/kbd/keymaps/fr-bepo.map.gz": "x", "usr/lib/kbd/keymaps/zz.map": "x",
		"usr/share/X11/xkb/symbols/fr": "xkb_symbols \"bepo\" {", "usr/share/X11/xkb/symbols/cm": "x",
		"etc/vconsole.conf": "FONT=eurlatgr\nKEYMAP=us\nXKBVARIANT=old\n", "etc/default/keyboard": "# c\nXKBMODEL=\"x\"\nBACKSPACE=guess\n",
	}
	for _, tc := range []struct{ keymap, vconsole, debian, xorg string }{
		{"de", "FONT=eurlatgr\nKEYMAP=de\nXKBLAYOUT=de\nXKBMODEL=pc105\nXKBOPTIONS=terminate:ctrl_alt_bksp\n",
			"# c\nXKBMODEL=pc105\nBACKSPACE=guess\nXKBLAYOUT=de\nXKBOPTIONS=terminate:ctrl_alt_bksp\n",
			"        Option \"XkbLayout\" \"de\"\n        Option \"XkbModel\" \"pc105\"\n        Option \"XkbOptions\" \"terminate:ctrl_alt_bksp\"\nEndSection\n"},
		{"sg", "FONT=eurlatgr\nKEYMAP=sg\nXKBVARIANT=de_nodeadkeys\nXKBLAYOUT=ch\nXKBMODEL=pc105\n",
			"# c\nXKBMODEL=pc105\nBACKSPACE=guess\nXKBLAYOUT=ch\nXKBVARIANT=de_nodeadkeys\n",
			"        Option \"XkbLayout\" \"ch\"\n        Option \"XkbModel\" \"pc105\"\n        Option \"XkbVariant\" \"de_nodeadkeys\"\nEndSection\n"},
		{"fr-bepo", "FONT=eurlatgr\nKEYMAP=fr-bepo\nXKBVARIANT=bepo\nXKBLAYOUT=fr\nXKBMODEL=microsoftpro\nXKBOPTIONS=terminate:ctrl_alt_bksp\n",
			"# c\nXKBMODEL=microsoftpro\nBACKSPACE=guess\nXKBLAYOUT=fr\nXKBVARIANT=bepo\nXKBOPTIONS=terminate:ctrl_alt_bksp\n",
			"        Option \"XkbLayout\" \"fr\"\n        Option \"XkbModel\" \"microsoftpro\"\n        Option \"XkbVariant\" \"bepo\"\n        Option \"XkbOptions\" \"terminate:ctrl_alt_bksp\"\nEndSection\n"},
		{"zz", "FONT=eurlatgr\nKEYMAP=zz\n", image["etc/default/keyboard"], ""},
	} {
		sys := systems.System(t, image)
		if _, err := Apply(sys, Config{Keyboard: &tc.keymap}); err != nil {
			t.Errorf("%s: %v", tc.keymap, err)
		}
		if got := systems.Text(t, sys, "etc/vconsole.conf"); got != tc.vconsole {
			t.Errorf("%s: %q, want %q", tc.keymap, got, tc.vconsole)
		}
		if got := systems.Text(t, sys, "etc/default/keyboard"); got != tc.debian {
			t.Errorf("%s: %q, want %q", tc.keymap, got, tc.debian)
		}
		if got := systems.Text(t, sys, "etc/X11/xorg.conf.d/00-keyboard.conf"); !strings.HasSuffix(got, tc.xorg) || (got == "") != (tc.xorg == "") {
			t.Errorf("%s: %q, want %q", tc.keymap, got, tc.xorg)
		}
	}
	sys := systems.System(t, image)
	if _, err := Apply(sys, Config{Keyboard: pointer("cm")}); err == nil || !strings.Contains(err.Error(), "no keymap cm for the console") || fault.ClassOf(err) != fault.Usage {
		t.Errorf("layout without a keymap: %v", err)
	}
	if _, err := Apply(sys, Config{Keyboard: pointer("nosuch")}); err == nil || !strings.Contains(err.Error(), "no keymap nosuch") || fault.ClassOf(err) != fault.Usage {
		t.Errorf("unknown: %v", err)
	}
	sys = systems.System(t, map[string]string{"usr/bin/dnf": "x"})
	if _, err := Apply(sys, Config{Keyboard: pointer("de")}); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "dnf install -y kbd") {
		t.Errorf("no keymaps: %v", err)
	}
	// As Debian has it since its 14th release.
	sys = systems.System(t, map[string]string{"etc/vconsole.conf": "-> default/keyboard", "usr/share/systemd/kbd-model-map": image["usr/share/systemd/kbd-model-map"]})
	if _, err := Apply(sys, Config{Keyboard: pointer("de")}); err != nil || !strings.Contains(systems.Text(t, sys, "etc/default/keyboard"), "XKBLAYOUT=de\n") || systems.Text(t, sys, "etc/vconsole.conf") != "-> default/keyboard" {
		t.Errorf("Debian: %v, %q", err, systems.Text(t, sys, "etc/default/keyboard"))
	}
}

func TestValidate(t *testing.T) {
	p := Validate(Config{Languages: []string{"de_DE.UTF-8", "a b", "", "../x", "ca_ES.UTF-8@valencia"}, Keyboard: pointer("/etc")})
	if got := p.Error(); len(p) != 4 || !strings.Contains(got, "locale.languages[1]") || !strings.Contains(got, "locale.keyboard") {
		t.Error(got)
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(archive("de_DE.utf8", "en_US"))
	f.Add(archive())
	f.Add(make([]byte, 100))
	f.Fuzz(func(t *testing.T, text []byte) {
		names, err := archiveNames(content.Bytes(text))
		if err == nil && len(names) > len(text)/sizeEntry {
			t.Errorf("%d names in %d bytes", len(names), len(text))
		}
		for n := range names {
			if normalize(normalize(n)) != normalize(n) && !strings.ContainsAny(n, "@.") {
				t.Errorf("%q", n)
			}
		}
		modelLine(text, "de")
	})
}
