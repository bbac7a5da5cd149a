package installer

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"imgbuild/blockdev"
)

var _ Machine = (*machine)(nil)

// Disks implements Machine. What was plugged in meanwhile is there as well.
func (m *machine) Disks(ctx context.Context) ([]blockdev.Disk, error) {
	m.settle(ctx)
	disks, err := m.host.List(ctx)
	return sortedDisks(disks), err
}

// Select implements Machine.
func (m *machine) Select(disks []blockdev.Disk, s blockdev.Selection) (blockdev.Disk, error) {
	return m.host.Select(disks, s)
}

// MediumDisk implements Machine.
func (m *machine) MediumDisk() string { return m.disk }

// CheckMedium implements Machine.
func (m *machine) CheckMedium(ctx context.Context, progress func(done, total int64)) error {
	if m.device == "" {
		return errNetwork
	}
	f, err := os.Open("/dev/" + m.disk)
	if err != nil {
		return err
	}
	defer f.Close()
	return checkMedium(ctx, bufio.NewReaderSize(f, checkUnit), progress)
}

// ownPartitions is how many partitions the medium itself has: its files, and the EFI
// system partition.
const ownPartitions = 2

// SaveLog implements Machine: the log goes on a further partition of the medium,
// which somebody has made there, if it can be written.
func (m *machine) SaveLog(log []byte) string {
	if m.disk == "" {
		return ""
	}
	names, err := filepath.Glob("/sys/class/block/" + m.disk + "/" + m.disk + "*/partition")
	if err != nil {
		return ""
	}
	const at, file = "/run/imgbuild/log", "imgbuild-install.log"
	if err := os.MkdirAll(at, 0o755); err != nil {
		return ""
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		number, nerr := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || nerr != nil || number <= ownPartitions {
			continue
		}
		device := "/dev/" + filepath.Base(filepath.Dir(name))
		for _, kind := range []string{"vfat", "ext4", "xfs", "btrfs"} {
			if unix.Mount(device, at, kind, unix.MS_NOSUID|unix.MS_NODEV, "") != nil {
				continue
			}
			err := os.WriteFile(filepath.Join(at, file), log, 0o600)
			if uerr := unix.Unmount(at, 0); err == nil {
				err = uerr
			}
			if err == nil {
				return device + ", " + file
			}
			break
		}
	}
	return ""
}
