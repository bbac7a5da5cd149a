package pipeline

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/bootc"
	"imgbuild/content"
	"imgbuild/layouts"
	"imgbuild/tree"
)

// writeMounts makes the running system mount the layout's file systems.
func (d *disks) writeMounts(facts *bootc.Image) error {
	entries := d.layout.Entries(func(i int) string { return d.parts[i].uuid })
	if d.layout.Mounts == layouts.MountsFstab {
		return d.writeWholeFstab(entries, facts)
	}
	if d.layout.Mounts == layouts.MountsUnits {
		if err := d.writeUnits(layouts.Units(entries)); err != nil {
			return err
		}
	}
	if d.part(layouts.RoleBoot) != nil {
		return d.writeFstab()
	}
	return nil
}

// writeUnits writes units into /etc and enables them, as systemctl --root does.
func (d *disks) writeUnits(units []layouts.Unit) error {
	const dir = "systemd/system/"
	for _, u := range units {
		f := tree.NewFile(0o644, content.Bytes([]byte(u.Text)))
		f.Mtime = d.time
		if err := tree.Put(d.sysroot.Etc, dir+u.Name, f); err != nil {
			return fmt.Errorf("/etc/%s%s: %w", dir, u.Name, err)
		}
		link := tree.NewLink("/etc/" + dir + u.Name)
		link.Mtime = d.time
		if err := tree.Put(d.sysroot.Etc, dir+layouts.WantedBy+".wants/"+u.Name, link); err != nil {
			return fmt.Errorf("/etc/%s%s: %w", dir, u.Name, err)
		}
	}
	return nil
}

// writeWholeFstab writes all mounts as lines. Other lines that the image has stay.
func (d *disks) writeWholeFstab(entries []layouts.Entry, facts *bootc.Image) error {
	text, err := d.fstab()
	if err != nil {
		return err
	}
	for _, e := range entries {
		text = withoutMount(text, e.Where)
	}
	if facts.Composefs != bootc.ComposefsNo {
		// systemd-remount-fs fails on the overlay that / is; the kernel arguments
		// have what there is to say about root.
		entries = slices.DeleteFunc(slices.Clone(entries), func(e layouts.Entry) bool { return e.Where == "/" })
	}
	d.putFstab(append(text, layouts.Fstab(entries)...))
	return nil
}

// fstab returns what the image has in /etc/fstab.
func (d *disks) fstab() ([]byte, error) {
	old := d.sysroot.Etc.Child("fstab")
	if old == nil || !old.IsFile() {
		return nil, nil
	}
	b, err := old.Content.ReadAll(1 << 20)
	if err != nil {
		return nil, fmt.Errorf("/etc/fstab: %w", err)
	}
	return b, nil
}

func (d *disks) putFstab(text []byte) {
	f := tree.NewFile(0o644, content.Bytes(text))
	f.Mtime = d.time
	d.sysroot.Etc.Set("fstab", f)
}

// rootArguments returns the kernel arguments that say how root is mounted.
func (d *disks) rootArguments() []string {
	m := d.layout.RootMount()
	var flags []string
	for option := range strings.SplitSeq(m.Options, ",") {
		switch option {
		case "", "defaults", "ro", "rw": // rw is an argument of its own
		default:
			flags = append(flags, option)
		}
	}
	if len(flags) == 0 {
		return []string{"rw"}
	}
	return []string{"rootflags=" + strings.Join(flags, ","), "rw"}
}

// writeFstab adds the line that bootc install writes for a /boot file system of
// its own. Other lines that the image has stay.
func (d *disks) writeFstab() error {
	text, err := d.fstab()
	if err != nil {
		return err
	}
	text = withoutMount(text, "/boot")
	d.putFstab(append(text, "UUID="+d.part(layouts.RoleBoot).uuid+" /boot auto ro 0 0\n"...))
	return nil
}

// withoutMount returns the lines of an fstab that mount something elsewhere, or
// nothing when it has only comments.
func withoutMount(fstab []byte, mountpoint string) []byte {
	var kept []byte
	mounts := false
	for line := range bytes.Lines(fstab) {
		fields := strings.Fields(string(line))
		comment := len(fields) == 0 || strings.HasPrefix(fields[0], "#")
		if !comment && len(fields) > 1 && path.Clean(fields[1]) == mountpoint {
			continue
		}
		mounts = mounts || !comment
		kept = append(kept, line...)
	}
	if !mounts {
		return nil
	}
	if kept[len(kept)-1] != '\n' {
		kept = append(kept, '\n')
	}
	return kept
}
