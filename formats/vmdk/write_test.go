package vmdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"compress/zlib"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output/disktest"
	"imgbuild/formats/pieces"
	"imgbuild/partition"
)

var testUUID = partition.DeriveGUID([]byte("test"), "vmdk")

func encode(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	return Write(ctx, img, f, Options{UUID: testUUID, Progress: progress})
}

func TestWrite(t *testing.T) {
	images := disktest.Images(t, grainSize)
	const table = tableGrains * grainSize
	images["table"] = disktest.Image(t, table, disktest.At(table-1, []byte{1}))
	images["table and a grain"] = disktest.Image(t, table+grainSize, disktest.At(table-grainSize, disktest.Text(2*grainSize)))
	images["second table only"] = disktest.Image(t, 3*table, disktest.At(table, disktest.Noise(1, 3*grainSize)))
	for name, img := range images {
		t.Run(name, func(t *testing.T) { checkDisk(t, img) })
	}
}

// checkDisk lets qemu-img check and compare a disk, and walks the stream itself.
func checkDisk(t *testing.T, img *disk.Image) {
	t.Helper()
	raw := disktest.Raw(t, img, grainSize)
	file := disktest.File(t, encode, img, "disk.vmdk")
	if out := disktest.Tool(t, "qemu-img", "check", "-f", "vmdk", file); !strings.Contains(out, "No errors were found") {
		t.Error(out)
	}
	disktest.Compare(t, raw, "vmdk", file)
	walk(t, file, img)
}

// walk reads a file as a stream, without the tables, which it then compares with
// what it found.
func walk(t *testing.T, file string, img *disk.Image) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if len(b)%sectorSize != 0 {
		t.Fatalf("file of %d bytes", len(b))
	}
	capacity := int64(le.Uint64(b[0x0c:])) * sectorSize
	if capacity != Capacity(img.Size()) {
		t.Errorf("capacity %d for %d bytes", capacity, img.Size())
	}
	found := map[uint32]int64{} // table entries, by grain
	next := int64(-1)
	var tables []uint32
	pos := overhead * sectorSize
	for {
		if pos+sizeMarker > len(b) {
			t.Fatal("no end-of-stream marker")
		}
		m := b[pos:]
		val, size, kind := le.Uint64(m), int(le.Uint32(m[8:])), markerType(le.Uint32(m[12:]))
		if size > 0 {
			number := int64(val) / grainSectors
			if int64(val)%grainSectors != 0 || number <= next {
				t.Fatalf("grain of sector %d after grain %d", val, next)
			}
			next = number
			found[uint32(number)] = int64(pos / sectorSize)
			checkGrain(t, m[sizeGrainMarker:][:size], number, img)
			end := pos + sizeGrainMarker + size
			pos = (end + sectorSize - 1) / sectorSize * sectorSize
			if !zero(b[end:pos]) {
				t.Fatalf("padding of grain %d", number)
			}
			continue
		}
		if !zero(m[16:sizeMarker]) {
			t.Fatalf("padding of the marker at %d", pos)
		}
		body := m[sizeMarker:][:val*sectorSize]
		pos += sizeMarker
		switch kind {
		case markerTable:
			tables = append(tables, uint32(pos/sectorSize))
			if len(body) != 4*tableGrains {
				t.Fatalf("grain table of %d bytes", len(body))
			}
			base := uint32(next) / tableGrains * tableGrains
			for i := range uint32(tableGrains) {
				if got := le.Uint32(body[4*i:]); int64(got) != found[base+i] {
					t.Fatalf("entry of grain %d is %d, want %d", base+i, got, found[base+i])
				}
				delete(found, base+i)
			}
		case markerDirectory:
			if len(found) > 0 {
				t.Fatalf("%d grains are in no table", len(found))
			}
			n := int((capacity + tableGrains*grainSize - 1) / (tableGrains * grainSize))
			for i := range len(body) / 4 {
				at := le.Uint32(body[4*i:])
				if at == 0 {
					continue
				}
				if len(tables) == 0 || tables[0] != at || i >= n {
					t.Fatalf("directory entry %d of %d is %d, want one of %v", i, n, at, tables)
				}
				tables = tables[1:]
			}
			if len(tables) > 0 {
				t.Fatalf("tables %v are in no directory", tables)
			}
			tables = []uint32{uint32(pos / sectorSize)}
		case markerFooter:
			want := bytes.Clone(b[:sizeHeader])
			le.PutUint64(want[0x38:], uint64(tables[0]))
			if !bytes.Equal(body, want) {
				t.Fatal("the footer is not the header with the directory")
			}
		case markerEnd:
			if pos != len(b) || val != 0 {
				t.Fatalf("the stream ends at %d of %d", pos, len(b))
			}
			return
		default:
			t.Fatalf("marker %d", kind)
		}
		pos += len(body)
	}
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func checkGrain(t *testing.T, data []byte, number int64, img *disk.Image) {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, grainSize)
	if _, err := img.ReadAt(want, number*grainSize); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	if zero(got) || !bytes.Equal(got, want) {
		t.Fatalf("grain %d differs or is zero", number)
	}
}

