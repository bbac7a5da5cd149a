package medium

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() *Description {
	return &Description{
		Title: "Some OS 1", VolumeID: "Container-Installer-x86_64", Arch: "amd64", Kernel: "6.1.0-1",
		Image:       Image{Digest: "sha256:" + strings.Repeat("a", 64), Reference: "registry.example.com/os:1", Size: 5},
		Build:       Build{Target: "registry.example.com/os:1", Kargs: []string{"a=b"}, Config: []byte(`{}`)},
		MinimumDisk: 1 << 30, RootFS: []string{"xfs", "ext4"}, Unattended: true,
	}
}

func TestRoundTrip(t *testing.T) {
	b, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.Version = version
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefused(t *testing.T) {
	b, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		`"version": 1`: `"version": 2`, `"title"`: `"titel"`, "sha256:aa": "sha256:a", `"6.1.0-1"`: `"../x"`,
		`"Container-Installer-x86_64"`: `""`, "1073741824": "-1", "{": "[",
	} {
		text := strings.Replace(string(b), from, to, 1)
		if text == string(b) {
			t.Errorf("%s is not there", from)
		}
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("with %s in place of %s: no error", to, from)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := sample().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Decode(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			return // larger than allowed once it is indented
		}
		if _, err := Decode(again); err != nil {
			t.Error(err)
		}
	})
}
