package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The image's own layout is applied: what it has below mount points moves, and
// everything is mounted.
func TestDiskYAML(t *testing.T) {
	const yaml = yamlHead + yamlESP + `
    - {size: 310 MiB, payload_type: filesystem, payload: {type: xfs, mountpoint: /boot, label: boot, fstab_options: ro}}
    - {size: 64 MiB, payload_type: swap, payload: {label: swap}}
    - {size: 100 MiB, label: var, payload_type: filesystem, payload: {type: ext4, mountpoint: /var, label: var}}
    - {size: 310 MiB, payload_type: filesystem, payload: {type: xfs, mountpoint: /var/log, mkfs_options: {agcount: 3}}}
    - {size: 20 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /home, label: home}}
    - {size: 40 MiB, payload_type: filesystem, payload: {type: vfat, mountpoint: /data, label: DATA, mkfs_options: {geometry: {heads: 64, sectors_per_track: 32}}}}
    - {size: 1 MiB, attrs: [60, 63], payload_type: raw, payload: {source_path: /usr/lib/firmware/blob}}
    - {size: 8 MiB, uuid: CD3B4BE3-0139-4A63-8060-658554C7273B}
` + yamlRoot
	s := partitioned()
	s.File(1, "usr/lib/image-builder/bootc/disk.yaml", yaml)
	s.File(1, "usr/lib/bootc-image-builder/disk.yaml", "the other one wins")
	ref := writeImage(t, s)
	dir, _ := build(t, "--type", "raw", "--no-cache", ref)
	p := checkDisk(t, dir)
	disk := filepath.Join(dir, "image/disk.raw")

	root := p.at(t, "/")
	if last := p.Disk.Partitions[len(p.Disk.Partitions)-1]; last.Mount != "/" || p.Disk.Size != 10<<30 || root.Size < 8<<30 {
		t.Errorf("the last partition is %+v of a disk of %d", last, p.Disk.Size)
	}
	rootFS := cut(t, disk, root)
	if got := listOf(t, rootFS, "/ostree/deploy/default/var"); !slices.Equal(got, []string{".ostree-selabeled"}) {
		t.Errorf("/var on root has %q", got)
	}
	vars := cut(t, disk, p.at(t, "/var"))
	if got := string(fileOf(t, vars, "/lib/app/state")); got != "initial state\n" {
		t.Errorf("state on /var: %q", got)
	}
	for name, want := range map[string][]string{"/log": {}, "/home": {}, "/": {".ostree-selabeled", "home", "lib", "lock", "log", "lost+found", "run", "tmp"}} {
		if got := listOf(t, vars, name); !slices.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%s of /var has %q, want %q", name, got, want)
		}
	}
	log := cut(t, disk, p.at(t, "/var/log"))
	if out := check(t, "xfs_db", "xfsprogs", "-r", "-c", "ls /", "-c", "sb 0", "-c", "print agcount", log); !strings.Contains(out, "first") || !strings.Contains(out, "agcount = 3") {
		t.Errorf("/var/log: %s", out)
	}
	data := cut(t, disk, p.at(t, "/data"))
	if out := check(t, "minfo", "mtools", "-i", data, "::"); !strings.Contains(out, "heads: 64") {
		t.Errorf("geometry of /data: %s", out)
	}
	blob := p.Disk.Partitions[7]
	if b, err := os.ReadFile(cut(t, disk, blob)); err != nil || !bytes.HasPrefix(b, []byte(strings.Repeat("firmware", 1000)+"\x00")) {
		t.Errorf("partition %+v does not begin with the file: %v", blob, err)
	}
	if out := check(t, "sfdisk", "fdisk", "-d", disk); !strings.Contains(out, `attrs="GUID:60,63"`) || !strings.Contains(out, "uuid=CD3B4BE3-0139-4A63-8060-658554C7273B") {
		t.Errorf("sfdisk: %s", out)
	}

	kargs := strings.Join(p.Kargs, " ")
	for _, want := range []string{"root=UUID=" + root.UUID + " rootflags=noatime rw", "boot=UUID=" + p.at(t, "/boot").UUID} {
		if !strings.Contains(kargs, want) {
			t.Errorf("kernel arguments %s, want %s", kargs, want)
		}
	}
	if got, want := p.etc(t, rootFS, "systemd/system/var-home.mount"), "[Unit]\nDefaultDependencies=True\n\n[Mount]\nWhat=/dev/disk/by-uuid/"+p.at(t, "/var/home").UUID+
		"\nWhere=/var/home\nType=ext4\n\n[Install]\nWantedBy=multi-user.target\n\n"; got != want {
		t.Errorf("var-home.mount:\n%s", got)
	}
	etc := "/ostree/deploy/default/deploy/" + p.Commit + ".0/etc/"
	swap := `dev-disk-by\x2duuid-` + strings.ReplaceAll(p.Disk.Partitions[2].UUID, "-", `\x2d`) + ".swap"
	want := []string{"-.mount", "boot-efi.mount", "boot.mount", "data.mount", swap, "multi-user.target.wants", "var-home.mount", "var-log.mount", "var.mount"}
	if got := listOf(t, rootFS, etc+"systemd/system"); !slices.Equal(got, want) {
		t.Errorf("units %q, want %q", got, want)
	}
	if got := listOf(t, rootFS, etc+"systemd/system/multi-user.target.wants"); !slices.Equal(got, slices.DeleteFunc(want, func(s string) bool { return s == "multi-user.target.wants" })) {
		t.Errorf("enabled %q", got)
	}
	if got := p.etc(t, rootFS, "fstab"); got != "UUID="+p.at(t, "/boot").UUID+" /boot auto ro 0 0\n" {
		t.Errorf("fstab %q", got)
	}

	again, _ := build(t, "--type", "raw", "--no-cache", ref)
	if sumData(t, disk) != sumData(t, filepath.Join(again, "image/disk.raw")) {
		t.Error("two builds differ")
	}
}

