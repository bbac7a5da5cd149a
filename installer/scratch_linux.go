package installer

import (
	"context"
	"os"
	"strconv"
	"strings"

	"imgbuild/pipeline"
)

const (
	// ownMemory is what the installer itself may take while it installs, in bytes,
	// with what the kernel needs to write a disk at full speed. Metadata of an image
	// with 100,000 files is a third of it.
	ownMemory = 384 << 20
	// tmpShare is the part of the memory that /tmp may take, in percent.
	tmpShare = 85
)

// scratch has the layers unpacked on the disk where memory has no room for them.
func (m *machine) scratch(ctx context.Context) *pipeline.Scratch {
	return &pipeline.Scratch{
		Dir: "/run",
		OnTarget: func(need int64) bool {
			text, err := os.ReadFile("/proc/meminfo")
			if err == nil && fits(string(text), need) {
				return false
			}
			m.modules.all(ctx, []string{"ext4", "xfs"})
			return true
		},
	}
}

// fits tells whether a tmpfs holds so many bytes besides the installer, by what
// /proc/meminfo says.
func fits(meminfo string, need int64) bool {
	values := map[string]int64{}
	for line := range strings.Lines(meminfo) {
		name, rest, _ := strings.Cut(line, ":")
		if f := strings.Fields(rest); len(f) == 2 && f[1] == "kB" {
			if n, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				values[name] = n << 10
			}
		}
	}
	return need+ownMemory <= values["MemAvailable"] && need <= values["MemTotal"]/100*tmpShare
}
