package remaster

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/formats/iso"
	"imgbuild/installer/medium"
	"imgbuild/installer/settings"
	"imgbuild/tree"
)

// sample returns a medium of imgbuild, without what starts it.
func sample(t testing.TB, change func(put func(path string, b []byte))) (*iso.Image, *os.File, int64) {
	t.Helper()
	root := tree.NewDir(0o755)
	put := func(path string, b []byte) {
		if err := tree.Put(root, path, tree.NewFile(0o644, content.Bytes(b))); err != nil {
			t.Fatal(err)
		}
	}
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	d := &medium.Description{
		Title: "Some OS 1", VolumeID: "X", Arch: "amd64", Kernel: "6.1",
		Image: medium.Image{Digest: "sha256:" + strings.Repeat("a", 64), Reference: "registry.example.com/os:1", Size: 5}, MinimumDisk: 1 << 30,
	}
	put(medium.Path, must(d.Encode()))
	put(settings.Path, must(settings.Encode(&settings.Settings{Target: "smallest"}, settings.AreaSize)))
	put(grub.KargsPath, must(grub.Kargs([]string{"quiet", "a=b"})))
	put(grub.MediumDir+"/grub.cfg", must(grub.MediumConfig(grub.MediumMenu{VolumeID: "X", Entries: []grub.MediumEntry{
		{Title: "Install Bob's OS", Kernel: "/k", Args: []string{"x=1"}}, {Title: "Next", Exit: true}, {Title: "Plain", Kernel: "/k"},
	}})))
	put(medium.Payload+"/index.json", []byte(`{"manifests":[{"digest":"sha256:`+strings.Repeat("b", 64)+`"}]}`))
	if change != nil {
		change(put)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "x.iso"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := iso.Write(context.Background(), root, f, iso.Options{VolumeID: "X"}); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := iso.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return im, f, info.Size()
}

func TestInspect(t *testing.T) {
	_, f, size := sample(t, func(put func(string, []byte)) { put("osbuild.ks", []byte("text\n")) })
	r, err := Inspect(f, size)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 || r.VolumeID != "X" || r.Installer == nil || r.Installer.Title != "Some OS 1" || r.Payload != "sha256:"+strings.Repeat("b", 64) {
		t.Errorf("%+v", r)
	}
	if want := []MenuEntry{{"Install Bob's OS", "x=1"}, {"Plain", ""}}; !slices.Equal(r.Menu, want) {
		t.Errorf("menu %+v", r.Menu)
	}
	if !slices.Equal(r.Kargs, []string{"quiet", "a=b"}) || r.Settings == nil || r.Settings.Target != "smallest" || !slices.Equal(r.Kickstarts, []string{"/osbuild.ks"}) {
		t.Errorf("%q, %+v, %q", r.Kargs, r.Settings, r.Kickstarts)
	}
	if len(r.Areas) != 2 || r.Areas[1].Size != settings.AreaSize || r.Areas[1].Used < 100 {
		t.Errorf("areas %+v", r.Areas)
	}
	for _, a := range r.Areas {
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, a.Offset); err != nil || string(b) != "# Ar" && string(b) != "imgb" {
			t.Errorf("%s begins with %q", a.Path, b)
		}
	}
	if err := r.Verify(context.Background(), f, size, nil); err != nil || r.Verified == nil || !*r.Verified {
		t.Errorf("verify: %v", err)
	}
	if _, err := f.WriteAt([]byte{0xFF}, r.Areas[0].Offset); err != nil {
		t.Fatal(err)
	}
	if r, err = Inspect(f, size); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(context.Background(), f, size, nil); err == nil || r.Verified == nil || *r.Verified {
		t.Errorf("verify of a damaged medium: %v", err)
	}
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "kargs.cfg") {
		t.Errorf("problems %q", r.Problems)
	}
}

func ptr[T any](v T) *T { return &v }