// --layout goes before the image's layout, and customizations are applied to it;
// --rootfs does not.
func TestLayoutPrecedence(t *testing.T) {
	s := partitioned()
	s.File(1, "usr/lib/bootc-image-builder/disk.yaml", yamlHead+yamlESP+"    - {size: 77 MiB, label: theirs}\n"+yamlRoot)
	s.File(1, "usr/lib/bootc-image-builder/config.toml", "[[customizations.filesystem]]\nmountpoint='/var/lib/embedded'\nminsize='1 GiB'\n")
	ref := writeImage(t, s)
	own := writeFile(t, "own.yaml", "mount_configuration: fstab\n"+yamlHead+yamlESP+"    - {size: 88 MiB, label: mine}\n"+yamlRoot)
	for name, c := range map[string]struct {
		config string
		args   []string
		want   []string // mount points and names
		stderr string
	}{
		"image":      {"", []string{"--rootfs", "xfs"}, []string{"/boot/efi", "theirs", "/var/lib/embedded", "/"}, "root is ext4"},
		"flag":       {"", []string{"--layout", own}, []string{"/boot/efi", "mine", "/var/lib/embedded", "/"}, ""},
		"filesystem": {"[[customizations.filesystem]]\nmountpoint='/var/lib/own'\nminsize='1 GiB'\n[[customizations.filesystem]]\nmountpoint='/boot'\nminsize='1 kB'\n", []string{"--layout", own}, []string{"/boot/efi", "mine", "/var/lib/own", "/boot", "/"}, ""},
		"disk":       {"[customizations.disk]\nminsize='12 GiB'\n[[customizations.disk.partitions]]\nminsize='500 MiB'\nmountpoint='/var'\nfs_type='ext4'\npart_label='vars'\npart_uuid='CD3B4BE3-0139-4A63-8060-658554C7273B'\npart_type='4D21B016-B534-45C2-A9FB-5C16E091FD2D'\n", []string{"--layout", own}, []string{"/boot/efi", "/var", "/"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--type", "raw", "--no-cache"}, c.args...)
			if c.config != "" {
				args = append(args, "--config", writeFile(t, "config.toml", c.config))
			}
			dir, r := build(t, append(args, ref)...)
			p := checkDisk(t, dir)
			var got []string
			for _, q := range p.Disk.Partitions {
				what := q.Mount
				if what == "" {
					what = q.Name
				}
				got = append(got, what)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("partitions %q, want %q", got, c.want)
			}
			if !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("%q is not in\n%s", c.stderr, r.stderr)
			}
			if name == "disk" {
				// The keys that bootc-image-builder takes from JSON alone.
				if q := p.at(t, "/var"); q.Name != "vars" || q.ID != "cd3b4be3-0139-4a63-8060-658554c7273b" || q.Type != "4d21b016-b534-45c2-a9fb-5c16e091fd2d" {
					t.Errorf("%+v", q)
				}
				if p.Disk.Size != 12<<30 || slices.ContainsFunc(p.Kargs, func(s string) bool { return strings.HasPrefix(s, "boot=") }) {
					t.Errorf("disk of %d bytes, %q", p.Disk.Size, p.Kargs)
				}
			}
			if name == "flag" {
				root := cut(t, filepath.Join(dir, "image/disk.raw"), p.at(t, "/"))
				want := "UUID=" + p.at(t, "/boot/efi").UUID + "\t/boot/efi\tvfat\tdefaults\t0\t0\n" +
					"UUID=" + p.at(t, "/var/lib/embedded").UUID + "\t/var/lib/embedded\text4\tdefaults\t0\t0\n"
				if got := p.etc(t, root, "fstab"); got != want {
					t.Errorf("fstab\n%swant\n%s", got, want)
				}
				if got := string(fileOf(t, root, "/boot/bootupd-state.json")); got == "" {
					t.Error("/boot is not on root")
				}
			}
		})
	}
}

