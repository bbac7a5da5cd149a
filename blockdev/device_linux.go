package blockdev

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openExclusive opens a block device. O_EXCL fails while it or a partition of it
// is mounted or part of something.
func openExclusive(path string) (*os.File, error) { return openLocked(path, os.O_RDWR|os.O_EXCL) }

// openLocked opens a block device with a lock that keeps udev away until the disk
// is closed, see "Block Device Locking" of systemd.
func openLocked(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	// udev has its own lock for moments only.
	for range 100 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, errors.New("locked by another program")
	}
	return f, nil
}

func sectorSize(f *os.File) (int, error) {
	return unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET)
}

// zeroOut has the kernel zero a range: by a command of the disk, or by writing.
func zeroOut(f *os.File, off, n int64, file bool) bool {
	if file {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n) == nil
	}
	r := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&r)))
	return errno == 0
}

// Reread has the kernel read the partition table anew. A disk without partitions,
// such as a loop device that was not asked to have some, is no error.
func (v *Device) Reread() error {
	if v.file {
		return nil
	}
	err := unix.IoctlSetInt(int(v.f.Fd()), unix.BLKRRPART, 0)
	if err == nil || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return v.fail("partition table", err)
}

// AddPartition makes the range known to the kernel as the partition with the
// number, without a table on the disk.
func (v *Device) AddPartition(number int, start, size int64) error {
	return v.blkpg(unix.BLKPG_ADD_PARTITION, number, start, size)
}

// RemovePartition undoes AddPartition, once nobody uses the partition.
func (v *Device) RemovePartition(number int) error {
	return v.blkpg(unix.BLKPG_DEL_PARTITION, number, 0, 0)
}

func (v *Device) blkpg(op int32, number int, start, size int64) error {
	p := &unix.BlkpgPartition{Start: start, Length: size, Pno: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(*p)), Data: (*byte)(unsafe.Pointer(p))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, v.f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(p)
	if errno != 0 {
		return v.fail(fmt.Sprintf("temporary partition %d", number), errno)
	}
	return nil
}

// explain says what the errors of disks mean.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("in use: %w", err)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOMEDIUM):
		return fmt.Errorf("the disk is gone: %w", err)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("read-only: %w", err)
	}
	return err
}

func hint(err error) string {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "writing to a disk takes the rights of root, or of its group"
	case errors.Is(err, unix.EIO):
		return "the disk or its cable fails; the kernel's log says more"
	}
	return ""
}

// Write-back is started early, so that the last flush is short, and never far
// behind, so that the cache of the kernel stays small.
const (
	window   = 8 << 20 // bytes
	inFlight = 4       // windows
)

type writeback struct {
	f       *os.File
	from    int64
	to      int64
	pending [][2]int64
}

func newWriteback(f *os.File) *writeback { return &writeback{f: f} }

// wrote notes a range that was written. It may wait for the disk.
func (b *writeback) wrote(off, n int64) error {
	if b.from == b.to || off < b.from || off > b.to+window {
		if err := b.start(); err != nil {
			return err
		}
		b.from, b.to = off, off
	}
	b.to = max(b.to, off+n)
	if b.to-b.from < window {
		return nil
	}
	return b.start()
}

// start starts write-back of what was noted.
func (b *writeback) start() error {
	if b.from == b.to {
		return nil
	}
	r := [2]int64{b.from, b.to}
	b.from, b.to = 0, 0
	if err := unix.SyncFileRange(int(b.f.Fd()), r[0], r[1]-r[0], unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return tolerate(err)
	}
	if b.pending = append(b.pending, r); len(b.pending) > inFlight {
		return b.wait()
	}
	return nil
}

// wait waits for the oldest range and gives its pages back.
func (b *writeback) wait() error {
	r := b.pending[0]
	b.pending = b.pending[1:]
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(int(b.f.Fd()), r[0], r[1]-r[0], all); err != nil {
		return tolerate(err)
	}
	_ = unix.Fadvise(int(b.f.Fd()), r[0], r[1]-r[0], unix.FADV_DONTNEED)
	return nil
}

// tolerate passes what is wrong with the disk, and nothing that is about a kernel
// without the call.
func tolerate(err error) error {
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE) {
		return nil
	}
	return err
}

// flush waits for everything.
func (b *writeback) flush() error {
	if err := b.start(); err != nil {
		return err
	}
	for len(b.pending) > 0 {
		if err := b.wait(); err != nil {
			return err
		}
	}
	return nil
}
