package output

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// inFlight is the number of windows that may be on their way to the device.
// It bounds the dirty pages of one output to about 128 MiB, so that the last
// fsync is short and a cancelled build does not hang in it.
const inFlight = 8

// writeback starts write-back of ranges from a goroutine of its own: starting
// it blocks whenever the queue of the device is full, which must not stop the
// copying. Its errors need no handling, fsync reports them again.
type writeback struct {
	ranges chan [2]int64
	done   sync.WaitGroup
	once   sync.Once
}

func newWriteback(f *os.File) *writeback {
	b := &writeback{ranges: make(chan [2]int64, inFlight)}
	b.done.Go(func() { b.run(f) })
	return b
}

func (b *writeback) run(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		conn = nil
	}
	syncRange := func(r [2]int64, flags int) {
		if conn == nil {
			return
		}
		err := conn.Control(func(fd uintptr) {
			if unix.SyncFileRange(int(fd), r[0], r[1]-r[0], flags) != nil {
				conn = nil // a file system without it, or a closed file
			}
		})
		if err != nil {
			conn = nil
		}
	}
	var started [][2]int64
	for r := range b.ranges {
		syncRange(r, unix.SYNC_FILE_RANGE_WRITE)
		if started = append(started, r); len(started) > inFlight {
			syncRange(started[0], unix.SYNC_FILE_RANGE_WAIT_BEFORE)
			started = started[1:]
		}
	}
}

// start starts write-back of the bytes from up to to. It waits when the device
// is far behind.
func (b *writeback) start(from, to int64) { b.ranges <- [2]int64{from, to} }

func (b *writeback) stop() {
	b.once.Do(func() { close(b.ranges) })
	b.done.Wait()
}
