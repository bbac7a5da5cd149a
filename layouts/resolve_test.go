package layouts

import (
	"errors"
	"strings"
	"testing"

	"imgbuild/blueprints"
	"imgbuild/fault"
)

// A btrfs root is a subvolume and has a /boot that any GRUB reads.
func TestBtrfsRoot(t *testing.T) {
	for _, base := range []string{
		"partition_table:\n  policy: {ensure_xbootldr: true}\n  partitions:\n    - {payload_type: filesystem, payload: {type: btrfs, mountpoint: /, fstab_options: 'noatime,ro'}}\n",
		"mount_configuration: units\n",
	} {
		l, _, err := Parse([]byte(base))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Resolve(&Request{Arch: "amd64", RootFS: Btrfs, Base: l})
		if err != nil {
			t.Fatal(err)
		}
		boot, root := got.Partitions[got.At("/boot")], got.Partitions[got.At("/")]
		if boot.FS.Type != Ext4 || boot.Name != "boot" || boot.Size != GiB {
			t.Errorf("/boot %+v, %+v", boot, boot.FS)
		}
		if s := root.FS.Subvolumes; len(s) != 1 || s[0] != (Subvolume{Name: "root", Mount: "/", Compress: "zstd:1", ReadOnly: true}) || root.FS.Label != "root" {
			t.Errorf("root %+v", root.FS)
		}
		if m := got.RootMount(); m.Options != "subvol=root,compress=zstd:1,ro" {
			t.Errorf("root is mounted %+v", m)
		}
	}
}

// Sizes alone change imgbuild's own layout no further.
func TestResized(t *testing.T) {
	f := Firmware{UEFI: true, BIOS: true}
	l, err := Resolve(&Request{Arch: "amd64", Firmware: f, RootFS: XFS, FileSystems: []blueprints.Filesystem{
		{Mountpoint: "/", MinSize: 20 * GiB}, {Mountpoint: "/boot", MinSize: 2 * GiB},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := Default("amd64", f, XFS)
	if l.Mounts != MountsBootc || len(l.Partitions) != len(want.Partitions) || l.Partitions[l.At("/")].Size != 20*GiB || l.Partitions[l.At("/boot")].Size != 2*GiB {
		t.Errorf("%+v", l)
	}
	l, err = Resolve(&Request{Arch: "amd64", Firmware: f, RootFS: XFS, FileSystems: []blueprints.Filesystem{
		{Mountpoint: "/boot", MinSize: 1}, {Mountpoint: "/var/lib/x", MinSize: 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	x := l.Partitions[l.At("/var/lib/x")]
	if l.Mounts != MountsUnits || x.Size != GiB || x.FS.Type != XFS || x.FS.Options != "defaults" || l.At("/") != len(l.Partitions)-1 {
		t.Errorf("%+v, %+v", l, x.FS)
	}
}

func TestResolveRefuses(t *testing.T) {
	fs := func(paths ...string) (list []blueprints.Filesystem) {
		for _, p := range paths {
			list = append(list, blueprints.Filesystem{Mountpoint: p, MinSize: 1})
		}
		return list
	}
	for _, c := range []struct {
		r     Request
		want  []string
		class fault.Class
	}{
		{Request{RootFS: XFS, FileSystems: fs("/", "/boot/", "/opt", "/var/run/x", "/var/lib", "/var/lib")},
			[]string{`path "/boot/" must be absolute and canonical`, `path "/opt" is not allowed`, `path "/var/run/x" is not allowed`, `path "/var/lib" is there twice`}, fault.Config},
		{Request{RootFS: Btrfs, FileSystems: fs("/", "/boot", "/var/lib")}, []string{`path "/var/lib" is not allowed: with a btrfs root`}, fault.Config},
		{Request{RootFS: XFS, FileSystems: fs("/"), Disk: &blueprints.Disk{}}, []string{"exclude each other"}, fault.Config},
		{Request{RootFS: XFS, Disk: &blueprints.Disk{Partitions: []blueprints.Partition{{Type: "lvm"}}}}, []string{"partitions[0]: type lvm: imgbuild writes no LVM"}, fault.Unsupported},
	} {
		_, err := Resolve(&c.r)
		if err == nil || fault.ClassOf(err) != c.class {
			t.Errorf("%v, class %d", err, fault.ClassOf(err))
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q is not in\n%v", w, err)
			}
		}
		var p Problems
		if errors.As(err, &p) && len(p) != len(c.want) {
			t.Errorf("%d problems, want %d", len(p), len(c.want))
		}
	}
}

// Disks that are too small, sizes that no disk can have.
func TestPlaceRefuses(t *testing.T) {
	l := Default("amd64", Firmware{UEFI: true}, Ext4)
	sizes := []int64{501 * MiB, GiB, 3 * GiB}
	need, err := l.Need(sizes)
	if err != nil || need != 2*MiB+501*MiB+4*GiB {
		t.Fatal(need, err)
	}
	var small *TooSmallError
	if _, err := l.Place(sizes, need-1, true); !errors.As(err, &small) || small.Need != need || small.Size != need-1 {
		t.Errorf("%v", err)
	}
	if _, err := l.Place(sizes, need, true); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]int64{{0, 1, 1}, {1, -1, 1}, {1 << 62, 1 << 62, 1 << 62}} {
		if _, err := l.Need(bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}