// A table of an MBR has its boot code and core image in the gap behind it.
func TestDOSDisk(t *testing.T) {
	s := partitioned()
	hostBIOS(t, s)
	s.File(0, "usr/lib/bootupd/updates/BIOS.json", componentJSON)
	dir, _ := build(t, "--type", "raw", "--no-cache", "--layout", writeFile(t, "dos.yaml", "partition_table:\n  type: dos\n  size: 6 GiB\n  partitions:\n"+
		strings.Replace(yamlESP, "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef", 1)+
		"    - {size: 512 MiB, type: 83, bootable: true, payload_type: filesystem, payload: {type: ext4, mountpoint: /boot}}\n    - {size: 10 MiB, payload_type: swap}\n"+yamlRoot), writeImage(t, s))
	p := checkDisk(t, dir)
	disk := filepath.Join(dir, "image/disk.raw")
	out := check(t, "sfdisk", "fdisk", "-d", disk)
	for _, want := range []string{"label: dos", "label-id: 0x" + p.Disk.ID, "type=ef", "type=83, bootable", "type=82"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	boot := cut(t, disk, p.at(t, "/boot"))
	core := fileOf(t, boot, "/grub2/i386-pc/core.img")
	if len(core) == 0 || !bytes.Equal(bytesAt(t, disk, 512, len(core)), core) || bytesAt(t, disk, 0, 1)[0] == 0 {
		t.Errorf("the core image of %d bytes is not at sector 1", len(core))
	}
	if !bytes.Contains(fileOf(t, boot, "/grub2/i386-pc/part_msdos.mod"), []byte("ELF")) {
		t.Error("no part_msdos")
	}
}

// Disks with large sectors have file systems for them, and no boot code.
func TestLargeSectors(t *testing.T) {
	s := partitioned()
	hostBIOS(t, s)
	s.File(0, "usr/lib/bootupd/updates/BIOS.json", componentJSON)
	ref := writeImage(t, s)
	config := writeFile(t, "c.toml", "[customizations.disk]\nsector_size=4096\n[[customizations.disk.partitions]]\nminsize='400 MiB'\nmountpoint='/var'\nfs_type='xfs'\n[[customizations.disk.partitions]]\nminsize='1 GiB'\nmountpoint='/'\nfs_type='ext4'\n")
	dir, r := build(t, "--type", "raw", "--no-cache", "--config", config, ref)
	p := checkDisk(t, dir)
	if p.Disk.SectorSize != 4096 || !strings.Contains(r.stderr, "the disk will not boot by BIOS") {
		t.Errorf("%+v\n%s", p.Disk, r.stderr)
	}
	disk := filepath.Join(dir, "image/disk.raw")
	code, first, second := bytesAt(t, disk, 0, 1), bytesAt(t, disk, 4096, 8), bytesAt(t, disk, p.Disk.Size-4096, 8)
	if code[0] != 0 || string(first) != "EFI PART" || string(second) != "EFI PART" {
		t.Errorf("boot code %x, tables %q and %q", code, first, second)
	}
	vars := cut(t, disk, p.at(t, "/var"))
	if out := check(t, "xfs_db", "xfsprogs", "-r", "-c", "sb 0", "-c", "print sectsize", vars); !strings.Contains(out, "sectsize = 4096") {
		t.Errorf("xfs: %s", out)
	}
	for _, typ := range []string{"ami", "vhd", "gce", "ova"} {
		if r := run(t, command(t, "--type", typ, "--no-cache", "--config", config, ref)); r.code != 6 || !strings.Contains(r.stderr, typ+" disks are seen with sectors of 512") {
			t.Errorf("%s: exit %d\n%s", typ, r.code, r.stderr)
		}
	}
}

// Sizes are least sizes: content makes them larger, with a message, and flags
// decide about root and the disk.
func TestLayoutSizes(t *testing.T) {
	s := partitioned()
	s.File(1, "var/lib/app/big", strings.Repeat("0123456789abcdef", 3<<16)) // 3 MiB
	ref := writeImage(t, s)
	layout := func(policy, rootSize string) string {
		return writeFile(t, "l.yaml", "partition_table:\n  size: 6 GiB\n"+policy+"  partitions:\n"+yamlESP+"    - {size: 3 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /var}}\n"+
			"    - {size: "+rootSize+", payload_type: filesystem, payload: {type: ext4, mountpoint: /}}\n")
	}
	const fixed = "  policy: {grow_root_to_fill_disk: false}\n"
	const mib, gib = 1 << 20, 1 << 30
	for name, c := range map[string]struct {
		layout     string
		args       []string
		size, root int64 // 0: whatever
		stderr     string
	}{
		"grown":      {layout("", "1 GiB"), nil, 6 * gib, 0, "partition 2 (/var) gets 4 MiB in place of 3 MiB: its content needs that"},
		"fixed root": {layout(fixed, "3 GiB"), nil, 6 * gib, 3 * gib, ""},
		"head-room":  {layout(fixed, "100 MiB"), nil, 6 * gib, 0, "(/) gets 2.2 GiB in place of 100 MiB: its content, and room for an upgrade"},
		"free space": {layout(fixed, "100 MiB"), []string{"--free-space", "10MiB"}, 6 * gib, 100 * mib, ""},
		"root size":  {layout("", "3 GiB"), []string{"--root-size", "2GiB"}, 6 * gib, 2 * gib, ""},
		"disk size":  {layout("", "1 GiB"), []string{"--size", "3GiB"}, 3 * gib, 3*gib - 106*mib, ""},
		"minimal":    {layout("", "100 MiB"), []string{"--size", "min"}, 206 * mib, 100 * mib, ""},
		"larger":     {layout("", "7 GiB"), nil, 7*gib + 106*mib, 7 * gib, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, r := build(t, append(append([]string{"--type", "raw", "--no-cache", "--layout", c.layout}, c.args...), ref)...)
			p := checkDisk(t, dir)
			if root := p.at(t, "/"); p.Disk.Size != c.size || c.root != 0 && root.Size != c.root {
				t.Errorf("disk of %d MiB with a root of %d MiB, want %d and %d", p.Disk.Size/mib, root.Size/mib, c.size/mib, c.root/mib)
			}
			if !strings.Contains(r.stderr, c.stderr) || c.stderr == "" && name == "fixed root" && strings.Contains(r.stderr, "(/) gets") {
				t.Errorf("%q is not in\n%s", c.stderr, r.stderr)
			}
		})
	}
	r := run(t, command(t, "--type", "raw", "--no-cache", "--layout", layout("", "4 GiB"), "--size", "3GiB", ref))
	if r.code != 7 || !strings.Contains(r.stderr, "--size 4202MiB is the least") {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
}

// What is wrong with a layout of the user is said before the image is looked for.
func TestLayoutRefusedEarly(t *testing.T) {
	for name, c := range map[string]struct {
		layout, config string
		args           []string
		code           int
		want           []string
	}{
		"parsing":     {"partition_table: {partitons: []}\n", "", nil, 9, []string{`l.yaml: line 1: partition_table: unknown key "partitons", perhaps "partitions"`}},
		"no root":     {yamlHead + yamlESP, "", nil, 9, []string{"l.yaml: the disk: no root"}},
		"no ESP":      {yamlHead + yamlRoot, "", []string{"--target-arch", "arm64"}, 9, []string{"no EFI system partition"}},
		"two at once": {yamlHead + strings.Replace(yamlESP, "100 MiB", "20 MiB", 1) + "    - {size: 1 GiB, payload_type: filesystem, payload: {type: vfat, mountpoint: /boot}}\n" + yamlRoot, "", nil, 9, []string{"2 problems", "20 MiB is less than FAT32 has", "vfat cannot hold /boot"}},
		"LVM":         {yamlHead + "    - {payload_type: lvm, payload: {name: vg}}\n", "", nil, 6, []string{"payload_type lvm: imgbuild writes no LVM", "hint: plain partitions and btrfs"}},
		"LUKS":        {yamlHead + "    - {payload_type: luks, payload: {}}\n", "", nil, 6, []string{"payload_type luks: imgbuild writes no LUKS"}},
		"LVM in a blueprint": {"", "[[customizations.disk.partitions]]\ntype='lvm'\nminsize='1 GiB'\n", nil, 6,
			[]string{`customizations.disk.partitions[0].type: not applied: "lvm": imgbuild writes no LVM`}},
		"dos":             {"", "[customizations.disk]\ntype='dos'\n" + strings.Repeat("[[customizations.disk.partitions]]\nminsize=1\nfs_type='none'\n", 4), nil, 9, []string{"5 partitions, and a dos table has at most 4"}},
		"sectors":         {"", "[customizations.disk]\nsector_size=1024\n[[customizations.disk.partitions]]\nminsize='1 GiB'\nmountpoint='/'\nfs_type='ext4'\n", nil, 9, []string{"sectors of 1024 bytes"}},
		"mount point":     {"", "[[customizations.disk.partitions]]\nminsize='1 GiB'\nmountpoint='/usr'\nfs_type='ext4'\n", nil, 9, []string{"/usr belongs to the image"}},
		"missing file":    {"-missing-", "", nil, 2, []string{"no such file"}},
		"type of sectors": {"partition_table:\n  sector_size: 4096\n  partitions:\n" + strings.Replace(yamlESP, "100 MiB", "300 MiB", 1) + yamlRoot, "", []string{"--type", "ami"}, 6, []string{"ami disks are seen with sectors of 512"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, c.args...)
			if c.layout == "-missing-" {
				cmd.Args = append(cmd.Args, "--layout", "missing.yaml")
			} else if c.layout != "" {
				cmd.Args = append(cmd.Args, "--layout", writeFile(t, "l.yaml", c.layout))
			}
			if c.config != "" {
				cmd.Args = append(cmd.Args, "--config", writeFile(t, "c.toml", c.config))
			}
			cmd.Args = append(cmd.Args, "--output", cmd.Dir, "--no-cache", "oci:/nonexistent")
			r := run(t, cmd)
			if r.code != c.code {
				t.Fatalf("exit %d, want %d\n%s", r.code, c.code, r.stderr)
			}
			for _, w := range c.want {
				if !strings.Contains(r.stderr, w) {
					t.Errorf("%q is not in\n%s", w, r.stderr)
				}
			}
			if left := files(t, cmd.Dir); len(left) > 0 {
				t.Errorf("files %v", left)
			}
		})
	}
}

