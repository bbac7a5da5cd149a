package installer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"imgbuild/blockdev"
	"imgbuild/fault"
	"imgbuild/installer/medium"
	"imgbuild/installer/settings"
	"imgbuild/kickstart"
	"imgbuild/pipeline"
)

// fake is a machine in memory.
type fake struct {
	disks     []blockdev.Disk
	medium    string
	fail      error // of Install
	damaged   error // of CheckMedium
	installed []Job
	shells    int
	log       string
}

func (f *fake) Disks(context.Context) ([]blockdev.Disk, error) { return f.disks, nil }
func (f *fake) Select(disks []blockdev.Disk, s blockdev.Selection) (blockdev.Disk, error) {
	// Of the words; paths are looked up on a machine.
	for _, d := range disks {
		if d.Path == s.Spec {
			return d, s.Check(d)
		}
	}
	return blockdev.Host{}.Select(disks, s)
}
func (f *fake) MediumDisk() string { return f.medium }
func (f *fake) CheckMedium(_ context.Context, progress func(done, total int64)) error {
	progress(5, 10)
	return f.damaged
}
func (f *fake) Install(_ context.Context, job *Job, p pipeline.Progress) error {
	p.Stage("write "+job.Disk.Path, 100)
	p.Advance(50)
	p.Warn("something")
	if f.fail != nil {
		return f.fail
	}
	f.installed = append(f.installed, *job)
	return nil
}
func (f *fake) Shell(context.Context) error { f.shells++; return nil }
func (f *fake) SaveLog(log []byte) string   { f.log = string(log); return "the stick" }

// typist answers questions.
type typist struct {
	bytes.Buffer
	answers []string
	secrets []bool
}

func (t *typist) ReadLine(_ context.Context, secret bool) (string, error) {
	if len(t.answers) == 0 {
		return "", io.EOF
	}
	t.secrets = append(t.secrets, secret)
	a := t.answers[0]
	t.answers = t.answers[1:]
	return a, nil
}

func described() *medium.Description {
	return &medium.Description{
		Version: 1, Title: "Some OS 1", VolumeID: "X", Arch: "amd64", Kernel: "6.1", MinimumDisk: 3 << 30, RootFS: []string{"xfs", "ext4"}, Admins: "wheel",
		Image: medium.Image{Digest: "sha256:" + strings.Repeat("a", 64), Reference: "registry.example.com/os:1"},
	}
}

func empty(name string, size int64) blockdev.Disk {
	return blockdev.Disk{Name: name, Path: "/dev/" + name, Size: size, SectorSize: 512, Model: "Model", Serial: "S-" + name, Transport: blockdev.SATA,
		Content: blockdev.Content{Empty: true}}
}

func used(name string, size int64) blockdev.Disk {
	d := empty(name, size)
	d.Content = blockdev.Content{Type: "ext4", Label: "photos"}
	return d
}

func drive(t *testing.T, f *fake, o Orders, answers ...string) (End, *typist, error) {
	t.Helper()
	c := &typist{answers: answers}
	now := 0.0
	in := &Installer{Machine: f, Description: described(), Orders: o, Clock: func() float64 { now += 2; return now }}
	end, err := in.Run(context.Background(), c)
	return end, c, err
}

const gib = 1 << 30

