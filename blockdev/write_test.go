package blockdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/partition"
)

// memory is a disk with a volatile cache: what was written since the last flush
// is lost, or there, or there in part, when the power goes.
type memory struct {
	durable []byte
	sector  int
	cache   []write
	ops     int
	failAt  int // the operation that fails, counting from 1; 0 never
	err     error
}

type write struct {
	off  int64
	data []byte
}

func (m *memory) Size() int64     { return int64(len(m.durable)) }
func (m *memory) SectorSize() int { return m.sector }

func (m *memory) step() error {
	if m.ops++; m.ops == m.failAt {
		return m.err
	}
	return nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > m.Size() || off%int64(m.sector) != 0 || len(p)%m.sector != 0 {
		panic(fmt.Sprintf("write of %d bytes at %d", len(p), off))
	}
	if err := m.step(); err != nil {
		return 0, err
	}
	m.cache = append(m.cache, write{off, bytes.Clone(p)})
	return len(p), nil
}

// ReadAt reads what was written, flushed or not.
func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	b := bytes.Clone(m.durable[off : off+int64(len(p))])
	for _, w := range m.cache {
		from, to := max(w.off, off), min(w.off+int64(len(w.data)), off+int64(len(p)))
		if from < to {
			copy(b[from-off:to-off], w.data[from-w.off:])
		}
	}
	return copy(p, b), nil
}

func (m *memory) Zero(off, n int64) error {
	_, err := m.WriteAt(make([]byte, n), off)
	return err
}

func (m *memory) Sync() error {
	if err := m.step(); err != nil {
		return err
	}
	for _, w := range m.cache {
		copy(m.durable[w.off:], w.data)
	}
	m.cache = nil
	return nil
}

// lose ends the power: each sector that waits is either there or not.
func (m *memory) lose(rng *rand.Rand) []byte {
	for _, w := range m.cache {
		for pos := 0; pos < len(w.data); pos += m.sector {
			if rng.IntN(2) == 0 {
				copy(m.durable[int(w.off)+pos:], w.data[pos:pos+m.sector])
			}
		}
	}
	return m.durable
}

const testSize = 64 << 20

// testPlan is a disk with a GPT, two partitions, sparse content and zeros.
func testPlan(t *testing.T, sector int) (*Plan, *partition.Table) {
	t.Helper()
	id := func(b byte) partition.GUID { return partition.GUID{b, 1} }
	table := &partition.Table{DiskID: id(1), Size: testSize, SectorSize: sector, Partitions: []partition.Partition{
		{Name: "one", Type: partition.ESP, ID: id(2), Start: 1 << 20, Size: 10 << 20},
		{Name: "two", Type: partition.LinuxData, ID: id(3), Start: 11 << 20, Size: 40 << 20},
	}}
	tables, err := table.Parts(bytes.Repeat([]byte{0xeb}, 440))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, uint64(sector)))
	var extents []disk.Extent
	for pos := int64(1<<20 + 300); pos < 51<<20; {
		b := make([]byte, 1+rng.IntN(200000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		n := min(int64(len(b)), 51<<20-pos)
		extents = append(extents, disk.Extent{Off: pos, Data: content.Bytes(b[:n])})
		pos += n + rng.Int64N(2)*rng.Int64N(600<<10)
	}
	p := &Plan{Zero: []Range{{30 << 20, 9<<20 + 5}, {1 << 20, 1 << 20}, {12<<20 + 1, 3}, {50 << 20, 1 << 20}}}
	if p.Content, err = disk.New(testSize, extents); err != nil {
		t.Fatal(err)
	}
	if p.Tables, err = disk.Compose(testSize, tables); err != nil {
		t.Fatal(err)
	}
	return p, table
}

func used(sector int) *memory {
	return &memory{durable: bytes.Repeat([]byte{0xa5}, testSize), sector: sector}
}

// check compares a finished disk with the plan.
func checkPlan(t *testing.T, p *Plan, got []byte) {
	t.Helper()
	for _, img := range []*disk.Image{p.Content, p.Tables} {
		for _, e := range img.Extents() {
			want := make([]byte, e.Data.Size())
			if _, err := img.ReadAt(want, e.Off); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got[e.Off:e.End()], want) {
				t.Fatalf("the extent at %d differs", e.Off)
			}
		}
	}
	covered := func(off int64) bool {
		b := make([]byte, 1)
		for _, img := range []*disk.Image{p.Content, p.Tables} {
			if _, err := img.ReadAt(b, off); err != nil || b[0] != 0 {
				return true
			}
		}
		return false
	}
	for _, z := range append([]Range{{0, 1 << 20}, {testSize - 1<<20, 1 << 20}}, p.Zero...) {
		for off := z.Off; off < z.End(); off++ {
			if got[off] != 0 && !covered(off) {
				t.Fatalf("byte %d is %02x, want zero", off, got[off])
			}
		}
	}
}