// What only the image can tell is said before anything is deployed.
func TestLayoutRefusedForImage(t *testing.T) {
	part := func(payload string) string {
		return yamlHead + yamlESP + "    - {size: 500 MiB, payload_type: filesystem, payload: {" + payload + "}}\n" + yamlRoot
	}
	for name, c := range map[string]struct {
		layout string
		code   int
		want   []string
	}{
		"missing":         {part("type: ext4, mountpoint: /srv/x"), 9, []string{"/srv/x is not in the image, and root is read-only: add RUN mkdir /srv/x"}},
		"not empty":       {part("type: ext4, mountpoint: /full"), 9, []string{"/full has content in the image"}},
		"same place":      {yamlHead + yamlESP + "    - {size: 50 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /home}}\n    - {size: 50 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /var/home}}\n" + yamlRoot, 9, []string{"mount point /var/home is also that of"}},
		"BIOS boot":       {yamlHead + "    - {size: 1 MiB, type: 21686148-6449-6e6f-744e-656564454649}\n" + yamlRoot, 9, []string{"no EFI system partition, which the boot loader of the image needs"}},
		"no source":       {yamlHead + yamlESP + "    - {size: 1 MiB, payload_type: raw, payload: {source_path: /usr/lib/nothing}}\n" + yamlRoot, 5, []string{"source_path /usr/lib/nothing: no such file in the image"}},
		"not a directory": {part("type: ext4, mountpoint: /var/lib/app/state"), 5, []string{"/var/lib/app/state: not a directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, "--no-cache", "--layout", writeFile(t, "l.yaml", c.layout))
			cmd.Args = append(cmd.Args, "--output", cmd.Dir, writeImage(t, partitioned()))
			r := run(t, cmd)
			if r.code != c.code {
				t.Errorf("exit %d, want %d", r.code, c.code)
			}
			for _, w := range c.want {
				if !strings.Contains(r.stderr, w) {
					t.Errorf("%q is not in\n%s", w, r.stderr)
				}
			}
			if left := files(t, cmd.Dir); len(left) > 0 {
				t.Errorf("files %v", left)
			}
		})
	}
}