// Somebody answers all questions, with a change of mind on the way.
func TestAttended(t *testing.T) {
	f := &fake{medium: "sdb", disks: []blockdev.Disk{used("sda", 20*gib), empty("sdb", 10*gib), empty("sdc", gib), empty("sdd", 50*gib)}}
	end, c, err := drive(t, f, Orders{},
		"7", "l", "s", // no such disk, look again, a shell
		"2", "ext3", "ext4", "", "no", // the second possible disk is sdd; no consent
		"1", "", "admin", "secret", "secreT", "secret", "secret", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2n0T2Ff0pY5q0h3mE7kU1vVwXyZz0123456789abcd a@b", "yes",
		"s", "p")
	if err != nil || end != kickstart.EndPowerOff {
		t.Fatalf("%q, %v\n%s", end, err, c.String())
	}
	if len(f.installed) != 1 || f.shells != 2 {
		t.Fatalf("%d installations, %d shells\n%s", len(f.installed), f.shells, c.String())
	}
	job := f.installed[0]
	if job.Disk.Name != "sda" || job.Options.RootFS != "" {
		t.Errorf("installed to %s with %q", job.Disk.Name, job.Options.RootFS)
	}
	u := job.Options.Config.Blueprint.Customizations.User
	if len(u) != 1 || u[0].Name != "admin" || *u[0].Password != "secret" || !strings.HasPrefix(*u[0].Key, "ssh-ed25519") || !slices.Equal(u[0].Groups, []string{"wheel"}) {
		t.Errorf("users %+v", u)
	}
	out := c.String()
	for _, want := range []string{
		"Installer of Some OS 1", "registry.example.com/os:1", "1) /dev/sda, Model, 20 GiB, serial S-sda, sata", "ext4 'photos'",
		"not possible: /dev/sdb: the medium that this runs from", "the installation needs 3 GiB", `"7" is none of them`, `"ext3" is none of them`,
		"The two are not the same", "ALL DATA ON /dev/sda WILL BE ERASED", "write /dev/sda ... ", "warning: something", "Installed to /dev/sda", "the stick",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("not on the screen: %s", want)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	if strings.Contains(f.log, "secret") || !strings.Contains(f.log, "admin") {
		t.Errorf("log:\n%s", f.log)
	}
	secrets := 0
	for _, s := range c.secrets {
		if s {
			secrets++
		}
	}
	if secrets != 4 {
		t.Errorf("%d answers were hidden", secrets)
	}
}

// The disk that was ordered is offered where somebody is asked, when it can be.
func TestOffered(t *testing.T) {
	disks := []blockdev.Disk{used("sda", 20*gib), empty("sdb", 10*gib), empty("sdc", gib)}
	for _, c := range []struct{ target, disk, says string }{
		{"/dev/sdb", "sdb", "(number, return for 2)"},
		{"largest", "sda", "(number, return for 1)"},
		{"/dev/sdc", "", "cannot be offered: /dev/sdc: 1 GiB, and the installation needs 3 GiB"},
		{"serial=none", "", "cannot be offered: target serial=none: no such disk"},
		{"", "", "(number), l to look again"},
	} {
		f := &fake{disks: disks}
		answers := []string{"", "", "", "yes", "p"} // the disk, the file system, no user
		if c.disk == "" {
			answers = []string{"", "p"}
		}
		end, out, err := drive(t, f, Orders{Target: c.target}, answers...)
		if err != nil || end != kickstart.EndPowerOff || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %q, %v\n%s", c.target, end, err, out.String())
		}
		if c.disk == "" && len(f.installed) > 0 || c.disk != "" && (len(f.installed) != 1 || f.installed[0].Disk.Name != c.disk) {
			t.Errorf("%s: installed %+v\n%s", c.target, f.installed, out.String())
		}
	}
}

// Without a disk it says so, and nothing is installed.
func TestNoDisk(t *testing.T) {
	f := &fake{medium: "sda", disks: []blockdev.Disk{empty("sda", 9*gib)}}
	end, c, err := drive(t, f, Orders{}, "1", "p")
	if err != nil || end != kickstart.EndPowerOff || len(f.installed) > 0 || !strings.Contains(c.String(), "There is no disk to install to") {
		t.Errorf("%q, %v\n%s", end, err, c.String())
	}
}

