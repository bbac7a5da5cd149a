// Package console sets the terminals of GRUB. The static configuration of bootupd,
// and the one that imgbuild writes where an image has none, read them from
// console.cfg beside grub.cfg.
package console

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// Config is the table "bootloader.grub2".
type Config struct {
	TerminalInput, TerminalOutput []string
	// Serial is GRUB's command that sets up the serial port.
	Serial string
}

const (
	static = "/usr/lib/bootupd/grub2-static"
)

var (
	terminal = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	serial   = regexp.MustCompile(`^serial( +[A-Za-z0-9_=.,:-]+)*$`)
)

// Validate returns everything that is wrong whatever the image.
func Validate(c Config) customize.Problems {
	var p customize.Problems
	for _, l := range []struct {
		key  string
		list []string
	}{{"terminal_input", c.TerminalInput}, {"terminal_output", c.TerminalOutput}} {
		for i, t := range l.list {
			if !terminal.MatchString(t) {
				p.Add(fmt.Sprintf("bootloader.grub2.%s[%d]", l.key, i), fault.New(fault.Usage, fmt.Errorf("%q is not a terminal of GRUB", t), `terminals are "console", "serial", "gfxterm"`))
			}
		}
	}
	if c.Serial != "" && !serial.MatchString(c.Serial) {
		p.Add("bootloader.grub2.serial", fault.New(fault.Usage, fmt.Errorf("%q is not the command that sets up the serial port", c.Serial), `the command is as "serial --unit=0 --speed=115200"`))
	}
	return p
}

// Apply returns the file for GRUB. The error is customize.Problems where the
// configuration and the image do not fit.
func Apply(sys *customize.System, c Config) (effects customize.Effects, warnings customize.Problems, err error) {
	if p := Validate(c); len(p) > 0 {
		return effects, nil, p
	}
	var b bytes.Buffer
	if c.Serial != "" {
		b.WriteString(c.Serial + "\n")
	}
	if len(c.TerminalInput) > 0 {
		b.WriteString("terminal_input " + strings.Join(c.TerminalInput, " ") + "\n")
	}
	if len(c.TerminalOutput) > 0 {
		b.WriteString("terminal_output " + strings.Join(c.TerminalOutput, " ") + "\n")
	}
	if b.Len() == 0 {
		return effects, nil, nil
	}
	if sys.Lookup(static+"/grub-static-pre.cfg") != nil {
		ok, err := customize.GRUBConfigHas(sys, "console.cfg")
		if err != nil {
			return effects, nil, err
		}
		if !ok {
			return effects, nil, customize.Problems{{Field: "bootloader.grub2", Err: fault.New(fault.Unsupported, errors.New("the image's configuration of GRUB does not read console.cfg"),
				"put the commands into a file of "+static+"/configs.d in the Containerfile")}}
		}
	}
	return customize.Effects{Boot: []customize.BootFile{{Path: "grub2/console.cfg", Mode: 0o644, Text: b.Bytes()}}}, nil, nil
}