// The home of a user is on the partition of /home, with its owner and label.
func TestHomeOfItsOwn(t *testing.T) {
	ref := "oci:" + need(t, "IMGBUILD_SAMPLE_FEDORALIKE", "../../.cache/sample-fedoralike", "make samples")
	layout := writeFile(t, "home.yaml", yamlHead+yamlESP+
		"    - {size: 20 MiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /home, label: home}}\n"+yamlRoot)
	config := writeFile(t, "c.toml", "[[customizations.user]]\nname='admin'\nuid=1234\nkey='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBsM1Vt3ZqV9mVZ0t0y3Ck3f9kq1u3b0fKq1m8XbX1Yz admin@example.com'\n")
	args := []string{"--type", "raw", "--no-cache", "--size", "min", "--config", config}
	dir, _ := build(t, append(args, "--layout", layout, ref)...)
	p := checkDisk(t, dir)
	home := cut(t, filepath.Join(dir, "image/disk.raw"), p.at(t, "/var/home"))
	if out := check(t, "debugfs", "e2fsprogs", "-R", "stat /admin/.ssh/authorized_keys", home); !strings.Contains(out, "User:  1234") || !strings.Contains(out, "Mode:  0600") {
		t.Errorf("authorized_keys: %s", out)
	}
	for name, label := range map[string]string{"/": "home_root_t", "/admin": "user_home_dir_t", "/admin/.ssh": "ssh_home_t", "/lost+found": "lost_found_t"} {
		if out := check(t, "debugfs", "e2fsprogs", "-R", "ea_list "+name, home); !strings.Contains(out, ":"+label+":") {
			t.Errorf("%s: %s, want %s", name, out, label)
		}
	}
	if got := listOf(t, cut(t, filepath.Join(dir, "image/disk.raw"), p.at(t, "/")), "/ostree/deploy/default/var/home"); len(got) > 0 {
		t.Errorf("/var/home on root has %q", got)
	}

	// Another layout is another disk.
	other := writeFile(t, "other.yaml", yamlHead+yamlESP+yamlRoot)
	again, _ := build(t, append(args, "--layout", other, ref)...)
	if q := readPlan(t, again); q.Disk.ID == p.Disk.ID || q.at(t, "/").UUID == p.at(t, "/").UUID {
		t.Errorf("two layouts have the same identifiers: %s, %s", q.Disk.ID, q.at(t, "/").UUID)
	}
}

// An image whose initramfs finds root by the type of its partition is told where
// root is when the partition has another type.
func TestDiscoverableRoot(t *testing.T) {
	s := partitioned()
	s.File(0, "usr/lib/bootc/install/00.toml", "[install]\ndiscoverable-partitions = true\n")
	ref := writeImage(t, s)
	for typ, want := range map[string]bool{"4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709": false, "0FC63DAF-8483-4772-8E79-3D69D8477DE4": true} {
		layout := writeFile(t, "l.yaml", yamlHead+yamlESP+strings.Replace(yamlRoot, "{payload_type", "{type: "+typ+", payload_type", 1))
		r := run(t, command(t, "plan", "--no-cache", "--layout", layout, ref))
		if r.code != 0 || strings.Contains(r.stdout, `"root=UUID=`) != want {
			t.Errorf("%s: exit %d\n%s\n%s", typ, r.code, r.stdout, r.stderr)
		}
	}
}