// The rules of installing without questions.
func TestUnattended(t *testing.T) {
	for _, c := range []struct {
		name   string
		orders Orders
		disks  []blockdev.Disk
		disk   string
		says   string
	}{
		{"empty", Orders{Target: "first-empty"}, []blockdev.Disk{used("sda", 9*gib), empty("sdc", 8*gib)}, "sdc", ""},
		{"none empty", Orders{Target: "first-empty", Wipe: true}, []blockdev.Disk{used("sda", 9*gib)}, "", "no such disk"},
		{"used", Orders{Target: "largest"}, []blockdev.Disk{used("sda", 9*gib), empty("sdc", 8*gib)}, "", "holds data"},
		{"consent", Orders{Target: "largest", Wipe: true}, []blockdev.Disk{used("sda", 9*gib), empty("sdc", 8*gib)}, "sda", ""},
		{"ambiguous", Orders{Target: "smallest"}, []blockdev.Disk{empty("sda", 9*gib), empty("sdc", 9*gib)}, "", "2 disks are that"},
		{"serial", Orders{Target: "serial=s-SDC"}, []blockdev.Disk{empty("sda", 9*gib), empty("sdc", 9*gib)}, "sdc", ""},
		{"the medium", Orders{Target: "/dev/sdm", Wipe: true}, []blockdev.Disk{empty("sdm", 9*gib)}, "", "the medium that this runs from"},
		{"only the medium", Orders{Target: "largest", Wipe: true}, []blockdev.Disk{empty("sdm", 9*gib)}, "", "no such disk"},
		{"too small", Orders{Target: "/dev/sda"}, []blockdev.Disk{empty("sda", gib)}, "", "needs 3 GiB"},
		{"nothing", Orders{Target: "smallest"}, nil, "", "no such disk"},
	} {
		f := &fake{medium: "sdm", disks: c.disks}
		c.orders.Unattended = true
		end, out, err := drive(t, f, c.orders, "s", "p")
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.disk != "" {
			if len(f.installed) != 1 || f.installed[0].Disk.Name != c.disk || end != kickstart.EndReboot {
				t.Errorf("%s: %d installations, %q\n%s", c.name, len(f.installed), end, out.String())
			}
			continue
		}
		if len(f.installed) > 0 || end != kickstart.EndPowerOff || f.shells != 1 || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: %d installations, %q\n%s", c.name, len(f.installed), end, out.String())
		}
	}
}

// A failure is told, kept, and can be tried again.
func TestFailure(t *testing.T) {
	f := &fake{fail: fault.New(fault.Device, errors.New("write at 5: input/output error"), "use another disk"), disks: []blockdev.Disk{empty("sda", 9*gib)}}
	end, c, err := drive(t, f, Orders{Unattended: true, Target: "smallest", End: kickstart.EndReboot}, "t", "r")
	if err != nil || end != kickstart.EndReboot {
		t.Errorf("%q, %v", end, err)
	}
	if n := strings.Count(c.String(), "The installation failed: write at 5: input/output error\nhint: use another disk"); n != 2 {
		t.Errorf("told %d times\n%s", n, c.String())
	}
	if !strings.Contains(f.log, "input/output error") {
		t.Errorf("log:\n%s", f.log)
	}
	f = &fake{damaged: errors.New("its checksum is wrong"), disks: f.disks}
	if _, c, _ := drive(t, f, Orders{Unattended: true, Target: "smallest", Check: true}, "p"); len(f.installed) > 0 || !strings.Contains(c.String(), "the medium is damaged") {
		t.Errorf("a damaged medium\n%s", c.String())
	}
	f = &fake{damaged: errNetwork, disks: f.disks}
	if _, c, _ := drive(t, f, Orders{Unattended: true, Target: "smallest", Check: true}); len(f.installed) != 1 || strings.Contains(c.String(), "damaged") || !strings.Contains(c.String(), "it came over a network") {
		t.Errorf("what came over a network\n%s", c.String())
	}
}

// What nobody answers ends nowhere.
func TestNoConsole(t *testing.T) {
	f := &fake{disks: []blockdev.Disk{empty("sda", 9*gib)}}
	if _, _, err := drive(t, f, Orders{}); !errors.Is(err, errConsole) || len(f.installed) > 0 {
		t.Errorf("%v", err)
	}
}

func TestArguments(t *testing.T) {
	got := Arguments("BOOT_IMAGE=/x quiet imgbuild.target=\"serial=A B\" imgbuild.unattended imgbuild.wipe=no rd.live.check imgbuild.target=smallest\n")
	want := map[string]string{"target": "smallest", "unattended": "1", "wipe": "no", "check": "1"}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s=%s, want %s", k, got[k], v)
		}
	}
	if got := Arguments(`imgbuild.target="serial=A B"`)["target"]; got != "serial=A B" {
		t.Errorf("%q", got)
	}
}

