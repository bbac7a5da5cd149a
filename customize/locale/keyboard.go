package locale

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// keymapDirs is where the console's keymaps are, as systemd looks for them.
var keymapDirs = []string{"/usr/share/keymaps", "/usr/share/kbd/keymaps", "/usr/lib/kbd/keymaps"}

// maxConf bounds the configuration files that are read.
const maxConf = 1 << 20

// hasKeymap tells whether the system has a keymap, and whether it has any.
func hasKeymap(sys *customize.System, name string) (found, any bool) {
	for _, dir := range keymapDirs {
		root := sys.Lookup(dir)
		if root == nil {
			continue
		}
		_ = tree.Walk(root, func(p string, i *tree.Inode) error {
			if i.IsDir() {
				return nil
			}
			keymap := path.Base(p)
			keymap = strings.TrimSuffix(keymap, ".gz")
			if keymap, ok := strings.CutSuffix(keymap, ".map"); ok {
				any = true
				found = found || keymap == name
			}
			return nil
		})
	}
	return found, any
}

// xkb is the layout of a keyboard for X11.
type xkb struct{ layout, model, variant, options string }

// x11 returns the layout that belongs to a keymap, by systemd's kbd-model-map; for
// others, a layout of X11 that has the name of the keymap, "de" or "de-nodeadkeys".
func x11(sys *customize.System, keymap string) (x xkb, ok bool, err error) {
	const modelMap = "/usr/share/systemd/kbd-model-map"
	if sys.Lookup(modelMap) != nil {
		text, err := sys.ReadFile(modelMap, maxConf)
		if err != nil {
			return xkb{}, false, err
		}
		if x, ok = modelLine(text, keymap); ok {
			return x, true, nil
		}
	}
	layout, variant, _ := strings.Cut(keymap, "-")
	symbols := sys.Lookup("/usr/share/X11/xkb/symbols/" + layout)
	if layout == "" || symbols == nil || !symbols.IsFile() {
		return xkb{}, false, nil
	}
	if variant != "" {
		text, err := symbols.Content.ReadAll(maxConf)
		if err != nil {
			return xkb{}, false, err
		}
		if !bytes.Contains(text, []byte("xkb_symbols \""+variant+"\"")) {
			return xkb{}, false, nil
		}
	}
	return xkb{layout: layout, model: "microsoftpro", variant: variant, options: "terminate:ctrl_alt_bksp"}, true, nil
}

// modelLine returns the line of a kbd-model-map for a keymap.
func modelLine(text []byte, keymap string) (xkb, bool) {
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		if len(f) < 5 || f[0] != keymap || strings.HasPrefix(f[0], "#") {
			continue
		}
		for i := range f {
			if f[i] == "-" {
				f[i] = ""
			}
		}
		return xkb{f[1], f[2], f[3], f[4]}, true
	}
	return xkb{}, false
}

// written is the comment at the top of a new vconsole.conf.
const written = "# Written by systemd-localed(8) or systemd-firstboot(1), read by systemd-localed\n" +
	"# and systemd-vconsole-setup(8). Use localectl(1) to update this file.\n"

// setKeyboard writes vconsole.conf, and the layout for X11 where the system has X11.
func setKeyboard(sys *customize.System, keymap string) error {
	found, any := hasKeymap(sys, keymap)
	x, ok, err := x11(sys, keymap)
	switch {
	case err != nil:
		return err
	case found:
	case !any && !ok:
		return fault.New(fault.Unsupported, errors.New("there are no keymaps in the image"), "put "+sys.InstallLine("kbd")+" into the Containerfile")
	case !ok:
		return fault.New(fault.Usage, fmt.Errorf("the image has no keymap %s", keymap), "localectl list-keymaps lists them")
	case any:
		return fault.New(fault.Usage, fmt.Errorf("the image has no keymap %s for the console", keymap), "localectl list-keymaps lists them")
	}
	const vconsole = "/etc/vconsole.conf"
	text := []byte(written)
	if sys.Lookup(vconsole) != nil {
		if text, err = sys.ReadFile(vconsole, maxConf); err != nil {
			return err
		}
	}
	text = customize.SetVariables(text, [2]string{"KEYMAP", keymap}, [2]string{"KEYMAP_TOGGLE", ""}, [2]string{"XKBLAYOUT", x.layout},
		[2]string{"XKBMODEL", x.model}, [2]string{"XKBVARIANT", x.variant}, [2]string{"XKBOPTIONS", x.options})
	if err := sys.WriteFile(vconsole, 0o644, text); err != nil {
		return err
	}
	if !ok {
		return nil
	}
	// Debian's own file, unless vconsole.conf is a link to it.
	const debian = "/etc/default/keyboard"
	if f := sys.Lookup(debian); f != nil && f != sys.Lookup(vconsole) {
		text, err := sys.ReadFile(debian, maxConf)
		if err != nil {
			return err
		}
		text = customize.SetVariables(text, [2]string{"XKBMODEL", x.model}, [2]string{"XKBLAYOUT", x.layout}, [2]string{"XKBVARIANT", x.variant}, [2]string{"XKBOPTIONS", x.options})
		if err := sys.WriteFile(debian, 0o644, text); err != nil {
			return err
		}
	}
	if sys.Lookup("/etc/X11") == nil && sys.Lookup("/usr/share/X11") == nil {
		return nil
	}
	return sys.WriteFile("/etc/X11/xorg.conf.d/00-keyboard.conf", 0o644, xorgConf(x))
}

// xorgConf is what systemd-localed writes.
func xorgConf(x xkb) []byte {
	var b strings.Builder
	b.WriteString("# Written by systemd-localed(8), read by systemd-localed and Xorg. It's\n" +
		"# probably wise not to edit this file manually. Use localectl(1) to\n" +
		"# update this file.\n" +
		"Section \"InputClass\"\n" +
		"        Identifier \"system-keyboard\"\n" +
		"        MatchIsKeyboard \"on\"\n")
	for _, o := range []struct{ name, value string }{{"XkbLayout", x.layout}, {"XkbModel", x.model}, {"XkbVariant", x.variant}, {"XkbOptions", x.options}} {
		if o.value != "" {
			fmt.Fprintf(&b, "        Option %q %q\n", o.name, o.value)
		}
	}
	b.WriteString("EndSection\n")
	return []byte(b.String())
}
