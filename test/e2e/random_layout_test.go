package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// randomLayout is a disk.yaml that was drawn, and what is known of it.
type randomLayout struct {
	yaml   string
	dos    bool
	sector int64
	grain  int64
	sizes  map[string]int64 // least sizes by mount point
	broken string           // what the message about a broken one says, "" for a sound one
}

// draw draws a layout, one of four a broken one.
func draw(r *rand.Rand) randomLayout {
	const mib = 1 << 20
	l := randomLayout{dos: r.IntN(4) == 0, sector: 512, grain: mib, sizes: map[string]int64{}}
	var head []string
	if r.IntN(3) == 0 {
		l.sector = 4096
		head = append(head, "sector_size: 4096")
	}
	if r.IntN(2) == 0 {
		l.grain = []int64{4096, 64 << 10, 2 * mib, 3 * mib}[r.IntN(4)]
		head = append(head, fmt.Sprintf("grain_size: %d", l.grain))
	}
	if r.IntN(3) == 0 {
		head = append(head, fmt.Sprintf("start_offset: %d", r.Int64N(5*mib)))
		if r.IntN(2) == 0 {
			head = append(head, "absolute_start_offset: true")
		}
	}
	if r.IntN(3) == 0 {
		head = append(head, fmt.Sprintf("extra_padding: %d", r.Int64N(3*mib)))
	}
	if r.IntN(3) == 0 {
		head = append(head, fmt.Sprintf("size: %d MiB", 3000+r.IntN(3000)))
	}
	if r.IntN(3) == 0 {
		head = append(head, "policy: {grow_root_to_fill_disk: false}")
	}
	if l.dos {
		head = append(head, "type: dos")
	}
	mounts := []string{"/var", "/var/log", "/var/lib/app", "/home", "/data"}
	r.Shuffle(len(mounts), func(i, j int) { mounts[i], mounts[j] = mounts[j], mounts[i] })
	fs := func(kind, mount string) string {
		low, high := map[string]int64{"ext4": 8, "xfs": 300, "btrfs": 110, "vfat": 34}[kind], int64(400)
		if kind == "vfat" && l.sector == 4096 {
			low = 260
		}
		size := low*mib + r.Int64N((high-low)*mib)
		if mount != "" && size >= 2*mib {
			l.sizes[mount] = size
		}
		return fmt.Sprintf("{size: %d, payload_type: filesystem, payload: {type: %s, mountpoint: %s, label: %s}}", size, kind, mount, []string{"L", "a label"}[r.IntN(2)])
	}
	esp := "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	if l.dos {
		esp = "ef"
	}
	parts := []string{strings.Replace(fs("vfat", "/boot/efi"), "{size", "{type: "+esp+", size", 1)}
	if r.IntN(2) == 0 {
		parts = append(parts, fs([]string{"ext4", "xfs"}[r.IntN(2)], "/boot"))
	}
	limit := 2 + r.IntN(6)
	if l.dos {
		limit = 3
	}
	for len(parts) < limit {
		switch r.IntN(5) {
		case 0:
			parts = append(parts, fmt.Sprintf("{size: %d, payload_type: swap}", 40<<10+r.Int64N(mib)))
		case 1:
			parts = append(parts, fmt.Sprintf("{size: %d}", 1+r.Int64N(5*mib)))
		case 2:
			parts = append(parts, "{payload_type: raw, payload: {source_path: /usr/lib/firmware/blob}}")
		default:
			if len(mounts) == 0 {
				continue
			}
			mount := mounts[0]
			mounts = mounts[1:]
			kind := []string{"ext4", "xfs", "btrfs"}[r.IntN(3)]
			if mount == "/data" {
				kind = "vfat"
			}
			parts = append(parts, fs(kind, mount))
		}
	}
	root := "{payload_type: filesystem, payload: {type: " + []string{"ext4", "xfs"}[r.IntN(2)] + ", mountpoint: /}}"
	if !l.dos && r.IntN(4) == 0 { // it gets a /boot, which would be the fifth partition
		root = "{payload_type: btrfs, payload: {label: root, subvolumes: [{name: root, mountpoint: /, compress: 'zstd:1'}"
		for len(mounts) > 0 && r.IntN(2) == 0 {
			root += fmt.Sprintf(", {name: vol%d, mountpoint: %s}", len(mounts), mounts[0])
			mounts = mounts[1:]
		}
		root += "]}}"
	}
	at := r.IntN(len(parts) + 1)
	parts = append(parts[:at:at], append([]string{root}, parts[at:]...)...)

	if r.IntN(4) == 0 {
		for _, b := range []struct{ part, message string }{
			{"{size: 1 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /}}", "mount point / is also that of"},
			{"{size: 1 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /usr/x}}", "/usr belongs to the image"},
			{"{size: 8 MiB, payload_type: filesystem, payload: {type: vfat}}", "is less than FAT32 has"},
			{"{payload_type: swap}", "no size"},
			{"{size: 1 MiB, attrs: [5]}", "bit 5 is reserved"},
			{"{size: 1 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: var}}", `mount point "var"`},
			{"{size: 1 MiB, type: zz}", `type "zz"`},
		}[r.IntN(7):] {
			parts, l.broken = append(parts, b.part), b.message
			break
		}
	}
	l.yaml = "mount_configuration: " + []string{"units", "fstab", "none"}[r.IntN(3)] + "\npartition_table:\n"
	for _, h := range head {
		l.yaml += "  " + h + "\n"
	}
	l.yaml += "  partitions:\n"
	for _, p := range parts {
		l.yaml += "    - " + p + "\n"
	}
	return l
}