func TestWrite(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		m := used(sector)
		p, table := testPlan(t, sector)
		last := int64(0)
		if err := Write(t.Context(), m, p, func(n int64) {
			if n <= last {
				t.Errorf("progress %d after %d", n, last)
			}
			last = n
		}); err != nil {
			t.Fatal(err)
		}
		if last != p.Bytes() || len(m.cache) > 0 {
			t.Errorf("%d of %d bytes, %d writes not flushed", last, p.Bytes(), len(m.cache))
		}
		checkPlan(t, p, m.durable)
		got, err := partition.Read(bytes.NewReader(m.durable), testSize, sector)
		if err != nil || len(got.Partitions) != len(table.Partitions) {
			t.Errorf("%v, %v", got, err)
		}
		if n := bytes.Count(m.durable, bytes.Repeat([]byte{0xa5}, 4096)); n < 1000 {
			t.Errorf("only %d blocks are as they were: everything is written", n)
		}
	}
}

// The tail of the disk is held: it is not touched until it is released, and
// nothing is read of the content afterwards.
func TestWriteHeld(t *testing.T) {
	for _, from := range []int64{44 << 20, 20 << 20, 49 << 20, 60 << 20} {
		p, _ := testPlan(t, 512)
		whole := p.Content
		m := used(512)
		released := false
		guard := &guarded{Image: whole, t: t}
		var extents []disk.Extent
		for _, e := range whole.Extents() {
			extents = append(extents, disk.Extent{Off: e.Off, Data: content.NewRef(guard, e.Off, e.Data.Size())})
		}
		var err error
		if p.Content, err = disk.New(testSize, extents); err != nil {
			t.Fatal(err)
		}
		p.Held = &Held{From: from, Release: func() error {
			for off := from; off < testSize-1<<20; off++ {
				if m.durable[off] != 0xa5 {
					t.Fatalf("byte %d was written while it was held", off)
				}
			}
			released, guard.closed = true, true
			return nil
		}}
		last := int64(0)
		err = Write(t.Context(), m, p, func(n int64) { last = n })
		if from == 20<<20 {
			if fault.ClassOf(err) != fault.NoSpace || released || bootable(m.durable, 512) {
				t.Errorf("no room for the tail: %v", err)
			}
			continue
		}
		if err != nil || !released || last != p.Bytes() {
			t.Fatalf("%v, released %v, %d of %d bytes", err, released, last, p.Bytes())
		}
		p.Content = whole
		checkPlan(t, p, m.durable)
	}
}

// Power cuts while the tail is held, and after it was released.
func TestPowerCutHeld(t *testing.T) {
	cut := errors.New("cut")
	p, _ := testPlan(t, 512)
	for at := 4; ; at++ {
		m := &memory{durable: bytes.Repeat([]byte{0xeb}, testSize), sector: 512, failAt: at, err: cut}
		p.Held = &Held{From: 44 << 20, Release: func() error { return nil }}
		err := Write(t.Context(), m, p, nil)
		b := m.lose(rand.New(rand.NewPCG(uint64(at), 2)))
		if err == nil {
			checkPlan(t, p, b)
			if at < 50 {
				t.Errorf("only %d operations", at)
			}
			return
		}
		if bootable(b, 512) {
			checkPlan(t, p, b)
			if at < m.ops {
				t.Fatalf("operation %d: the disk boots before the last flush", at)
			}
		}
	}
}

// guarded is content that ends.
type guarded struct {
	*disk.Image
	t      *testing.T
	closed bool
}

func (g *guarded) ReadAt(p []byte, off int64) (int, error) {
	if g.closed {
		g.t.Error("content is read after it was released")
	}
	return g.Image.ReadAt(p, off)
}

// bootable tells whether firmware or a kernel would see anything on the disk.
func bootable(b []byte, sector int) bool {
	return b[510] == 0x55 && b[511] == 0xaa || bytes.IndexByte(b[:440], 0xeb) >= 0
}

