package main

import (
	"strings"
	"testing"
	"time"
)

func TestCheckFormats(t *testing.T) {
	for name, c := range map[string]struct {
		zlib, pair, six, qemu time.Duration // of qcow2, with vmdk, with all, and of qemu-img
		want                  string
	}{
		"good":           {100, 130, 900, 10_000, ""},
		"not shared":     {100, 131, 130, 10_000, "take 1.31 times"},
		"one core":       {100, 130, 130, 99, "times as fast as qemu-img"},
		"slower at once": {100, 200, 200, 10_000, "take 2.00 times"},
	} {
		var ours, theirs []*kind
		add := func(name string, wall time.Duration, other string, peer time.Duration) {
			ours = append(ours, &kind{name: name, all: []measurement{{wall: wall}}})
			theirs = append(theirs, &kind{name: other, all: []measurement{{wall: peer}}})
		}
		add("--type raw", 50, "-O raw", 50)
		add("--type qcow2", c.zlib, "-c -O qcow2", c.qemu)
		add("--type vmdk", 90, "-O vmdk", 10_000)
		add("--type gce", 95, "", 0)
		add("--type qcow2 --type vmdk", c.pair, "", 0)
		add("--type raw --type qcow2 --type vmdk --type gce --type ova --type containerdisk", c.six, "", 0)
		add("--type raw --type vhd", 300, "", 0)
		err := checkFormats(ours, theirs)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
