package sshd

import (
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

func seconds(n int64) *int64 { return &n }

func TestRefused(t *testing.T) {
	c := Config{PasswordAuthentication: yes()}
	sys := systems.System(t, map[string]string{"usr/bin/dnf": "x"})
	if _, err := Apply(sys, c); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "dnf install -y openssh-server") {
		t.Errorf("no sshd: %v", err)
	}
	if _, err := Apply(sys, Config{}); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	sys = systems.System(t, map[string]string{"usr/sbin/sshd": "x", "etc/ssh/sshd_config": "Include /usr/lib/ssh/*.conf\n", "usr/lib/ssh/a.conf": "\n\nPasswordAuthentication no\n"})
	if _, err := Apply(sys, c); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "/usr/lib/ssh/a.conf line 3, which is part of the image") {
		t.Errorf("set in /usr: %v", err)
	}
	for _, text := range []string{"Include /etc/ssh/sshd_config\n", "Port \"22\n"} {
		sys = systems.System(t, map[string]string{"usr/sbin/sshd": "x", "etc/ssh/sshd_config": text})
		if _, err := Apply(sys, c); fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestValidate(t *testing.T) {
	if p := Validate(Config{PermitRootLogin: "maybe", ClientAliveInterval: seconds(-1)}); len(p) != 2 || !strings.Contains(p.Error(), "sshd.permit_root_login") {
		t.Errorf("%v", p)
	}
	for _, l := range append(rootLogins, "") {
		if p := Validate(Config{PermitRootLogin: l}); len(p) > 0 {
			t.Errorf("%v", p)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"Include /etc/ssh/sshd_config.d/*.conf # c", `Match User "a b" Host=x`, `Port=22`, `Banner 'a\'b`, "Subsystem\tsftp /usr/lib/sftp-server"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		keyword, args, err := parseLine(s)
		if err != nil || keyword == "" {
			return
		}
		sys := systems.System(t, map[string]string{"usr/sbin/sshd": "x", "etc/ssh/sshd_config": s})
		if _, err := Apply(sys, Config{PasswordAuthentication: yes()}); err != nil && fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%q (%q): %v", s, args, err)
		}
	})
}
