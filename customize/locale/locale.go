// Package locale sets the language, locale.conf(5), and the keyboard,
// vconsole.conf(5), by the rules of systemd-firstboot and systemd-localed.
package locale

import (
	"fmt"
	"regexp"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "locale".
type Config struct {
	// Languages are locales, the first of which becomes the system's. The others
	// have to be in the image.
	Languages []string
	// Keyboard is the keymap of the console; the layout of X11 follows it.
	Keyboard *string
}

var (
	localeName = regexp.MustCompile(`^[A-Za-z0-9_]+([.@][A-Za-z0-9_.=-]+)*$`)
	keymapName = regexp.MustCompile(`^[A-Za-z0-9_.+@-]+$`)
)

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	for i, l := range c.Languages {
		if !localeName.MatchString(l) || len(l) > 64 {
			p.Add(fmt.Sprintf("locale.languages[%d]", i), fault.New(fault.Usage, fmt.Errorf("%q is not a locale", l), `a locale is named as "de_DE.UTF-8"`))
		}
	}
	if c.Keyboard != nil && (!keymapName.MatchString(*c.Keyboard) || len(*c.Keyboard) > 64) {
		p.Add("locale.keyboard", fault.New(fault.Usage, fmt.Errorf("%q is not a keymap", *c.Keyboard), `a keymap is named as "de" or "de-latin1"`))
	}
	return p
}

// Apply writes /etc/locale.conf, and /etc/default/locale where the image has it,
// /etc/vconsole.conf and the layout of X11. As localectl does, it refuses what the
// image does not have. The error is customize.Problems where the configuration and
// the image do not fit; the system is to be given up after any error.
func Apply(sys *customize.System, c Config) (warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return nil, p
	}
	var problems customize.Problems
	for i, l := range c.Languages {
		ok, err := installed(sys, l)
		if err != nil {
			err = fault.New(fault.BadImage, fmt.Errorf("/usr/lib/locale/locale-archive: %w", err), "")
		} else if !ok {
			err = fault.New(fault.Unsupported, fmt.Errorf("the locale %s is not in the image", l), "put "+localeLine(sys, l)+" into the Containerfile")
		}
		problems.Add(fmt.Sprintf("locale.languages[%d]", i), err)
	}
	if len(c.Languages) > 0 {
		problems.Add("locale.languages[0]", setLanguage(sys, c.Languages[0]))
	}
	if c.Keyboard != nil {
		err := setKeyboard(sys, *c.Keyboard)
		problems.Add("locale.keyboard", err)
	}
	return nil, problems.Err()
}

// setLanguage writes the language where the system reads it.
func setLanguage(sys *customize.System, language string) error {
	text := []byte("LANG=" + language + "\n")
	if err := sys.WriteFile("/etc/locale.conf", 0o644, text); err != nil {
		return err
	}
	const debian = "/etc/default/locale"
	if f := sys.Lookup(debian); f == nil || f == sys.Lookup("/etc/locale.conf") {
		return nil
	}
	old, err := sys.ReadFile(debian, maxConf)
	if err != nil {
		return err
	}
	return sys.WriteFile(debian, 0o644, customize.SetVariables(old, [2]string{"LANG", language}, [2]string{"LANGUAGE", ""}, [2]string{"LC_ALL", ""}))
}

// localeLine returns the Containerfile line that adds a locale.
func localeLine(sys *customize.System, name string) string {
	lang, _, _ := strings.Cut(name, "_")
	lang, _, _ = strings.Cut(lang, ".")
	line := sys.InstallLine("glibc-langpack-" + lang)
	if !strings.Contains(line, "apt-get") {
		return line
	}
	rest, modifier, _ := strings.Cut(name, "@")
	_, codeset, _ := strings.Cut(rest, ".")
	if codeset == "" {
		codeset = "ISO-8859-1"
	}
	if modifier != "" && codeset == "ISO-8859-1" {
		codeset = "ISO-8859-15"
	}
	return fmt.Sprintf("%s && echo '%s %s' >>/etc/locale.gen && locale-gen", sys.InstallLine("locales"), name, codeset)
}
