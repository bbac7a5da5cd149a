package clock

import (
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

const data = "TZif2 and more"

func pointer(s string) *string { return &s }

func TestTimezone(t *testing.T) {
	image := map[string]string{"usr/share/zoneinfo/Europe/Berlin": data, "usr/share/zoneinfo/Etc/GMT+5": data, "usr/share/zoneinfo/UTC": data,
		"usr/share/zoneinfo/Europe/Link": "-> Berlin", "usr/share/zoneinfo/zone.tab": "text"}
	for zone, fails := range map[string]string{"Europe/Berlin": "", "Etc/GMT+5": "", "UTC": "", "Europe/Link": "",
		"Europe": "knows no time zone", "Europe/None": "knows no time zone", "zone.tab": "is not a time zone", "../../etc/passwd": "is not a time zone",
		"/Europe/Berlin": "is not a time zone", "Europe//Berlin": "is not a time zone", "": "is not a time zone", "zone": "knows no"} {
		for _, files := range []map[string]string{image, {"etc/localtime": "-> /usr/share/zoneinfo/UTC"}} {
			all := map[string]string{}
			for p, text := range image {
				all[p] = text
			}
			for p, text := range files {
				all[p] = text
			}
			sys := systems.System(t, all)
			_, err := Apply(sys, Config{Timezone: &zone})
			if fails != "" {
				if err == nil || !strings.Contains(err.Error(), fails) || fault.ClassOf(err) != fault.Usage {
					t.Errorf("%s: %v, want %s", zone, err, fails)
				}
				continue
			}
			if got := systems.Text(t, sys, "etc/localtime"); err != nil || got != "-> ../usr/share/zoneinfo/"+zone {
				t.Errorf("%s: %v, %s", zone, err, got)
			}
			if systems.Text(t, sys, "etc/timezone") != "" {
				t.Error("/etc/timezone was made")
			}
		}
	}
	// As systemd-firstboot makes the link; it looks at this machine's zones.
	if want, ok := systems.Run(t, "--timezone=UTC", "etc/localtime"); ok && want != "-> ../usr/share/zoneinfo/UTC" {
		t.Errorf("systemd-firstboot: %s", want)
	}
	image["etc/timezone"] = "Etc/UTC\n"
	sys := systems.System(t, image)
	if _, err := Apply(sys, Config{Timezone: pointer("Europe/Berlin")}); err != nil || systems.Text(t, sys, "etc/timezone") != "Europe/Berlin\n" {
		t.Errorf("Debian's /etc/timezone: %v, %q", err, systems.Text(t, sys, "etc/timezone"))
	}
	sys = systems.System(t, map[string]string{"etc/localtime": "-> x"})
	if _, err := Apply(sys, Config{Timezone: pointer("UTC")}); err != nil || systems.Text(t, sys, "etc/localtime") != "" {
		t.Errorf("UTC without zones: %v", err)
	}
	if _, err := Apply(sys, Config{Timezone: pointer("Europe/Berlin")}); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "tzdata") {
		t.Errorf("no zones: %v", err)
	}
}

// As the stage org.osbuild.chrony of osbuild changes the file.
func TestChrony(t *testing.T) {
	const before = "# comment\npool 2.fedora.pool.ntp.org iburst\nserver a\n server kept\nserverx\npeer p q\nsourcedir /run/chrony-dhcp\n"
	const after = "server 10.0.0.1 iburst\nserver ntp.example.com iburst\n# comment\n server kept\nserverx\nsourcedir /run/chrony-dhcp\n"
	c := Config{NTPServers: []string{"10.0.0.1", "ntp.example.com"}}
	for _, conf := range []string{"etc/chrony.conf", "etc/chrony/chrony.conf"} {
		sys := systems.System(t, map[string]string{"usr/sbin/chronyd": "x", conf: before})
		if _, err := Apply(sys, c); err != nil || systems.Text(t, sys, conf) != after {
			t.Errorf("%s: %v, %q", conf, err, systems.Text(t, sys, conf))
		}
	}
	sys := systems.System(t, map[string]string{"usr/sbin/chronyd": "x"})
	if _, err := Apply(sys, c); fault.ClassOf(err) != fault.BadImage {
		t.Errorf("no chrony.conf: %v", err)
	}
	sys = systems.System(t, map[string]string{"usr/lib/systemd/systemd-timesyncd": "x"})
	if _, err := Apply(sys, c); err != nil || systems.Text(t, sys, "etc/systemd/timesyncd.conf.d/60-imgbuild.conf") != "[Time]\nNTP=\nNTP=10.0.0.1 ntp.example.com\n" {
		t.Errorf("timesyncd: %v", err)
	}
	sys = systems.System(t, map[string]string{"usr/bin/dnf": "x"})
	if _, err := Apply(sys, c); fault.ClassOf(err) != fault.Unsupported || fault.HintOf(err) != "put RUN dnf install -y chrony into the Containerfile" {
		t.Errorf("neither: %v, %s", err, fault.HintOf(err))
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		servers []string
		want    string
	}{
		{[]string{"ntp.example.com", "10.0.0.1", "2001:db8::1", "fe80::1%eth0", "a"}, ""},
		{[]string{"a", ""}, "timezone.ntpservers[1]"},
		{[]string{"a b"}, "timezone.ntpservers[0]"},
		{[]string{"a\nserver b"}, "timezone.ntpservers[0]"},
		{[]string{"-a"}, "timezone.ntpservers[0]"},
		{[]string{"a", "b", "a"}, "timezone.ntpservers[2]: a is in the list twice"},
	} {
		p := Validate(Config{NTPServers: tc.servers})
		if (len(p) == 0) != (tc.want == "") || !strings.Contains(p.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.servers, p, tc.want)
		}
	}
}
