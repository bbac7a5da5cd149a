package scripts

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/pipeline"
)

// The file systems of a plan, those that others are mounted in first.
func TestNewTarget(t *testing.T) {
	p := &pipeline.Plan{Stateroot: "default", Commit: "abc", Disk: pipeline.PlanDisk{Partitions: []pipeline.PlanPartition{
		{Number: 1}, // BIOS boot
		{Number: 2, FileSystem: "vfat", Mount: "/boot/efi"},
		{Number: 3, FileSystem: "swap"},
		{Number: 4, FileSystem: "ext4", Mount: "/var/lib/data"},
		{Number: 5, FileSystem: "ext4", Mount: "/boot"},
		{Number: 6, FileSystem: "btrfs", Subvolumes: []pipeline.PlanSubvolume{{Name: "var", Mount: "/var"}, {Name: "root", Mount: "/"}, {Name: "spare"}}},
	}}}
	device := func(n int) string { return fmt.Sprintf("/dev/sda%d", n) }
	got, err := NewTarget(p, device)
	if err != nil {
		t.Fatal(err)
	}
	want := &Target{
		Deployment: "ostree/deploy/default/deploy/abc.0", Var: "ostree/deploy/default/var",
		Mounts: []Mount{
			{"/dev/sda6", "btrfs", "subvol=root", "/"}, {"/dev/sda5", "ext4", "", "/boot"}, {"/dev/sda6", "btrfs", "subvol=var", "/var"},
			{"/dev/sda2", "vfat", "", "/boot/efi"}, {"/dev/sda4", "ext4", "", "/var/lib/data"},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	p.Disk.Partitions = p.Disk.Partitions[:5]
	if _, err := NewTarget(p, device); err == nil {
		t.Error("a system without a root file system")
	}
}