// TestHeader compares the header with that of qemu-img, whose grain directory is
// ahead of the data and has a second copy.
func TestHeader(t *testing.T) {
	file := disktest.File(t, encode, disktest.Image(t, 100<<20), "disk.vmdk")
	theirs := filepath.Join(t.TempDir(), "disk.vmdk")
	disktest.Tool(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", theirs, "100M")
	a, b := disktest.Head(t, file, 21*sectorSize), disktest.Head(t, theirs, 21*sectorSize)
	if got := binary.LittleEndian.Uint64(a[0x38:]); got != directoryAtEnd {
		t.Errorf("directory at %#x", got)
	}
	for _, p := range [][]byte{a, b} {
		p[8] &^= 1 << 1 // redundant directory
		clear(p[0x30:0x40])
	}
	if !bytes.Equal(a[:sizeHeader], b[:sizeHeader]) {
		t.Errorf("header\n% x, qemu-img writes\n% x", a[:0x50], b[:0x50])
	}
	// All lines of its descriptor but the identifier are in ours.
	for line := range strings.Lines(string(bytes.Trim(b[sectorSize:], "\x00"))) {
		if !strings.HasPrefix(line, "CID=") && !bytes.Contains(a[sectorSize:], []byte(line)) {
			t.Errorf("no line %q in\n%s", line, bytes.Trim(a[sectorSize:], "\x00"))
		}
	}
	info := disktest.Tool(t, "qemu-img", "info", file)
	for _, want := range []string{"virtual size: 100 MiB", "create type: streamOptimized", "compressed: true", "cluster size: 65536"} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q in\n%s", want, info)
		}
	}
}

func TestDescriptor(t *testing.T) {
	for _, c := range []struct {
		adapter Adapter
		size    int64
		want    string
	}{
		{LSILogic, 100 << 20, "lsilogic 12 255 63"},
		{IDE, 100 << 20, "ide 203 16 63"},
		{BusLogic, 1 << 30, "buslogic 130 255 63"},
		{LSILogic, MaxSize, "lsilogic 65535 255 63"},
		{IDE, MaxSize, "ide 16383 16 63"},
	} {
		text := string(bytes.TrimRight(descriptor(c.size/sectorSize, c.adapter, testUUID), "\x00"))
		value := func(key string) string {
			_, rest, _ := strings.Cut(text, "\nddb."+key+` = "`)
			v, _, _ := strings.Cut(rest, "\"\n")
			return v
		}
		got := value("adapterType") + " " + value("geometry.cylinders") + " " + value("geometry.heads") + " " + value("geometry.sectors")
		if got != c.want {
			t.Errorf("%v, %d bytes: %s, want %s", c.adapter, c.size, got, c.want)
		}
		_, cid, _ := strings.Cut(text, "\nCID=")
		if id := value("longContentID"); len(id) != 32 || id[24:] != cid[:8] {
			t.Errorf("content identifier %s, CID %.8s", id, cid)
		}
		if !strings.Contains(text, "\nRW "+strconv.FormatInt(c.size/sectorSize, 10)+" SPARSE ") {
			t.Error(text)
		}
	}
	if bytes.Equal(descriptor(1, IDE, testUUID), descriptor(1, IDE, partition.GUID{})) {
		t.Error("the identifier does not matter")
	}
}