// Whatever is asked for is written as the tools want it, or refused; a thousand
// times where IMGBUILD_SOAK is set.
func TestRandomLayouts(t *testing.T) {
	n := 12
	if os.Getenv("IMGBUILD_SOAK") != "" {
		n = 1000
	}
	s := partitioned()
	hostBIOS(t, s)
	s.File(0, "usr/lib/bootupd/updates/BIOS.json", componentJSON)
	ref := writeImage(t, s)
	cache := t.TempDir()
	for i := range n {
		l := draw(rand.New(rand.NewPCG(uint64(i), 1)))
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir := t.TempDir()
			cmd := command(t, "--type", "raw", "--cache", cache, "--output", dir, "--layout", writeFile(t, "l.yaml", l.yaml), ref)
			if i%3 == 0 {
				cmd.Args = append(cmd.Args, "--size", "min")
			}
			r := run(t, cmd)
			if l.broken != "" {
				if r.code != 9 || !strings.Contains(r.stderr, l.broken) || len(files(t, dir)) > 0 {
					t.Fatalf("exit %d, want %q:\n%s\n%s", r.code, l.broken, l.yaml, r.stderr)
				}
				return
			}
			if r.code != 0 {
				t.Fatalf("exit %d:\n%s\n%s", r.code, l.yaml, r.stderr)
			}
			p := checkDisk(t, dir)
			l.check(t, p, filepath.Join(dir, "image/disk.raw"))
			if t.Failed() {
				t.Log(l.yaml)
			}
		})
	}
}

// check compares a disk with what was asked for.
func (l *randomLayout) check(t *testing.T, p *diskPlan, disk string) {
	t.Helper()
	end := int64(0)
	for _, q := range p.Disk.Partitions {
		if q.Start%l.grain != 0 || q.Start < end || q.End() > p.Disk.Size || q.Size <= 0 {
			t.Errorf("partition %+v: the one before ends at %d, the disk at %d, grain %d", q, end, p.Disk.Size, l.grain)
		}
		end = q.End()
	}
	if last := p.Disk.Partitions[len(p.Disk.Partitions)-1]; last.Mount != "/" && len(last.Subvolumes) == 0 {
		t.Errorf("the last partition is %+v", last)
	}
	for mount, size := range l.sizes {
		if mount == "/home" {
			mount = "/var/home"
		}
		if q := p.at(t, mount); q.Size < size {
			t.Errorf("%s has %d bytes, want %d", mount, q.Size, size)
		}
	}
	if l.sector != p.Disk.SectorSize || (p.Disk.Table == "dos") != l.dos {
		t.Errorf("%s with sectors of %d", p.Disk.Table, p.Disk.SectorSize)
	}
	if l.dos {
		return
	}
	// What others read is what the plan says.
	f, err := file.OpenFromPath(disk, true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := gpt.Read(f, int(l.sector), int(l.sector))
	if err != nil || table.RecoveredFromBackup {
		t.Fatalf("go-diskfs: %v", err)
	}
	for i, q := range p.Disk.Partitions {
		g := table.Partitions[i]
		if int64(g.Start)*l.sector != q.Start || (int64(g.End)+1)*l.sector != q.End() || !strings.EqualFold(g.GUID, q.ID) || !strings.EqualFold(string(g.Type), q.Type) {
			t.Errorf("go-diskfs: %+v, want %+v", g, q)
		}
	}
}

// End returns the offset behind the partition.
func (q planPart) End() int64 { return q.Start + q.Size }
