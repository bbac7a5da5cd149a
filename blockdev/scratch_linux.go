package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scratchNumber is the partition that a scratch area is, for the time being.
const scratchNumber = 1

// MountScratch makes a range of the disk a file system that is mounted at dir,
// which must exist: its content is that of the plan, in place, and its kind the
// one that the kernel calls fsType. The disk loses its table. release unmounts it
// again; nothing of it may be open then.
func (v *Device) MountScratch(ctx context.Context, p *Plan, r Range, fsType, dir string) (release func() error, err error) {
	if err := Invalidate(v); err != nil {
		return nil, err
	}
	if err := v.Reread(); err != nil {
		return nil, err
	}
	if err := p.writeContent(ctx, v, nil); err != nil {
		return nil, err
	}
	if err := v.Sync(); err != nil {
		return nil, err
	}
	// Nobody mounts a partition of a disk that another program has for itself.
	if err := v.reopen(os.O_RDWR); err != nil {
		return nil, err
	}
	if err := v.AddPartition(scratchNumber, r.Off, r.Size); err != nil {
		return nil, err
	}
	node, remove, err := v.scratchNode(dir)
	if err == nil {
		err = unix.Mount(node, dir, fsType, unix.MS_NOATIME|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		if err != nil {
			err = v.fail("mount "+fsType, err)
		}
		remove()
	}
	if err != nil {
		return nil, errors.Join(err, v.RemovePartition(scratchNumber), v.reopen(os.O_RDWR|os.O_EXCL))
	}
	return func() error {
		if err := unix.Unmount(dir, 0); err != nil {
			return v.fail("unmount", err)
		}
		if err := v.RemovePartition(scratchNumber); err != nil {
			return err
		}
		return v.reopen(os.O_RDWR | os.O_EXCL)
	}, nil
}

// reopen opens the disk anew. The lock for udev goes from one to the other.
func (v *Device) reopen(flags int) error {
	if err := v.back.flush(); err != nil {
		return v.fail("flush", err)
	}
	if err := v.f.Close(); err != nil {
		return v.fail("close", err)
	}
	var f *os.File
	var err error
	// udev, or the mount that just ended, may hold on for a moment.
	for range 100 {
		if f, err = openLocked(v.path, flags); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return v.fail("", err)
	}
	v.f, v.back = f, newWriteback(f)
	return nil
}

// scratchNode returns a device node of the scratch partition: the one in /dev, or
// where nobody makes such one beside the directory.
func (v *Device) scratchNode(dir string) (node string, remove func(), err error) {
	info, err := os.Stat(v.path)
	if err != nil {
		return "", nil, v.fail("", err)
	}
	number, ok := deviceNumber(info)
	if !ok {
		return "", nil, v.fail("", errors.New("not a block device"))
	}
	parts, err := filepath.Glob("/sys/dev/block/" + number + "/*/partition")
	if err != nil {
		return "", nil, err
	}
	for _, p := range parts {
		if readInt(p) != scratchNumber {
			continue
		}
		number := readLine(filepath.Join(filepath.Dir(p), "dev"))
		node = "/dev/" + filepath.Base(filepath.Dir(p))
		for range 20 {
			if info, err := os.Stat(node); err == nil {
				if n, ok := deviceNumber(info); ok && n == number {
					return node, func() {}, nil
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		major, minor, _ := strings.Cut(number, ":")
		a, err := strconv.ParseUint(major, 10, 32)
		if err != nil {
			return "", nil, err
		}
		b, err := strconv.ParseUint(minor, 10, 32)
		if err != nil {
			return "", nil, err
		}
		node = strings.TrimRight(dir, "/") + ".node"
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(a), uint32(b)))); err != nil {
			return "", nil, v.fail("device node", err)
		}
		return node, func() { os.Remove(node) }, nil
	}
	return "", nil, v.fail("", fmt.Errorf("the kernel has no partition %d", scratchNumber))
}
