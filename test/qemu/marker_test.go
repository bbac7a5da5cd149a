package qemu

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const sampleLine = "SAMPLE-BOOT-OK 7.2.12+deb14-cloud-amd64 /dev/vda4 default/f5faf501.0 composefs=y failed-units=0 firmware=uefi secureboot=y features=ok uptime=12.50"

func TestFindMarker(t *testing.T) {
	sample := Marker{Line: sampleLine, Kernel: "7.2.12+deb14-cloud-amd64", Root: "/dev/vda4", Deployment: "default/f5faf501.0",
		Composefs: true, Firmware: "uefi", SecureBoot: true, Features: true, Uptime: 12500 * time.Millisecond}
	const labels = "FIXTURE-BOOT-OK 6.1 none none composefs=n failed-units=2 firmware=bios secureboot=n features=bad selinux=permissive mislabeled=3 later=x uptime=9"
	for name, c := range map[string]struct {
		log  string
		want Marker
		ok   bool
	}{
		"nothing":    {"[    0.0] Linux version\r\n", Marker{}, false},
		"incomplete": {"\r\n" + sampleLine, Marker{}, false},
		"in a line":  {"echo " + sampleLine + "\n", Marker{}, false},
		"cut":        {sampleLine[:20] + "[   12.345678] EXT4-fs (vda2): mounted\r\n", Marker{}, false},
		"kernel":     {"\n" + sampleLine[:20] + "[   12.345678] EXT4-fs (vda2): mounted\r\n" + sampleLine[20:] + "\r\n", sample, true},
		"login":      {"Debian\r\n\r\nsample login: " + sampleLine + "\r\n", sample, true},
		"sample":     {"boot\r\n\r\n" + sampleLine + "\r\n[  OK  ] more", sample, true},
		"labels": {"FIXTURE-NOTE failed unit: a.service\r\nFIXTURE-NOTE label: /x\r\n" + labels + "\r\n", Marker{Line: labels,
			Kernel: "6.1", Root: "none", Deployment: "none", FailedUnits: 2, Firmware: "bios", SELinux: "permissive",
			Mislabeled: 3, Uptime: 9 * time.Second, Notes: []string{"failed unit: a.service", "label: /x"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok, err := FindMarker([]byte(c.log))
			if err != nil || ok != c.ok {
				t.Fatal(ok, err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, _, err := FindMarker([]byte("SAMPLE-BOOT-OK 1 2 3 failed-units=many\n")); err == nil {
		t.Error("no error for a damaged marker")
	}
}

func TestCheck(t *testing.T) {
	good := Marker{Composefs: true, Features: true, Firmware: "uefi", SecureBoot: true}
	if err := good.Check(SecureBoot); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Marker){
		"secure boot false": func(m *Marker) { m.SecureBoot = false },
		"firmware bios":     func(m *Marker) { m.Firmware = "bios" },
		"no composefs":      func(m *Marker) { m.Composefs = false },
		"1 failed units":    func(m *Marker) { m.FailedUnits = 1 },
		"not what the":      func(m *Marker) { m.Features, m.Notes = false, []string{"why"} },
		"3 mislabeled":      func(m *Marker) { m.Mislabeled = 3 },
	} {
		m := good
		change(&m)
		if err := m.Check(SecureBoot); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
	if good.Check(UEFI) == nil || good.Check(BIOS) == nil {
		t.Error("the firmware makes no difference")
	}
}
