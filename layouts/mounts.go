package layouts

import (
	"fmt"
	"slices"
	"strings"
)

// Entry is a mount or swap space as fstab(5) has it.
type Entry struct {
	Where        string // "none" for swap
	UUID         string // of the file system, as blkid shows it
	Type         string
	Options      string
	Freq, PassNo int
}

// Entries returns what is to be mounted, in the order of the disk. uuid returns
// the UUID of the file system of a partition.
func (l *Layout) Entries(uuid func(i int) string) []Entry {
	var list []Entry
	for i := range l.Partitions {
		f := l.Partitions[i].FS
		if f == nil {
			continue
		}
		if f.Type == Swap {
			list = append(list, Entry{Where: "none", UUID: uuid(i), Type: Swap, Options: f.Options})
		}
		for _, m := range f.Mounts() {
			e := Entry{Where: m.Where, UUID: uuid(i), Type: f.Type, Options: m.Options}
			if m.Subvolume == "" {
				e.Freq, e.PassNo = f.Freq, f.PassNo
			}
			list = append(list, e)
		}
	}
	return list
}

// Fstab returns the lines of an /etc/fstab, as image-builder writes and orders
// them.
func Fstab(entries []Entry) string {
	entries = slices.Clone(entries)
	key := func(e Entry) string { return fmt.Sprintf("%d%s", e.PassNo, e.Where) }
	slices.SortStableFunc(entries, func(a, b Entry) int { return strings.Compare(key(a), key(b)) })
	var b strings.Builder
	for _, e := range entries {
		options := e.Options
		if options == "" {
			options = "defaults"
		}
		fmt.Fprintf(&b, "UUID=%s\t%s\t%s\t%s\t%d\t%d\n", e.UUID, e.Where, e.Type, options, e.Freq, e.PassNo)
	}
	return b.String()
}

// Unit is a unit file of systemd.
type Unit struct{ Name, Text string }

// WantedBy is the target that pulls the units in.
const WantedBy = "multi-user.target"

// Units returns the mount and swap units, as image-builder writes them, in the
// order of their names.
func Units(entries []Entry) []Unit {
	var list []Unit
	for _, e := range entries {
		device := "/dev/disk/by-uuid/" + e.UUID
		name, section := EscapePath(e.Where)+".mount", "Mount"
		lines := []string{"What=" + device, "Where=" + specifier(e.Where), "Type=" + e.Type}
		if e.Type == Swap {
			name, section = EscapePath(device)+".swap", "Swap"
			lines = lines[:1]
		}
		if e.Options != "" {
			lines = append(lines, "Options="+specifier(e.Options))
		}
		list = append(list, Unit{name, "[Unit]\nDefaultDependencies=True\n\n[" + section + "]\n" + strings.Join(lines, "\n") +
			"\n\n[Install]\nWantedBy=" + WantedBy + "\n\n"})
	}
	slices.SortFunc(list, func(a, b Unit) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// specifier keeps systemd from replacing what follows a percent sign.
func specifier(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// EscapePath returns a path as the name of a unit, as systemd-escape --path does
// (systemd.unit(5), "String escaping for inclusion in unit names").
func EscapePath(p string) string {
	p = strings.Trim(p, "/")
	if p == "" {
		return "-"
	}
	var b strings.Builder
	for i := range len(p) {
		switch c := p[i]; {
		case c == '/':
			b.WriteByte('-')
		case c == '.' && i == 0:
			b.WriteString(`\x2e`)
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
