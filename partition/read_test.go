package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// ends is a disk of which only the first and last bytes are kept: all that a
// table needs, so that fuzzing is about little data.
type ends struct {
	head, tail []byte
	size       int64
}

func (e ends) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > e.size {
		return 0, errors.New("offset outside the disk")
	}
	n := int(min(int64(len(p)), e.size-off))
	clear(p[:n])
	if off < int64(len(e.head)) {
		copy(p[:n], e.head[off:])
	}
	if start := e.size - int64(len(e.tail)); off+int64(n) > start {
		if off >= start {
			copy(p[:n], e.tail[off-start:])
		} else {
			copy(p[start-off:n], e.tail)
		}
	}
	if n < len(p) {
		return n, errors.New("end of the disk")
	}
	return n, nil
}

// cut returns the first and last n bytes of a table.
func cut(t testing.TB, table *Table, n int64) ends {
	t.Helper()
	d := image(t, table, nil)
	e := ends{head: make([]byte, n), tail: make([]byte, n), size: table.Size}
	if _, err := d.ReadAt(e.head, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(e.tail, e.size-n); err != nil {
		t.Fatal(err)
	}
	return e
}

// seal sets the checksums of both copies of a 512-byte-sector table with 128
// entries.
func (e ends) seal() {
	le := binary.LittleEndian
	tail := e.tail[len(e.tail)-33*512:]
	le.PutUint32(e.head[512+0x58:], crc32.ChecksumIEEE(e.head[1024:1024+arrayBytes]))
	le.PutUint32(tail[arrayBytes+0x58:], crc32.ChecksumIEEE(tail[:arrayBytes]))
	for _, h := range [][]byte{e.head[512:], tail[arrayBytes:]} {
		le.PutUint32(h[0x10:], 0)
		le.PutUint32(h[0x10:], crc32.ChecksumIEEE(h[:sizeHeader]))
	}
}

// TestReadRefuses damages a table in one place at a time.
func TestReadRefuses(t *testing.T) {
	const n = 17408 // 34 sectors
	table := everything()
	whole := cut(t, table, n)
	if _, err := Read(whole, whole.size, 0); err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	const backup = n - 512
	for _, test := range []struct {
		want   string
		change func(e *ends)
	}{
		{"no GUID partition table", func(e *ends) { e.head[512] = 'e' }},
		{"no GUID partition table", func(e *ends) { e.size = 0 }},
		{"no GUID partition table", func(e *ends) { e.size = 1024 }},
		{"no GUID partition table", func(e *ends) { e.size-- }},
		{"backup header: no GUID partition table", func(e *ends) { e.tail[backup] = 'e' }},
		{"MBR has no signature", func(e *ends) { e.head[510] = 0 }},
		{"MBR does not protect", func(e *ends) { e.head[0x1BE+4] = 0x83 }},
		{"primary header: sector 1: revision", func(e *ends) { e.head[512+8] = 1 }},
		{"primary header: sector 1: size", func(e *ends) { e.head[512+12] = 91 }},
		{"primary header: sector 1: size", func(e *ends) { e.head[512+15] = 1 }},
		{"primary header: sector 1: checksum", func(e *ends) { e.head[512+0x38] ^= 1 }},
		{"backup header: sector 131071: checksum", func(e *ends) { e.tail[backup+0x38] ^= 1 }},
		{"primary entries: checksum", func(e *ends) { e.head[1024+0x38] ^= 1 }},
		{"backup entries: checksum", func(e *ends) { e.tail[1024] ^= 1 }},
		{"headers differ", func(e *ends) { e.head[512+0x38] ^= 1; e.seal() }},
		{"claims to be at sector 2", func(e *ends) { e.head[512+0x18] = 2; e.seal() }},
		{"copy should be at sector 131070", func(e *ends) { e.head[512+0x20]--; e.seal() }},
		{"entries of 64 bytes", func(e *ends) { e.both(0x54, 64) }},
		{"entries of 384 bytes", func(e *ends) { e.both(0x54, 384) }},
		{"more than any disk has", func(e *ends) { e.both(0x50, 1<<31) }},
		{"more than any disk has", func(e *ends) { e.both(0x50, 8193) }},
		{"entries at sector 2 are outside", func(e *ends) { e.both(0x50, 256) }},
		{"entries at sector 1 are outside", func(e *ends) { le.PutUint64(e.head[512+0x48:], 1); e.seal() }},
		{"are outside", func(e *ends) { le.PutUint64(e.head[512+0x48:], 1<<64-1); e.seal() }},
		{"backup entries at sector 131070 are outside", func(e *ends) { le.PutUint64(e.tail[backup+0x48:], 131070); e.seal() }},
		{"backup entries at sector 18446744073709551615 are outside", func(e *ends) { le.PutUint64(e.tail[backup+0x48:], 1<<64-1); e.seal() }},
		{"are not on the disk", func(e *ends) { e.both(0x28, 131040) }},
		{"are not on the disk", func(e *ends) { e.both(0x30, 131071) }},
		{"partition 1: sectors 18432 to 1 are not usable", func(e *ends) { e.entry(0, 0x28, 1) }},
		{"partition 1: sectors 33 to", func(e *ends) { e.entry(0, 0x20, 33) }},
		{"are not usable ones", func(e *ends) { e.entry(0, 0x28, 1<<64-1) }},
		{"are not usable ones", func(e *ends) { e.entry(0, 0x28, 131071-33+1) }},
		{"partition 3 at 3145728 overlaps partition 2", func(e *ends) { e.entry(1, 0x28, 6144) }},
		{"partition 1: no ID", func(e *ends) { e.entry(0, 0x10, 0); e.entry(0, 0x18, 0) }},
	} {
		e := ends{head: bytes.Clone(whole.head), tail: bytes.Clone(whole.tail), size: whole.size}
		test.change(&e)
		got, err := Read(e, e.size, 512)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, %v, want %q", got, err, test.want)
		}
		if none := strings.HasPrefix(test.want, "no GUID"); none && !errors.Is(err, ErrNoTable) {
			t.Errorf("%v is not ErrNoTable", err)
		}
	}
	if _, err := Read(whole, whole.size, 4096); !errors.Is(err, ErrNoTable) {
		t.Errorf("wrong sector size: %v", err)
	}
	if _, err := Read(whole, whole.size, 1024); err == nil || errors.Is(err, ErrNoTable) {
		t.Errorf("sector size 1024: %v", err)
	}
	if _, err := Read(bytes.NewReader(nil), whole.size, 512); err == nil {
		t.Error("no data: no error")
	}
}

