package layouts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/fault"
)

// file returns a disk.yaml with partitions in front of a root.
func yamlOf(partitions string) string {
	return "partition_table:\n  partitions:\n" + partitions + "    - {payload_type: filesystem, payload: {type: ext4, mountpoint: /}}\n"
}

func TestParseErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		want  []string // all of them
		class fault.Class
	}{
		"empty":             {"", []string{"the file is empty"}, fault.Config},
		"not YAML":          {"\tx", []string{"found character that cannot start any token"}, fault.Config},
		"a list":            {"[]", []string{"line 1: disk.yaml: not a mapping"}, fault.Config},
		"two documents":     {"a: &a 1\n---\nb: 1\n", []string{"a second document"}, fault.Config},
		"unknown, top":      {"partition_tabel: {}\n", []string{`line 1: disk.yaml: unknown key "partition_tabel", perhaps "partition_table"`}, fault.Config},
		"mounts":            {"mount_configuration: all\n" + yamlOf(""), []string{`mount_configuration "all": not one of fstab, units and none`}, fault.Config},
		"table type":        {"partition_table: {type: bsd, partitions: []}\n", []string{`partition table type "bsd"`}, fault.Config},
		"sizes":             {yamlOf("    - {size: 10 Gb}\n    - {size: -1}\n    - {size: [1]}\n    - {size: 9999999 TiB}\n    - {size: true}\n"), []string{`line 3: size: size "10 Gb": unknown unit "Gb"`, "line 4: size: not a size", "line 5: size: not a size", "line 6: size: size \"9999999 TiB\": too large", "line 7: size: not a size"}, fault.Config},
		"large":             {yamlOf("    - {size: 2000 TiB}\n"), []string{"line 3: size: more than 1 PiB"}, fault.Config},
		"keys":              {yamlOf("    - {sise: 1, tpye: x, colour: red, size: 1, size: 2}\n"), []string{`line 3: partition 1: unknown key "sise", perhaps "size"`, `unknown key "tpye", perhaps "type"`, `unknown key "colour"`, `key "size" is there twice`}, fault.Config},
		"payload":           {yamlOf("    - {payload: {}}\n    - {payload_type: filesystem}\n    - {payload_type: zfs, payload: {}}\n    - {payload_type: raw, payload: {}}\n"), []string{"partition 1: a payload without a payload_type", `partition 2: payload_type "filesystem" without a payload`, `payload_type "zfs"`, "partition 4: raw without a source_path"}, fault.Config},
		"file system":       {yamlOf("    - {payload_type: filesystem, payload: {type: ntfs, mountpont: /x, mkfs_options: {agcount: x, verity: 1, geometry: {heads: 256, tracks: 1}}}}\n"), []string{`file system type "ntfs"`, `unknown key "mountpont", perhaps "mountpoint"`, "agcount: not an integer", "verity: neither true nor false", "heads: not an integer from 0 to 255", `geometry: unknown key "tracks"`}, fault.Config},
		"attributes":        {yamlOf("    - {attrs: [0, 3, 48, 64, x]}\n    - {attrs: 1}\n"), []string{"bit 3 is reserved", "attrs: not an integer from 0 to 63", "line 4: attrs: not a list"}, fault.Config},
		"LVM and LUKS":      {yamlOf("    - {size: 1, payload_type: lvm, payload: {name: vg}}\n    - {size: 1, payload_type: luks, payload: {}}\n"), []string{"line 3: partition 1: payload_type lvm: imgbuild writes no LVM", "line 4: partition 2: payload_type luks: imgbuild writes no LUKS"}, fault.Unsupported},
		"quota group":       {"partition_table: {partitions: [{payload_type: btrfs, payload: {subvolumes: [{name: root, mountpoint: /, group_id: 5}]}}]}\n", []string{"subvolume root: group_id"}, fault.Unsupported},
		"cycle":             {"partition_table: &a\n  <<: *a\n", []string{"more values than a layout can have"}, fault.Config},
		"merge of a scalar": {"partition_table:\n  <<: 5\n", []string{"merge of what is not a mapping"}, fault.Config},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse([]byte(c.text))
			if err == nil || fault.ClassOf(err) != c.class {
				t.Fatalf("error %v, class %d, want class %d", err, fault.ClassOf(err), c.class)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in\n%v", w, err)
				}
			}
			if n := strings.Count(err.Error(), "\n"); len(c.want) > 1 && n != len(c.want) {
				t.Errorf("%d problems, want %d:\n%v", n, len(c.want), err)
			}
		})
	}
}

