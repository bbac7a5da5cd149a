package layouts

import (
	"strings"
	"testing"
)

// parsed returns the checked problems of a disk.yaml on amd64.
func problemsIn(t *testing.T, text string) Problems {
	t.Helper()
	l, _, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Resolve(&Request{Arch: "amd64", Firmware: Firmware{UEFI: true, BIOS: true}, RootFS: Ext4, Base: l})
	if err != nil {
		t.Fatal(err)
	}
	return append(r.Check(), r.CheckArch("amd64")...)
}

const (
	guid1   = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	espLine = "    - {size: 100 MiB, type: c12a7328-f81f-11d2-ba4b-00a0c93ec93b, payload_type: filesystem, payload: {type: vfat, mountpoint: /boot/efi}}\n"
	root    = "    - {payload_type: filesystem, payload: {type: ext4, mountpoint: /}}\n"
)

func fs(size, payload string) string {
	return "    - {size: " + size + ", payload_type: filesystem, payload: {" + payload + "}}\n"
}

// What cannot be written or booted is found without an image, and all of it at
// once.
func TestCheck(t *testing.T) {
	const head = "partition_table:\n  partitions:\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"fine":                 {head + espLine + root, nil},
		"no root":              {head + espLine, []string{"the disk: no root"}},
		"two roots":            {head + espLine + root + root, []string{"mount point / is also that of"}},
		"no ESP, no BIOS":      {head + root, []string{"neither an EFI system partition nor a BIOS boot partition"}},
		"4K without ESP":       {"partition_table:\n  sector_size: 4096\n  partitions:\n    - {size: 1 MiB, type: 21686148-6449-6e6f-744e-656564454649}\n" + root, []string{"BIOS reads no disks with sectors of 4096 bytes"}},
		"ESP too small":        {head + strings.Replace(espLine, "100 MiB", "32 MiB", 1) + root, []string{"32 MiB is less than FAT32 has with sectors of 512 bytes: 33 MiB"}},
		"ESP too small, 4K":    {"partition_table:\n  sector_size: 4096\n  partitions:\n" + strings.Replace(espLine, "100 MiB", "200 MiB", 1) + root, []string{"200 MiB is less than FAT32 has with sectors of 4096 bytes: 257 MiB"}},
		"ESP of ext4":          {head + strings.Replace(espLine, "vfat", "ext4", 1) + root, []string{"has to be vfat, and this is ext4"}},
		"ESP without":          {head + "    - {size: 100 MiB, type: c12a7328-f81f-11d2-ba4b-00a0c93ec93b}\n" + root, []string{"has to have a vfat file system"}},
		"two ESPs":             {head + espLine + strings.Replace(espLine, "/boot/efi", "/efi", 1) + root, []string{"2 partitions of one kind for boot loaders"}},
		"vfat /boot":           {head + espLine + fs("1 GiB", "type: vfat, mountpoint: /boot") + root, []string{"vfat cannot hold /boot"}},
		"vfat root":            {head + espLine + "    - {payload_type: filesystem, payload: {type: vfat, mountpoint: /}}\n", []string{"vfat cannot hold /"}},
		"sizes":                {head + espLine + "    - {payload_type: filesystem, payload: {type: ext4, mountpoint: /var}}\n    - {}\n" + root, []string{"partition 2 (/var): no size", "partition 3: no size"}},
		"mount points":         {head + espLine + fs("1 GiB", "mountpoint: usr") + fs("1 GiB", "mountpoint: /var/") + fs("1 GiB", `mountpoint: "/var/a b"`) + fs("1 GiB", "mountpoint: /usr/local") + fs("1 GiB", "mountpoint: /etc") + fs("1 GiB", "mountpoint: /boot/x") + root, []string{`mount point "usr"`, `mount point "/var/"`, `mount point "/var/a b"`, "/usr belongs to the image", "/etc belongs to the deployment", "only /boot and /boot/efi are file systems there"}},
		"duplicates":           {head + espLine + "    - {size: 1 GiB, uuid: " + guid1 + "}\n    - {size: 1 GiB, uuid: " + strings.ToUpper(guid1) + "}\n" + fs("1 GiB", "type: xfs, uuid: "+guid1) + fs("1 GiB", "type: ext4, uuid: "+guid1) + root, []string{"partition 3: uuid " + guid1 + " is also that of partition 2", "partition 5: file system uuid " + guid1 + " is also that of partition 4"}},
		"disk's own uuid":      {"partition_table:\n  uuid: " + guid1 + "\n  partitions:\n    - {size: 1 GiB, uuid: " + guid1 + "}\n" + espLine + root, []string{"is also that of the disk"}},
		"name of 37":           {head + espLine + "    - {size: 1 MiB, label: " + strings.Repeat("ü", 35) + "🦊}\n" + root, []string{"has 37 UTF-16 units, and a name in a gpt table at most 36"}},
		"types":                {head + espLine + "    - {size: 1 MiB, type: 83}\n    - {size: 1 MiB, type: 00000000-0000-0000-0000-000000000000}\n" + root, []string{`type "83": invalid GUID`, "all zeros"}},
		"labels":               {head + espLine + fs("1 GiB", "type: xfs, label: thirteen byte") + fs("1 GiB", "type: ext4, label: seventeen bytes !") + "    - {size: 1 GiB, payload_type: swap, payload: {label: sixteen bytes...}}\n" + root, []string{"longer than the 12 bytes of xfs", "longer than the 16 bytes of ext4", "longer than the 15 bytes of swap"}},
		"options":              {head + espLine + fs("1 GiB", `type: xfs, mountpoint: /var, fstab_options: "a b"`) + root, []string{`mount options "a b" hold blanks`}},
		"options, injection":   {head + espLine + fs("1 GiB", `type: xfs, mountpoint: /var, fstab_options: "a\nUUID=x"`) + root, []string{"hold blanks or control characters"}},
		"mkfs options":         {head + espLine + fs("1 GiB", "type: ext4, mkfs_options: {agcount: 4}") + fs("1 GiB", "type: xfs, mkfs_options: {verity: true}") + fs("1 GiB", "type: ext4, mkfs_options: {geometry: {heads: 1, sectors_per_track: 1}}") + fs("1 GiB", "type: xfs, mkfs_options: {agcount: 1}") + fs("1 GiB", "type: vfat, mkfs_options: {geometry: {heads: 1}}") + root, []string{"agcount is an option of xfs, and this is ext4", "verity is an option of ext4, and this is xfs", "geometry is an option of vfat, and this is ext4", "agcount 1", "needs both heads and sectors_per_track"}},
		"volume ID":            {head + espLine + fs("1 GiB", "type: vfat, uuid: 0000-0000") + fs("1 GiB", "type: vfat, uuid: 12345678") + root, []string{`volume ID "0000-0000"`, `volume ID "12345678"`}},
		"sectors":              {"partition_table:\n  sector_size: 1024\n  partitions:\n" + espLine + root, []string{"sectors of 1024 bytes, and 512 and 4096 are possible"}},
		"grain":                {"partition_table:\n  grain_size: 1000\n  partitions:\n" + espLine + root, []string{"a grain of 1000 bytes is not a multiple of the sector size 512"}},
		"129 partitions":       {head + espLine + strings.Repeat("    - {size: 1 MiB}\n", 127) + root, []string{"129 partitions, and a gpt table has at most 128"}},
		"dos, five":            {"partition_table:\n  type: dos\n  partitions:\n" + strings.Repeat("    - {size: 1 MiB}\n", 4) + root, []string{"5 partitions, and a dos table has at most 4"}},
		"dos, what it has not": {"partition_table:\n  type: dos\n  uuid: " + guid1 + "\n  partitions:\n    - {size: 1 MiB, label: x, attrs: [2], uuid: " + guid1 + ", type: 05}\n    - {size: 1 MiB, type: \"00\"}\n    - {size: 1 MiB, type: " + guid1 + "}\n" + root, []string{"the disk: uuid", `label "x": partitions of a dos table have none`, "attributes: partitions", "uuid " + guid1 + ": partitions", "type 05: extended", "type 00 marks", "two hexadecimal digits"}},
		"source":               {head + espLine + "    - {size: 1 MiB, payload_type: raw, payload: {source_path: usr/x}}\n" + root, []string{`source_path "usr/x"`}},
		"subvolumes":           {head + espLine + "    - {size: 1 GiB, payload_type: btrfs, payload: {subvolumes: [{name: a, mountpoint: /var}, {name: a, mountpoint: /home}, {name: ../x}, {name: b, compress: gzip}, {name: c, compress: 'zstd:99'}]}}\n" + root, []string{`subvolume "a" is there twice`, `subvolume "../x"`, `compress "gzip"`, `compress "zstd:99"`}},
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsIn(t, c.text)
			text := strings.Join(got, "\n")
			for _, w := range c.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q is not in\n%s", w, text)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("%d problems, want %d:\n%s", len(got), len(c.want), text)
			}
		})
	}
}

