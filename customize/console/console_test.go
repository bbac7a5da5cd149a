package console

import (
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

func TestApply(t *testing.T) {
	c := Config{TerminalInput: []string{"serial", "console"}, TerminalOutput: []string{"serial"}, Serial: "serial --unit=0 --speed=115200"}
	// As the stage org.osbuild.grub2.d writes it.
	const want = "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial\n"
	for _, files := range []map[string]string{nil, {"usr/lib/bootupd/grub2-static/grub-static-pre.cfg": "source $prefix/console.cfg\n"},
		{"usr/lib/bootupd/grub2-static/grub-static-pre.cfg": "", "usr/lib/bootupd/grub2-static/configs.d/05.cfg": "source $prefix/console.cfg\n"}} {
		effects, _, err := Apply(systems.System(t, files), c)
		if err != nil || len(effects.Boot) != 1 || effects.Boot[0].Path != "grub2/console.cfg" || effects.Boot[0].Mode != 0o644 || string(effects.Boot[0].Text) != want {
			t.Errorf("%v, %+v", err, effects)
		}
	}
	sys := systems.System(t, map[string]string{"usr/lib/bootupd/grub2-static/grub-static-pre.cfg": "set timeout=1\n"})
	if _, _, err := Apply(sys, c); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "configs.d") {
		t.Errorf("%v", err)
	}
	if effects, _, err := Apply(sys, Config{}); err != nil || len(effects.Boot) > 0 {
		t.Errorf("nothing to do: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{TerminalInput: []string{"console", "serial_com0", "at_keyboard"}, Serial: "serial"}, ""},
		{Config{TerminalInput: []string{"console", "a b"}}, "bootloader.grub2.terminal_input[1]"},
		{Config{TerminalOutput: []string{""}}, "bootloader.grub2.terminal_output[0]"},
		{Config{Serial: "serial\nreboot"}, "bootloader.grub2.serial"},
		{Config{Serial: "serial; reboot"}, "bootloader.grub2.serial"},
		{Config{Serial: "reboot"}, "bootloader.grub2.serial"},
	} {
		if p := Validate(tc.c); (len(p) == 0) != (tc.want == "") || !strings.Contains(p.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.c, p)
		}
	}
}
