package settings

import (
	"bytes"
	"strings"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	for _, s := range []Settings{
		{},
		{Kickstart: "user --name=ä\n%post\necho '\"<&>'\n%end\n", Target: "/dev/disk/by-id/x", Wipe: true, Unattended: true},
		{Target: "smallest"},
	} {
		b, err := Encode(&s, AreaSize)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != AreaSize {
			t.Errorf("%d bytes", len(b))
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if *got != s {
			t.Errorf("%+v, want %+v", *got, s)
		}
	}
}

// The area is used up to its last byte, and not beyond.
func TestFull(t *testing.T) {
	s := Settings{Kickstart: strings.Repeat("#", 1000)}
	n := 0
	for size := 1000; size < 1400; size++ {
		b, err := Encode(&s, size)
		if err != nil {
			if !strings.Contains(err.Error(), "are reserved for them") {
				t.Fatal(err)
			}
			continue
		}
		n++
		if got, err := Decode(b); err != nil || *got != s {
			t.Fatalf("size %d: %v", size, err)
		}
		if n == 1 && b[len(b)-1] == 0 {
			t.Error("the first size that fits leaves room")
		}
	}
	if n == 0 {
		t.Error("no size fits")
	}
}

func TestRefused(t *testing.T) {
	if _, err := Encode(&Settings{Kickstart: "\xff"}, AreaSize); err == nil {
		t.Error("a kickstart that is not UTF-8")
	}
	if _, err := Encode(&Settings{Target: "a\nb"}, AreaSize); err == nil {
		t.Error("a target of two lines")
	}
	good, err := Encode(&Settings{Target: "smallest"}, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"these are no settings": []byte("hello\n"),
		"first line":            []byte(magic + " x y\n"),
		"in a file of":          good[:100],
		"checksum":              bytes.Replace(good, []byte("smallest"), []byte("smallesT"), 1),
	} {
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(nil); err == nil {
		t.Error("nothing")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []Settings{{}, {Kickstart: "text\n", Target: "largest", Wipe: true, Unattended: true}} {
		b, err := Encode(&s, 512)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(s, 2*len(b)+AreaSize)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(again); err != nil || *got != *s {
			t.Fatalf("%+v becomes %+v, %v", s, got, err)
		}
	})
}