// What an image boots by decides what is missing.
func TestCheckFirmware(t *testing.T) {
	parse := func(text string) *Layout {
		l, _, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	const bios = "    - {size: 1 MiB, type: 21686148-6449-6e6f-744e-656564454649}\n"
	const head = "partition_table:\n  partitions:\n"
	both, onlyESP, onlyBIOS := parse(head+bios+espLine+root), parse(head+espLine+root), parse(head+bios+root)
	dos, large := parse("partition_table:\n  type: dos\n  partitions:\n"+root), parse("partition_table:\n  sector_size: 4096\n  partitions:\n"+bios+espLine+root)
	for name, c := range map[string]struct {
		l             *Layout
		f             Firmware
		problem, warn string
	}{
		"both":              {both, Firmware{UEFI: true, BIOS: true}, "", ""},
		"UEFI left out":     {onlyBIOS, Firmware{UEFI: true, BIOS: true}, "", "will not boot by UEFI"},
		"BIOS left out":     {onlyESP, Firmware{UEFI: true, BIOS: true}, "", "will not boot by BIOS: the layout has no BIOS boot partition"},
		"UEFI missing":      {onlyBIOS, Firmware{UEFI: true}, "no EFI system partition", ""},
		"BIOS missing":      {onlyESP, Firmware{BIOS: true}, "no BIOS boot partition", ""},
		"PReP missing":      {onlyESP, Firmware{PReP: true}, "no PReP partition", ""},
		"gap behind an MBR": {dos, Firmware{BIOS: true}, "", ""},
		"4K, both":          {large, Firmware{UEFI: true, BIOS: true}, "", "BIOS reads no disks with sectors of 4096 bytes"},
		"4K, BIOS alone":    {large, Firmware{BIOS: true}, "reads no disks with sectors of 4096", ""},
		"no boot loader":    {onlyESP, Firmware{}, "", ""},
	} {
		problems, warnings := c.l.CheckFirmware(c.f)
		if got := strings.Join(problems, "\n"); !strings.Contains(got, c.problem) || (got == "") != (c.problem == "") {
			t.Errorf("%s: problems %q, want %q", name, got, c.problem)
		}
		if got := strings.Join(warnings, "\n"); !strings.Contains(got, c.warn) || (got == "") != (c.warn == "") {
			t.Errorf("%s: warnings %q, want %q", name, got, c.warn)
		}
	}
}