func TestPlan(t *testing.T) {
	const ks = "rootpw --lock\nreboot\n"
	for name, c := range map[string]struct {
		change Changes
		kargs  []string
		want   settings.Settings
	}{
		"arguments":      {Changes{AddKargs: []string{"c", "a=b"}, DeleteKargs: []string{"a=b"}}, []string{"quiet", "c", "a=b"}, settings.Settings{Target: "smallest"}},
		"kickstart":      {Changes{Kickstart: ptr(ks)}, []string{"quiet", "a=b"}, settings.Settings{Target: "smallest", Kickstart: ks}},
		"everything":     {Changes{Kickstart: ptr(ks), Target: ptr("/dev/disk/by-id/x"), Wipe: ptr(true), Unattended: ptr(true), AddKargs: []string{"d"}}, []string{"quiet", "a=b", "d"}, settings.Settings{Target: "/dev/disk/by-id/x", Kickstart: ks, Wipe: true, Unattended: true}},
		"no target":      {Changes{Target: ptr("")}, []string{"quiet", "a=b"}, settings.Settings{}},
		"safe by itself": {Changes{Target: ptr(""), Unattended: ptr(true)}, []string{"quiet", "a=b"}, settings.Settings{Unattended: true, Target: "first-empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			im, f, size := sample(t, nil)
			changes, err := Plan(im, &c.change)
			if err != nil {
				t.Fatal(err)
			}
			if err := im.ChangeInPlace(context.Background(), f, changes, nil); err != nil {
				t.Fatal(err)
			}
			r, err := Inspect(f, size)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.Kargs, c.kargs) || *r.Settings != c.want || len(r.Problems) > 0 {
				t.Errorf("%q, %+v, %q", r.Kargs, *r.Settings, r.Problems)
			}
			if err := r.Verify(context.Background(), f, size, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	im, _, _ := sample(t, nil)
	other, _, _ := sample(t, func(put func(string, []byte)) {
		put(settings.Path, []byte("settings of somebody else"))
		put(grub.KargsPath, []byte("set kargs=x\n"))
	})
	plainRoot := tree.NewDir(0o755)
	f, err := os.Create(filepath.Join(t.TempDir(), "plain.iso"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := iso.Write(context.Background(), plainRoot, f, iso.Options{VolumeID: "PLAIN"}); err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	plain, err := iso.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		im     *iso.Image
		change Changes
		class  fault.Class
	}{
		"nothing is to be changed":         {im, Changes{}, fault.Usage},
		"no such argument to delete":       {im, Changes{DeleteKargs: []string{"a"}}, fault.Config},
		"' ' is not possible in it":        {im, Changes{AddKargs: []string{"a b"}}, fault.Config},
		"are reserved for them":            {im, Changes{AddKargs: []string{strings.Repeat("x", 5000)}}, fault.Config},
		"site.ks":                          {im, Changes{Kickstart: ptr("liveimg --url=x\n"), KickstartName: "site.ks"}, fault.Unsupported},
		"sda5!":                            {im, Changes{Target: ptr("sda5!")}, fault.Usage},
		"these are no settings":            {other, Changes{Wipe: ptr(true)}, fault.BadImage},
		"no file of kernel arguments":      {other, Changes{AddKargs: []string{"x"}}, fault.BadImage},
		"/images/imgbuild.conf is missing": {plain, Changes{Wipe: ptr(true)}, fault.Unsupported},
		"/boot/grub2/kargs.cfg is missing": {plain, Changes{AddKargs: []string{"x"}}, fault.Unsupported},
	} {
		_, err := Plan(c.im, &c.change)
		if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != c.class {
			t.Errorf("%v (%d), want %q", err, fault.ClassOf(err), want)
		}
	}
	if r, err := Inspect(f, info.Size()); err != nil || len(r.Problems) > 0 || r.Settings != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := Inspect(strings.NewReader("no ISO"), 6); fault.ClassOf(err) != fault.BadImage {
		t.Errorf("%v", err)
	}
}

// No medium makes Inspect panic.
func FuzzInspect(f *testing.F) {
	im, file, size := sample(f, nil)
	_ = im
	b := make([]byte, size-300<<10)
	if _, err := file.ReadAt(b, 0); err != nil {
		f.Fatal(err)
	}
	f.Add("menuentry 'a' {\n linux /k x $kargs\n}\n", uint32(16*2048), byte(1))
	f.Add("menuentry \"a", uint32(0), byte(0))
	f.Fuzz(func(t *testing.T, config string, at uint32, v byte) {
		_ = menuOf(config)
		c := slices.Clone(b)
		c[int(at)%len(c)] ^= v
		_, _ = Inspect(strings.NewReader(string(c)), int64(len(c)))
	})
}