// The power goes after every number of operations, with any part of what was not
// yet durable lost: the disk is complete, or nothing knows that it is a disk.
func TestPowerCut(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		p, _ := testPlan(t, sector)
		whole := used(sector)
		// Before: a disk that boots.
		if err := Write(t.Context(), whole, p, nil); err != nil {
			t.Fatal(err)
		}
		total := whole.ops
		if total < 50 {
			t.Fatalf("%d operations are too few to prove anything", total)
		}
		cut := errors.New("cut")
		complete, gone := 0, 0
		step := sector / 512 * 3 / 4 // all of them once, some of them again
		for at := 1; at <= total; at += max(step, 1) {
			m := &memory{durable: bytes.Clone(whole.durable), sector: sector, failAt: at, err: cut}
			err := Write(t.Context(), m, p, nil)
			if !errors.Is(err, cut) {
				t.Fatalf("operation %d: %v", at, err)
			}
			rng := rand.New(rand.NewPCG(uint64(at), 1))
			b := m.lose(rng)
			// Until the first flush is asked for, the old system may be there.
			if at <= 3 {
				continue
			}
			if !bootable(b, sector) {
				gone++
				continue
			}
			complete++
			checkPlan(t, p, b)
			if at < total {
				t.Errorf("operation %d of %d: the disk boots before the last flush", at, total)
			}
		}
		if gone+complete < 20 || complete > 1 {
			t.Errorf("%d cuts leave nothing, %d a disk", gone, complete)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	p, _ := testPlan(t, 512)
	if err := Write(t.Context(), &memory{durable: make([]byte, testSize+512), sector: 512}, p, nil); err == nil || !strings.Contains(err.Error(), "a disk of") {
		t.Errorf("another size: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := used(512)
	err := Write(ctx, m, p, func(n int64) {
		if n > 8<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || bootable(m.durable, 512) {
		t.Errorf("cancelled: %v", err)
	}
	m = used(512)
	if err := Write(ctx, m, p, nil); !errors.Is(err, context.Canceled) || m.ops != 0 {
		t.Errorf("cancelled before: %v, %d operations", err, m.ops)
	}
	// Content that cannot be read is no error of the disk.
	gone := errors.New("gone")
	p.Content, err = disk.New(testSize, []disk.Extent{{Off: 5 << 20, Data: content.NewRef(failing{gone}, 0, 10)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), used(512), p, nil); !errors.Is(err, gone) || fault.ClassOf(err) == fault.Device {
		t.Errorf("content: %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// FuzzJobs checks the division of a plan into jobs: whole blocks, ascending, every
// extent written, every zero range covered.
func FuzzJobs(f *testing.F) {
	f.Add(uint64(1), uint8(10), uint8(3))
	f.Add(uint64(2), uint8(0), uint8(1))
	f.Add(uint64(3), uint8(40), uint8(0))
	f.Fuzz(func(t *testing.T, seed uint64, extents, zeros uint8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		const size = 40<<20 + 1536
		var list []disk.Extent
		pos := rng.Int64N(3 << 20)
		for range extents {
			n := 1 + rng.Int64N(1<<(1+rng.IntN(21)))
			if pos+n > size {
				break
			}
			list = append(list, disk.Extent{Off: pos, Data: content.NewRef(bytes.NewReader(nil), 0, n)})
			pos += n + rng.Int64N(1<<(1+rng.IntN(22)))
		}
		img, err := disk.New(size, list)
		if err != nil {
			t.Fatal(err)
		}
		p := &Plan{Content: img}
		for range zeros {
			off := rng.Int64N(size)
			p.Zero = append(p.Zero, Range{off, rng.Int64N(size - off + 1)})
		}
		var jobs []job
		pos = 0
		for i, j := range p.jobs() {
			if j.Off < pos || j.Size <= 0 || j.Off%block != 0 || j.End()%block != 0 && j.End() != size {
				t.Fatalf("job %d: %+v after %d", i, j, pos)
			}
			pos = j.End()
			jobs = append(jobs, j)
		}
		inside := func(off int64, zeroToo bool) bool {
			for _, j := range jobs {
				if off >= j.Off && off < j.End() {
					return !j.zero || zeroToo
				}
			}
			return false
		}
		for _, e := range list {
			for _, off := range []int64{e.Off, e.Off + e.Data.Size()/2, e.End() - 1} {
				if !inside(off, false) {
					t.Fatalf("byte %d of an extent is not written", off)
				}
			}
		}
		for _, z := range p.Zero {
			for k := range int64(5) {
				if z.Size > 0 && !inside(z.Off+(z.Size-1)*k/4, true) {
					t.Fatalf("zeros at %d are left out", z.Off)
				}
			}
		}
	})
}
