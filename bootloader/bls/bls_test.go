package bls

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	// An entry of ostree's, with what else the specification allows.
	e, err := Parse([]byte("# a comment\ntitle Debian GNU/Linux forky/sid (ostree:0)\nversion 1\noptions\t root=UUID=1 rw \noptions quiet\n\n" +
		"linux /boot/ostree/default-1/vmlinuz-7.2\ninitrd /a.img\ninitrd /b.img\ndevicetree /x.dtb\nsort-key y\nempty"))
	want := Entry{
		Title: "Debian GNU/Linux forky/sid (ostree:0)", Version: "1", Linux: "/boot/ostree/default-1/vmlinuz-7.2",
		Initrd: []string{"/a.img", "/b.img"}, DeviceTree: "/x.dtb", Options: "root=UUID=1 rw quiet",
	}
	if err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("%+v, %v", e, err)
	}
	for text, want := range map[string]string{
		"":                                    "without a kernel",
		"title x\nlinux\n":                    "without a kernel",
		"linux /x\r\ntitle a\x00b\n":          "line 2",
		"linux " + strings.Repeat("x", 1<<17): "bytes",
	} {
		if e, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %+v, %v", text, e, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("title x\noptions a b\nlinux /x\ninitrd /y\n"))
	f.Add([]byte("\nlinux\t/x \noptions\noptions\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Parse(text)
		if err == nil && (e.Linux == "" || strings.ContainsAny(e.Title+e.Linux+e.Options, "\n\r")) {
			t.Fatalf("%+v", e)
		}
	})
}
