package pipeline

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"imgbuild/content"
	"imgbuild/layouts"
	"imgbuild/tree"
)

// writeMounts makes the running system mount the layout's file systems.
func (d *disks) writeMounts() error {
	if d.part(layouts.RoleBoot) != nil {
		return d.writeFstab()
	}
	return nil
}

// writeFstab adds the line that bootc install writes for a /boot file system of
// its own. Other lines that the image has stay.
func (d *disks) writeFstab() error {
	var text []byte
	if old := d.sysroot.Etc.Child("fstab"); old != nil && old.IsFile() {
		b, err := old.Content.ReadAll(1 << 20)
		if err != nil {
			return fmt.Errorf("/etc/fstab: %w", err)
		}
		text = withoutMount(b, "/boot")
	}
	text = append(text, "UUID="+d.part(layouts.RoleBoot).uuid+" /boot auto ro 0 0\n"...)
	f := tree.NewFile(0o644, content.Bytes(text))
	f.Mtime = d.time
	d.sysroot.Etc.Set("fstab", f)
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