// TestLarge checks disks that QEMU opens but does not read to their end soon.
func TestLarge(t *testing.T) {
	for _, size := range []int64{3 << 40, MaxSize} {
		places := []int64{0, 2<<40 - 512, 2 << 40, size/2 + 1<<20, size - 512}
		var extents []disk.Extent
		for i, off := range places {
			extents = append(extents, disktest.At(off, bytes.Repeat([]byte{byte(0xa0 + i)}, 512)))
		}
		file := disktest.File(t, encode, disktest.Image(t, size, extents...), "disk.vmdk")
		if out := disktest.Tool(t, "qemu-img", "info", file); !strings.Contains(out, "("+strconv.FormatInt(size, 10)+" bytes") {
			t.Error(out)
		}
		args := []string{"-r", "-f", "vmdk"}
		for i, off := range places {
			args = append(args, "-c", "read -P "+strconv.Itoa(0xa0+i)+" "+strconv.FormatInt(off, 10)+" 512")
			if off > 4096 {
				args = append(args, "-c", "read -P 0 "+strconv.FormatInt(off-4096, 10)+" 512")
			}
		}
		if out := disktest.Tool(t, "qemu-io", append(args, file)...); strings.Contains(out, "failed") || strings.Count(out, "read 512/512") != 2*len(places)-1 {
			t.Error(out)
		}
	}
	disktest.CheckRefused(t, encode, MaxSize+1)
	disktest.CheckRefused(t, encode, 0)
}

// TestTooMuchData checks that a file whose offsets do not fit 32 bits fails.
func TestTooMuchData(t *testing.T) {
	s := &Stream{w: io.Discard, sector: maxSectors - 1, directory: make([]uint32, 1), at: -1}
	p := &pieces.Batch{Pieces: []pieces.Piece{{Stream: []byte(pieces.Last)}}}
	if err := s.Add(p); err != nil {
		t.Error(err)
	}
	if err := s.Add(p); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("%v, class %d", err, fault.ClassOf(err))
	}
}

func TestStreamInfo(t *testing.T) {
	img := disktest.Image(t, 10<<20+1, disktest.At(0, []byte{1}), disktest.At(5<<20-1, []byte{1, 1}))
	var b bytes.Buffer
	s, err := NewStream(img.Size(), &b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pieces.Write(t.Context(), img, []pieces.Format{adder{s}}, nil); err != nil {
		t.Fatal(err)
	}
	info, err := s.Finish()
	if want := (Info{int64(b.Len()), 10<<20 + grainSize, 3 * grainSize}); err != nil || info != want {
		t.Errorf("%+v, %v; want %+v", info, err, want)
	}
	full := errors.New("full")
	if _, err := NewStream(img.Size(), failing{full}, Options{}); err != full {
		t.Errorf("error of the writer: %v", err)
	}
}

// adder only adds pieces.
type adder struct{ *Stream }

func (a adder) Add(_ context.Context, b *pieces.Batch) error { return a.Stream.Add(b) }

func (adder) Finish(context.Context) error { return nil }
func (adder) Want() pieces.Want            { return pieces.Want{Stream: true, Adler: true} }
func (adder) Stop()                        {}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestContract(t *testing.T) {
	disktest.CheckDeterminism(t, encode)
	disktest.CheckProgress(t, encode, grainSize)
	disktest.CheckErrors(t, encode)
	disktest.CheckCancel(t, encode, func(f *os.File) bool {
		info, err := f.Stat()
		b := make([]byte, 1024)
		if err != nil || info.Size() < 1024 {
			return false
		}
		_, err = f.ReadAt(b, info.Size()-1024)
		return err == nil && string(b[:4]) == "KDMV"
	})
	for _, a := range []Adapter{-1, 3} {
		err := Write(t.Context(), disktest.Image(t, 512), disktest.Create(t, "disk"), Options{Adapter: a})
		if fault.ClassOf(err) != fault.Usage {
			t.Errorf("%v: %v", a, err)
		}
	}
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Add(bytes.Repeat([]byte{255, 128, 2, 250}, 6), uint16(1))
	f.Add([]byte{0, 255, 255, 128, 0, 255, 0, 255, 0, 255, 255, 255}, uint16(7))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		checkDisk(t, disktest.FromInput(t, in, cut, 8*grainSize))
	})
}
