package layouts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/blueprints"
	"imgbuild/partition"
)

// Layouts come out as image-builder's own code has them. The files *.upstream in
// testdata are what osbuild/image-builder (a1f35083b, 2026-08-21) makes of the
// examples of its documentation and tests and of some more, on x86-64 unless the
// name says otherwise, with a root of at least 5 GiB.
func TestUpstream(t *testing.T) {
	names, err := filepath.Glob("testdata/upstream/*.upstream")
	if err != nil || len(names) < 20 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		stem := strings.TrimSuffix(name, ".upstream")
		t.Run(filepath.Base(stem), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			l, err := upstreamLayout(stem)
			if err != nil {
				t.Fatal(err)
			}
			if problems := l.Check(); len(problems) > 0 && !strings.Contains(stem, "btrfs") {
				t.Errorf("%v", problems)
			}
			// What has no type gets that of sfdisk.
			typed := regexp.MustCompile(`(?m)^([0-9]+\+[0-9]+)  `).ReplaceAllString(string(want), "$1 "+partition.LinuxData.String()+" ")
			if diff := cmp.Diff(strings.Split(typed, "\n"), strings.Split(render(t, l, stem), "\n")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func upstreamLayout(stem string) (*Layout, error) {
	r := &Request{Arch: "amd64", Firmware: Firmware{UEFI: true, BIOS: true}, RootFS: XFS}
	if strings.Contains(stem, "btrfs") {
		r.RootFS = Btrfs
	}
	if strings.Contains(stem, "uefi") || strings.Contains(stem, "arm64") {
		r.Firmware.BIOS = false
	}
	if strings.Contains(stem, "arm64") {
		r.Arch = "arm64"
	}
	if text, err := os.ReadFile(stem + ".json"); err == nil {
		config, err := blueprints.Load([]blueprints.Source{{Name: "c.json", Text: []byte(`{"customizations":{"disk":` + string(text) + `}}`)}}, blueprints.Options{})
		if err != nil {
			return nil, err
		}
		r.Disk = config.Blueprint.Customizations.Disk
		return Resolve(r)
	}
	text, err := os.ReadFile(stem + ".yaml")
	if err != nil {
		return nil, err
	}
	if r.Base, _, err = Parse(text); err != nil {
		return nil, err
	}
	return Resolve(r)
}

// render writes a layout as the files have it.
func render(t *testing.T, l *Layout, stem string) string {
	t.Helper()
	sizes := make([]int64, len(l.Partitions))
	for i, p := range l.Partitions {
		sizes[i] = p.Size
		if p.Role() == RoleRoot {
			sizes[i] = max(sizes[i], 5*GiB)
		}
	}
	size, err := l.Need(sizes)
	if err != nil {
		t.Fatal(err)
	}
	size = max(size, l.Align(l.Size))
	if !l.Compact {
		size = max(size, DefaultSize)
	}
	places, err := l.Place(sizes, size, !l.FixedRoot)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d sector %d\n", l.Table, size, l.SectorSize)
	automatic := map[string]bool{"BIOS-BOOT": true, "EFI-SYSTEM": true, "boot": true, "root": true}
	for i, p := range l.Partitions {
		fmt.Fprintf(&b, "%d+%d %s", places[i].Start, places[i].Size, p.Type)
		if p.Bootable {
			b.WriteString(" bootable")
		}
		// image-builder's have no names unless they are given.
		if p.Name != "" && !automatic[p.Name] || p.Name == "root" && strings.Contains(stem, "ukiboot") {
			fmt.Fprintf(&b, " name=%s", p.Name)
		}
		for bit := range 64 {
			if p.Attributes>>bit&1 != 0 {
				fmt.Fprintf(&b, " attr=%d", bit)
			}
		}
		switch f := p.FS; {
		case p.Source != "":
			fmt.Fprintf(&b, " raw %s", p.Source)
		case f == nil:
		case f.Type == Swap:
			fmt.Fprintf(&b, " swap label=%s %q", f.Label, f.Options)
		case f.Type == Btrfs:
			fmt.Fprintf(&b, " btrfs label=%s", f.Label)
			for _, s := range f.Subvolumes {
				fmt.Fprintf(&b, " [%s %s %q]", s.Name, s.Mount, s.Options())
			}
		default:
			fmt.Fprintf(&b, " %s label=%s %s %q %d %d", f.Type, f.Label, f.Mount, f.Options, f.Freq, f.PassNo)
		}
		b.WriteString("\n")
	}
	n := 0
	ids := map[int]string{}
	for i, p := range l.Partitions {
		if p.FS == nil {
			continue
		}
		n++
		ids[i] = fmt.Sprintf("00000000-0000-0000-0000-%012d", n)
		if p.FS.Type == VFAT {
			ids[i] = fmt.Sprintf("0000-%04d", n)
		}
	}
	entries := l.Entries(func(i int) string { return ids[i] })
	for _, u := range Units(entries) {
		fmt.Fprintf(&b, "unit %s\n", u.Name)
		for line := range strings.Lines(u.Text) {
			if k, _, _ := strings.Cut(line, "="); k == "What" || k == "Where" || k == "Type" || k == "Options" {
				b.WriteString("  " + line)
			}
		}
	}
	for line := range strings.Lines(Fstab(entries)) {
		b.WriteString("fstab " + line)
	}
	return b.String()
}

// The whole text of units is that of osbuild's stage org.osbuild.systemd.unit.create.
func TestUnitText(t *testing.T) {
	units := Units([]Entry{
		{Where: "/var", UUID: "u", Type: "xfs", Options: "defaults"}, {Where: "none", UUID: "s", Type: Swap},
		{Where: "/a%b", UUID: "7B77-95E7", Type: "vfat", Options: "x=%"},
	})
	want := []Unit{
		{`a\x25b.mount`, "[Unit]\nDefaultDependencies=True\n\n[Mount]\nWhat=/dev/disk/by-uuid/7B77-95E7\nWhere=/a%%b\nType=vfat\nOptions=x=%%\n\n[Install]\nWantedBy=multi-user.target\n\n"},
		{`dev-disk-by\x2duuid-s.swap`, "[Unit]\nDefaultDependencies=True\n\n[Swap]\nWhat=/dev/disk/by-uuid/s\n\n[Install]\nWantedBy=multi-user.target\n\n"},
		{"var.mount", "[Unit]\nDefaultDependencies=True\n\n[Mount]\nWhat=/dev/disk/by-uuid/u\nWhere=/var\nType=xfs\nOptions=defaults\n\n[Install]\nWantedBy=multi-user.target\n\n"},
	}
	if diff := cmp.Diff(want, units); diff != "" {
		t.Error(diff)
	}
}

// A layout survives being hashed: identifiers derive from its JSON form.
func TestJSON(t *testing.T) {
	l, err := upstreamLayout("testdata/upstream/own-everything")
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var back Layout
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l, &back); diff != "" {
		t.Error(diff)
	}
}