// both sets a 32-bit field of both headers.
func (e ends) both(field int, v uint32) {
	binary.LittleEndian.PutUint32(e.head[512+field:], v)
	binary.LittleEndian.PutUint32(e.tail[len(e.tail)-512+field:], v)
	e.seal()
}

// entry sets a 64-bit field of entry i in both arrays.
func (e ends) entry(i, field int, v uint64) {
	binary.LittleEndian.PutUint64(e.head[1024+i*sizeEntry+field:], v)
	binary.LittleEndian.PutUint64(e.tail[len(e.tail)-33*512+i*sizeEntry+field:], v)
	e.seal()
}

// TestReadForeign reads tables that other programs made.
func TestReadForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	for _, test := range []struct {
		sectorSize int
		command    []string
		input      string
		want       string // what the error says
	}{
		{512, []string{"sgdisk", "-n", "0:0:+8M", "-t", "0:ef00", "-c", "0:EFI", "-n", "5:0:0", "-A", "5:set:2", path}, "", ""},
		{512, []string{"sfdisk", path}, "label: gpt\nstart=2048, size=1M, type=U\nsize=+, name=\"räst\", attrs=\"GUID:60\"\n", ""},
		{4096, []string{"fdisk", "--sector-size", "4096", path}, "g\nn\n\n\n+2M\nn\n\n\n\nw\n", ""},
		// 8 entries are fewer than the specification allows, and in use.
		{512, []string{"sfdisk", path}, "label: gpt\ntable-length: 8\nsize=1M\n", ""},
		{512, []string{"sfdisk", path}, "label: gpt\ntable-length: 200\nsize=1M\n", ""},
		{512, []string{"sfdisk", path}, "label: dos\nsize=1M\n", "no GUID partition table"},
	} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, 64*mib); err != nil {
			t.Fatal(err)
		}
		runInput(t, test.input, test.command[0], test.command[1:]...)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		table, err := Read(f, 64*mib, 0)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v: %v, want %q", test.command, err, test.want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v %q: %v", test.command, test.input, err)
			continue
		}
		if table.SectorSize != test.sectorSize {
			t.Errorf("%v: sectors of %d bytes", test.command, table.SectorSize)
		}
		readWithDiskfs(t, path, table)
	}
}

// FuzzRead changes headers and entries of a disk, with checksums made right again
// or not. What is read can be written, and reads the same.
func FuzzRead(f *testing.F) {
	for _, table := range []*Table{
		everything(),
		{DiskID: guid(1), Size: mib, SectorSize: 512},
		{DiskID: guid(1), Size: 4 * mib, SectorSize: 4096, Partitions: []Partition{
			{Name: "root", Type: LinuxData, ID: guid(2), Start: mib, Size: 2 * mib},
		}},
	} {
		table.Partitions = table.Partitions[:min(len(table.Partitions), 4)] // small inputs
		e := cut(f, table, arrayBytes+2*int64(table.SectorSize))
		ss := table.SectorSize
		primary, array := e.head[ss:ss+sizeHeader], e.head[2*ss:2*ss+table.used()*sizeEntry]
		backup := e.tail[len(e.tail)-ss:][:sizeHeader]
		f.Add(primary, backup, array, table.Size, ss == 4096, true)
		f.Add(primary, backup, array, table.Size, ss == 4096, false)
	}
	f.Fuzz(func(t *testing.T, primary, backup, array []byte, size int64, large, seal bool) {
		ss := 512
		if large {
			ss = 4096
		}
		n := arrayBytes + 2*ss
		e := ends{head: make([]byte, n), tail: make([]byte, n), size: size}
		if len(primary) > ss || len(backup) > ss || len(array) > arrayBytes || size < int64(n) {
			return
		}
		mbr{sectors: 1 << 40}.encode(e.head)
		copies := []struct{ header, array []byte }{
			{e.head[ss:], e.head[2*ss:]},
			{e.tail[n-ss:], e.tail[n-ss-arrayBytes:]},
		}
		copy(copies[0].header, primary)
		copy(copies[1].header, backup)
		for _, c := range copies {
			copy(c.array, array)
			if seal {
				le := binary.LittleEndian
				le.PutUint32(c.header[0x58:], crc32.ChecksumIEEE(c.array[:arrayBytes]))
				le.PutUint32(c.header[0x10:], 0)
				le.PutUint32(c.header[0x10:], crc32.ChecksumIEEE(c.header[:sizeHeader]))
			}
		}
		table, err := Read(e, size, 0)
		if err != nil {
			return
		}
		again, err := Read(image(t, table, nil), size, table.SectorSize)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(table, again) {
			t.Fatalf("read\n%+v\nafter writing\n%+v", again, table)
		}
	})
}