// Aliases are counted where they are used, so a small file stays small.
func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a: &p0 {size: 1 MiB, type: 0fc63daf-8483-4772-8e79-3d69d8477de4}\n")
	b.WriteString("partition_table:\n  partitions: [" + strings.Repeat("*p0,", 50_000) + "*p0]\n")
	if _, _, err := Parse([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "more values") {
		t.Errorf("50,000 aliases: %v", err)
	}
	b.Reset()
	b.WriteString("x0: &x0 {a: 1}\n")
	for i := 1; i < 40; i++ {
		fmt.Fprintf(&b, "x%d: &x%d {<<: [*x%d, *x%d]}\n", i, i, i-1, i-1)
	}
	b.WriteString("partition_table: {<<: *x39}\n")
	if _, _, err := Parse([]byte(b.String())); err == nil || !strings.Contains(err.Error(), "more values") {
		t.Errorf("merges of merges: %v", err)
	}
	deep := "partition_table: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if _, _, err := Parse([]byte(deep)); err == nil {
		t.Error("5,000 lists in lists: no error")
	}
	if _, _, err := Parse(make([]byte, MaxFile+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too long: %v", err)
	}
}

// Without a table there is only another configuration of the mounts.
func TestNoTable(t *testing.T) {
	l, _, err := Parse([]byte("mount_configuration: none\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Resolve(&Request{Arch: "amd64", Firmware: Firmware{UEFI: true}, RootFS: XFS, Base: l})
	if err != nil {
		t.Fatal(err)
	}
	want := Default("amd64", Firmware{UEFI: true}, XFS)
	want.Mounts = MountsNone
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseWarnings(t *testing.T) {
	_, warnings, err := Parse([]byte("partition_table:\n  partitions:\n    - {start: 2048, size: 1, payload_type: btrfs, payload: {subvolumes: [{name: root, uuid: x, mountpoint: /}]}}\n"))
	if err != nil || len(warnings) != 2 || !strings.Contains(warnings[0], `"start" has no effect`) || !strings.Contains(warnings[1], `"uuid" has no effect`) {
		t.Errorf("%q, %v", warnings, err)
	}
}

// Merged keys are those of the mapping itself first, then of the first merged.
func TestMergeKeys(t *testing.T) {
	l, _, err := Parse([]byte(`
base: &base {size: 1 GiB, label: one}
more: &more {size: 2 GiB, bootable: true}
partition_table:
  partitions:
    - {<<: [*base, *more], label: own}
`))
	if err != nil {
		t.Fatal(err)
	}
	if p := l.Partitions[0]; p.Size != GiB || p.Name != "own" || !p.Bootable {
		t.Errorf("%+v", p)
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/upstream/*.yaml")
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("partition_table: &a\n  <<: *a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, _, err := Parse(text)
		if err != nil {
			if c := fault.ClassOf(err); c != fault.Config && c != fault.Unsupported {
				t.Fatalf("class %d: %v", c, err)
			}
			return
		}
		for _, arch := range []string{"amd64", "arm64"} {
			r, err := Resolve(&Request{Arch: arch, Firmware: Firmware{UEFI: true}, RootFS: Ext4, Base: l})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Check()) > 0 {
				continue
			}
			_ = r.CheckArch(arch)
			sizes := make([]int64, len(r.Partitions))
			for i, p := range r.Partitions {
				sizes[i] = max(p.Size, 1<<20)
			}
			need, err := r.Need(sizes)
			if err != nil {
				continue
			}
			places, err := r.Place(sizes, need, true)
			if err != nil {
				t.Fatal(err)
			}
			at := r.header()
			for i, p := range places {
				if p.Start < at || p.Size < sizes[i] || p.Start%r.SectorSize != 0 || p.Size%r.SectorSize != 0 || p.End() > need-r.tail() {
					t.Fatalf("partition %d at %+v of %d", i, p, need)
				}
				at = p.End()
			}
		}
	})
}