// Who says what goes before whom.
func TestOrders(t *testing.T) {
	d := described()
	d.Target, d.Unattended = "largest", true
	s := &settings.Settings{Target: "smallest", Kickstart: "clearpart --all\nautopart --fstype=xfs\npoweroff\nignoredisk --only-use=/dev/sdx\n"}
	o, err := NewOrders(nil, s, d)
	if err != nil {
		t.Fatal(err)
	}
	if o.Target != "smallest" || !o.Wipe || !o.Unattended || o.End != kickstart.EndPowerOff || o.Kickstart == nil {
		t.Errorf("%+v", o)
	}
	o, err = NewOrders(map[string]string{"target": "serial=1", "wipe": "no", "unattended": "0", "reboot": "halt", "rootfs": "btrfs", "seed": "second"}, s, d)
	if err != nil {
		t.Fatal(err)
	}
	b := pipeline.Options{Seed: "of the medium"}
	if err := o.apply(&b); err != nil || b.Seed != "second" || b.RootFS != "btrfs" {
		t.Errorf("%q, %q, %v", b.Seed, b.RootFS, err)
	}
	if o.Target != "serial=1" || o.Wipe || o.Unattended || o.End != kickstart.EndHalt || o.RootFS != "btrfs" {
		t.Errorf("%+v", o)
	}
	if o, err = NewOrders(map[string]string{"unattended": "1"}, &settings.Settings{}, described()); err != nil || o.Target != "first-empty" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range []map[string]string{{"target": "sda"}, {"wipe": "maybe"}, {"taget": "x"}, {"reboot": "never"}, {"rootfs": "ntfs"}, {"seed": ""}} {
		if _, err := NewOrders(bad, &settings.Settings{}, described()); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	if _, err := NewOrders(nil, &settings.Settings{Kickstart: "liveimg --url=x\n"}, described()); err == nil {
		t.Error("a kickstart that cannot be carried out")
	}
}

// The options are those that the medium was made with.
func TestOptions(t *testing.T) {
	d := described()
	d.Build = medium.Build{Target: "registry.example.com/os:2", Kargs: []string{"a"}, Config: []byte(`{"customizations": {"hostname": "h", "user": [{"name": "u"}]}}`),
		Layout: "partition_table: [", LayoutName: "layout disk.yaml"}
	if _, err := Options(d, "/m"); err == nil {
		t.Error("a layout that is none")
	}
	d.Build.Layout = ""
	o, err := Options(d, "/m")
	if err != nil {
		t.Fatal(err)
	}
	if got := o.Image.String(); got != "oci:/m/container@"+d.Image.Digest {
		t.Errorf("image %s", got)
	}
	if o.CalledAs.Name() != "registry.example.com/os:1" || o.Target != "registry.example.com/os:2" || !hasUsers(o.Config) || *o.Config.Blueprint.Customizations.Hostname != "h" {
		t.Errorf("%+v", o)
	}
}

// A kickstart says where, whether what is there may go, and what comes then.
func TestOrdersOfKickstart(t *testing.T) {
	o, err := NewOrders(nil, &settings.Settings{Kickstart: "ignoredisk --only-use=sdb\nclearpart --all\nautopart --type=btrfs\nreboot --eject\n"}, &medium.Description{})
	if err != nil {
		t.Fatal(err)
	}
	if o.Target != "/dev/sdb" || !o.Wipe || !o.Unattended || o.End != kickstart.EndReboot || o.RootFS != "btrfs" {
		t.Errorf("%+v", o)
	}
}

// A kernel command line may be anything; what follows from it never asks for more than
// was said.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"quiet imgbuild.target=\"serial=A B\" imgbuild.wipe", "rd.live.check imgbuild.reboot=halt", "\"", "imgbuild.unattended=no imgbuild.rootfs=xfs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, cmdline string) {
		args := Arguments(cmdline)
		o, err := NewOrders(args, &settings.Settings{}, described())
		if err != nil {
			return
		}
		if _, ok := args["wipe"]; o.Wipe && !ok {
			t.Errorf("%q wipes", cmdline)
		}
		if _, ok := args["unattended"]; o.Unattended && !ok {
			t.Errorf("%q is unattended", cmdline)
		}
	})
}
