package tar

import (
	stdtar "archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// gnuTar runs GNU tar, which must be there, and returns the archive.
func gnuTar(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("tar", append([]string{"-C", dir, "-cf", "-"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tar %v: %v\n%s", args, err, stderr.Bytes())
	}
	return out
}

// write makes a file with holes: a byte of each string at its offset.
func write(t *testing.T, path string, size int64, data map[int64]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off, s := range data {
		if _, err := f.WriteAt([]byte(s), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

func fixture(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a/file"), 11, map[int64]string{0: "hello world"})
	write(t, filepath.Join(dir, "a/empty"), 0, nil)
	write(t, filepath.Join(dir, "a/block"), 512, map[int64]string{0: strings.Repeat("b", 512)})
	write(t, filepath.Join(dir, "a/setuid"), 5, map[int64]string{0: "12345"})
	for _, l := range [][2]string{{"file", "a/link"}, {"../nowhere", "a/dangling"}} {
		if err := os.Symlink(l[0], filepath.Join(dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "a/file"), filepath.Join(dir, "a/hard")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "a/setuid"), 0o755|os.ModeSetuid|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "a/file"), time.Time{}, time.Unix(1700000000, 999999999)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestGNUTarFormats(t *testing.T) {
	for _, format := range []string{"v7", "oldgnu", "gnu", "ustar", "posix"} {
		t.Run(format, func(t *testing.T) {
			dir := fixture(t)
			args := []string{"--format=" + format, "--sort=name", "."}
			if format != "v7" {
				// 155 + 100 bytes is what ustar can hold.
				long := strings.Repeat("d", 90) + "/" + strings.Repeat("e", 60) + "/" + strings.Repeat("f", 98)
				write(t, filepath.Join(dir, long), 3, map[int64]string{0: "abc"})
			}
			if format != "v7" && format != "ustar" {
				long := strings.Repeat("long/", 60) + strings.Repeat("n", 250) + "ü"
				write(t, filepath.Join(dir, long), 3, map[int64]string{0: "xyz"})
				if err := os.Symlink(strings.Repeat("t/", 150), filepath.Join(dir, "longtarget")); err != nil {
					t.Fatal(err)
				}
				// The hard link has a long name and a long target.
				if err := os.Link(filepath.Join(dir, long), filepath.Join(dir, long)+"2"); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--owner=:3000000000", "--group=:4000000000")
			}
			list := same(t, gnuTar(t, dir, args...))
			if n := len(list); n < 9 {
				t.Errorf("only %d entries", n)
			}
			for _, e := range list {
				if strings.HasSuffix(e.Name, "a/file") && e.Type == byte(TypeFile) && e.Mtime != 1700000000 {
					t.Errorf("mtime %d", e.Mtime)
				}
			}
		})
	}
}

func TestGNUTarSparse(t *testing.T) {
	for _, args := range [][]string{
		{"--format=gnu"}, {"--format=oldgnu"},
		{"--format=posix", "--sparse-version=0.0"},
		{"--format=posix", "--sparse-version=0.1"},
		{"--format=posix", "--sparse-version=1.0"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "one"), 300<<10, map[int64]string{100 << 10: "middle"})
			write(t, filepath.Join(dir, "ends"), 200<<10, map[int64]string{0: "start", 200<<10 - 3: "end"})
			write(t, filepath.Join(dir, "hole"), 100<<10, nil)
			// More segments than a header block and two extension blocks hold.
			many := make(map[int64]string)
			for i := range int64(60) {
				many[i*16<<10] = fmt.Sprint("segment ", i)
			}
			write(t, filepath.Join(dir, strings.Repeat("n", 120)), 60*16<<10, many)
			write(t, filepath.Join(dir, "z"), 4, map[int64]string{0: "last"})
			archive := gnuTar(t, dir, append(args, "--sparse", "--hole-detection=raw", "--sort=name", ".")...)
			list := same(t, archive)
			if len(archive) > 700<<10 {
				t.Errorf("archive has %d bytes: tar stored no holes", len(archive))
			}
			if len(list) != 6 {
				t.Errorf("%d entries", len(list))
			}
		})
	}
}

// TestStandardWriter reads what archive/tar writes, which is what layers are
// made with.
func TestStandardWriter(t *testing.T) {
	var buf bytes.Buffer
	w := stdtar.NewWriter(&buf)
	big := strings.Repeat("content ", 1000)
	for _, h := range []stdtar.Header{
		{Typeflag: stdtar.TypeDir, Name: "d/", Mode: 0o1777, ModTime: time.Unix(-5, 500)},
		{Typeflag: stdtar.TypeReg, Name: "d/big", Mode: 0o4755, Size: int64(len(big)), Uid: 1 << 30, Gid: 7},
		{Typeflag: stdtar.TypeReg, Name: "d/x", Mode: 0o644, PAXRecords: map[string]string{
			"SCHILY.xattr.user.empty":            "",
			"SCHILY.xattr.security.capability":   "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
			"SCHILY.xattr.security.selinux":      "system_u:object_r:bin_t:s0\x00",
			"SCHILY.xattr.user.newline\nin name": "a\nb=c\n",
		}},
		{Typeflag: stdtar.TypeLink, Name: "d/hard", Linkname: "d/big"},
		{Typeflag: stdtar.TypeSymlink, Name: "d/sym", Linkname: strings.Repeat("ü/", 100)},
		{Typeflag: stdtar.TypeChar, Name: "d/null", Devmajor: 1, Devminor: 3},
		{Typeflag: stdtar.TypeBlock, Name: "d/sda", Devmajor: 8, Devminor: 70000},
		{Typeflag: stdtar.TypeFifo, Name: "d/fifo"},
		{Typeflag: stdtar.TypeReg, Name: "d/.wh.gone", Format: stdtar.FormatGNU},
		{Typeflag: stdtar.TypeReg, Name: "d/" + strings.Repeat("x", 200), Format: stdtar.FormatPAX, ModTime: time.Unix(1, 999)},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(h.Name, err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(big)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	list := same(t, buf.Bytes())
	if list[0].Mtime != -5 || list[2].Xattrs == "" || list[2].Xattrs == list[1].Xattrs {
		t.Errorf("unexpected listing %+v", list[:3])
	}
	// The end of the archive may be missing, or be half there.
	for _, cut := range []int{512, 1024} {
		same(t, buf.Bytes()[:buf.Len()-cut])
	}
}

// field is bytes at an offset of a header block.
type field struct {
	off  int
	data string
}

// raw makes a block of a header with a right checksum.
func raw(name string, flag byte, size int64, fields ...field) []byte {
	b := make([]byte, blockSize)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000001\x00")
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	for _, f := range fields {
		copy(b[f.off:], f.data)
	}
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(s string) []byte {
	b := []byte(s)
	return append(b, make([]byte, -len(b)&(blockSize-1))...)
}

func paxBody(records ...string) string {
	var b strings.Builder
	for _, r := range records {
		n := len(r) + 3
		for n != len(fmt.Sprint(n))+len(r)+2 {
			n = len(fmt.Sprint(n)) + len(r) + 2
		}
		fmt.Fprintf(&b, "%d %s\n", n, r)
	}
	return b.String()
}

func paxHeader(records ...string) []byte {
	body := paxBody(records...)
	return append(raw("pax", 'x', int64(len(body))), padded(body)...)
}

var (
	v7    = field{257, "\x00\x00\x00\x00\x00\x00\x00\x00"}
	gnu   = field{257, "ustar  \x00"}
	star  = field{508, "tar\x00"}
	endOf = make([]byte, 2*blockSize)
)

func TestHandMade(t *testing.T) {
	base256 := func(n uint64, width int) string {
		b := make([]byte, width)
		binary.BigEndian.PutUint64(b[width-8:], n)
		b[0] = 0x80
		return string(b)
	}
	for name, blocks := range map[string][][]byte{
		"v7 directory by slash":  {raw("dir/", 0, 0, v7)},
		"... of a size":          {raw("dir/", 0, 5, v7), raw("dir/file", 0, 3, v7), padded("abc")},
		"... cut off":            {raw("dir/", 0, 5, gnu)},
		"v7 file":                {raw("file", 0, 3, v7), padded("abc")},
		"contiguous file":        {raw("file", '7', 3), padded("abc")},
		"ustar prefix":           {raw("name", '0', 0, field{345, "the/prefix"})},
		"star prefix":            {raw("name", '0', 0, star, field{345, "the/prefix"})},
		"gnu times":              {raw("name", '0', 0, gnu, field{345, "00000000001\x00"})},
		"old go gnu prefix":      {raw("name", '0', 0, gnu, field{345, "the/prefix/of/old/go"})},
		"base-256 ids":           {raw("n", '0', 0, gnu, field{108, "\x80\x00\x00\x00\xff\xff\xff\x00"}, field{136, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"})},
		"base-256 size":          {raw("n", '0', 0, gnu, field{124, base256(700, 12)}), padded(strings.Repeat("s", 700))},
		"spaces in numbers":      {raw("n", '0', 0, field{100, "   644 \x00"})},
		"empty numbers":          {raw("n", '0', 0, field{108, "\x00\x00\x00\x00\x00\x00\x00\x00"})},
		"name of 100":            {raw(strings.Repeat("n", 100), '0', 0)},
		"pax over ustar":         {paxHeader("path=other", "uid=7000000", "gid=8", "mtime=-1.5", "size=3", "comment=x"), raw("n", '0', 0), padded("abc")},
		"last pax record wins":   {paxHeader("path=a", "path=b"), raw("n", '0', 0)},
		"empty record is none":   {paxHeader("path=", "mtime="), raw("n", '0', 0)},
		"two pax headers":        {paxHeader("path=a", "uid=5"), paxHeader("gid=6"), raw("n", '0', 0)},
		"global header":          {raw("g", 'g', int64(len(paxBody("path=all", "uid=9")))), padded(paxBody("path=all", "uid=9")), raw("n", '0', 0)},
		"global after pax":       {paxHeader("path=a"), raw("g", 'g', 0), raw("n", '0', 0)},
		"long name over pax":     {paxHeader("path=a"), raw("././@LongLink", 'L', 5, gnu), padded("long\x00"), raw("n", '0', 0, gnu)},
		"long link and name":     {raw("././@LongLink", 'K', 5, gnu), padded("link\x00"), raw("././@LongLink", 'L', 5, gnu), padded("name\x00"), raw("n", '2', 0, gnu)},
		"long name without NUL":  {raw("././@LongLink", 'L', 4, gnu), padded("name"), raw("n", '0', 0, gnu)},
		"symlink with size":      {raw("n", '2', 600, field{157, "target"}), raw("m", '0', 0)},
		"directory with size":    {raw("n/", '5', 600), raw("m", '0', 0)},
		"signed checksum":        {signed(raw("n\xfc", '0', 0))},
		"header at the end":      {paxHeader("path=a")},
		"sparse 0.1 of nothing":  {paxHeader("GNU.sparse.major=0", "GNU.sparse.minor=1", "GNU.sparse.numblocks=0", "GNU.sparse.size=5000"), raw("n", '0', 0)},
		"sparse 1.0 in one":      {paxHeader("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9000", "GNU.sparse.name=real"), raw("n", '0', 515), padded("2\n0\n1\n8000\n2\n"), padded("abc")},
		"zero blocks at the end": {raw("n", '0', 0), endOf, endOf, []byte("trailing garbage")},
	} {
		t.Run(name, func(t *testing.T) {
			archive := slices.Concat(blocks...)
			same(t, archive)
			same(t, append(archive, endOf...))
		})
	}
}

func signed(b []byte) []byte {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(int8(c))
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// TestByDesign has the archives that we read otherwise than archive/tar.
func TestByDesign(t *testing.T) {
	next := raw("next", '0', 2)
	for name, c := range map[string]struct {
		blocks [][]byte
		want   []string // type, name
	}{
		"ustar directory by slash":     {[][]byte{raw("dir/", '0', 0), next, padded("ok")}, []string{"5dir/", "0next"}},
		"directory by slash with size": {[][]byte{raw("dir/", '0', 3), padded("abc"), next, padded("ok")}, []string{"5dir/", "0next"}},
		"hard link with size, empty":   {[][]byte{raw("h", '1', 700, field{157, "t"}), next, padded("ok")}, []string{"1h", "0next"}},
		"hard link with content":       {[][]byte{raw("h", '1', 700, field{157, "t"}), padded(strings.Repeat("c", 700)), next, padded("ok")}, []string{"1h", "0next"}},
		"hard link with a short one":   {[][]byte{raw("h", '1', 3, field{157, "t"}), padded("abc"), next, padded("ok")}, []string{"1h", "0next"}},
		"hard link with size, the end": {[][]byte{raw("h", '1', 700, field{157, "t"}), endOf}, []string{"1h"}},
		"hard link by pax with size":   {[][]byte{paxHeader("size=700"), raw("h", '1', 0, field{157, "t"}), padded(strings.Repeat("c", 700)), next, padded("ok")}, []string{"1h", "0next"}},
		"Sun pax header":               {[][]byte{raw("p", 'X', int64(len(paxBody("path=sun")))), padded(paxBody("path=sun")), raw("n", '0', 0)}, []string{"0sun"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{1, 512, 1 << 20} {
				list, err := ours(slices.Concat(c.blocks...), n)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, e := range list {
					got = append(got, string(e.Type)+e.Name)
					if e.Name == "next" && e.Content != "ok" {
						t.Errorf("content %q", e.Content)
					}
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("got %q, want %q", got, c.want)
				}
			}
		})
	}
}

// TestLibarchiveXattrs reads the attributes as bsdtar writes them: twice, or
// only in its own spelling.
func TestLibarchiveXattrs(t *testing.T) {
	archive := slices.Concat(
		paxHeader("LIBARCHIVE.xattr.user.a%20b%3d=dmFsdWU", "SCHILY.xattr.user.a b%3d=x", "LIBARCHIVE.xattr.user.p=dmFsdWU=", "LIBARCHIVE.xattr.user.e="),
		raw("n", '0', 0))
	list, err := ours(archive, 512)
	if err != nil {
		t.Fatal(err)
	}
	want := sortLines("\"user.a b=\"=\"value\"\n\"user.a b%3d\"=\"x\"\n\"user.p\"=\"value\"\n\"user.e\"=\"\"\n")
	if list[0].Xattrs != want {
		t.Errorf("got %s, want %s", list[0].Xattrs, want)
	}
	both := slices.Concat(paxHeader("SCHILY.xattr.user.a=value", "LIBARCHIVE.xattr.user.a=dmFsdWU"), raw("n", '0', 0))
	if list, err = ours(both, 512); err != nil || list[0].Xattrs != "\"user.a\"=\"value\"\n" {
		t.Errorf("got %v, %v", list, err)
	}
}

func TestHostile(t *testing.T) {
	many := make([]string, 2000)
	for i := range many {
		many[i] = fmt.Sprintf("SCHILY.xattr.user.%d=", i)
	}
	ext := append(bytes.Repeat([]byte("00000000001\x0000000000001\x00"), extensionPairs), 1)
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"checksum":             {slices.Concat(raw("n", '0', 0)[:511], []byte{1}), "checksum"},
		"cut in header":        {raw("n", '0', 0)[:300], "unexpected EOF"},
		"cut in content":       {slices.Concat(raw("n", '0', 900), padded("abc")), "unexpected EOF"},
		"cut in pax":           {raw("n", 'x', 900), "unexpected EOF"},
		"zero block within":    {slices.Concat(make([]byte, 512), raw("n", '0', 0)), "zero block"},
		"negative size":        {raw("n", '0', 0, gnu, field{124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}), "negative size"},
		"huge size":            {raw("n", '0', 0, gnu, field{124, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"}), "invalid size"},
		"size overflow":        {raw("n", '0', 0, gnu, field{124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}), "invalid size"},
		"bad octal":            {raw("n", '0', 0, field{108, "9999999\x00"}), "invalid uid"},
		"pax of 2 MiB":         {raw("n", 'x', 2<<20), "more than"},
		"long name of 2 MiB":   {raw("n", 'L', 2<<20, gnu), "more than"},
		"pax record too long":  {slices.Concat(raw("n", 'x', 10), padded("99 path=ab")), "malformed"},
		"pax record negative":  {slices.Concat(raw("n", 'x', 10), padded("-9 path=ab")), "malformed"},
		"pax without newline":  {slices.Concat(raw("n", 'x', 9), padded("9 path=ab")), "malformed"},
		"pax without key":      {slices.Concat(raw("n", 'x', 5), padded("5 =a\n")), "malformed"},
		"pax NUL in path":      {slices.Concat(paxHeader("path=a\x00b"), raw("n", '0', 0)), "NUL"},
		"pax negative size":    {slices.Concat(paxHeader("size=-1"), raw("n", '0', 0)), "invalid size"},
		"pax bad size":         {slices.Concat(paxHeader("size=x"), raw("n", '0', 0)), "invalid number"},
		"pax bad mtime":        {slices.Concat(paxHeader("mtime=1.x"), raw("n", '0', 0)), "invalid time"},
		"many attributes":      {slices.Concat(paxHeader(many...), raw("n", '0', 0)), "more than 1024"},
		"attribute no name":    {slices.Concat(paxHeader("SCHILY.xattr.=x"), raw("n", '0', 0)), "malformed"},
		"bad base64":           {slices.Concat(paxHeader("LIBARCHIVE.xattr.a=!"), raw("n", '0', 0)), "malformed"},
		"bad percent":          {slices.Concat(paxHeader("LIBARCHIVE.xattr.%zz=YQ"), raw("n", '0', 0)), "malformed"},
		"volume label":         {raw("n", 'V', 0), "unsupported type"},
		"multi-volume":         {raw("n", 'M', 0), "unsupported type"},
		"sparse 2.0":           {slices.Concat(paxHeader("GNU.sparse.major=2", "GNU.sparse.minor=0"), raw("n", '0', 0)), "unknown sparse"},
		"sparse of directory":  {slices.Concat(paxHeader("GNU.sparse.major=1", "GNU.sparse.minor=0"), raw("n", '5', 0)), "not a regular file"},
		"sparse beyond size":   {slices.Concat(paxHeader("GNU.sparse.map=0,9", "GNU.sparse.numblocks=1", "GNU.sparse.size=5"), raw("n", '0', 9), padded("123456789")), "sparse map"},
		"sparse overlap":       {slices.Concat(paxHeader("GNU.sparse.map=0,5,4,4", "GNU.sparse.numblocks=2", "GNU.sparse.size=50"), raw("n", '0', 9), padded("123456789")), "sparse map"},
		"sparse overflow":      {slices.Concat(paxHeader("GNU.sparse.map=9223372036854775807,9", "GNU.sparse.numblocks=1", "GNU.sparse.size=50"), raw("n", '0', 9), padded("123456789")), "sparse map"},
		"sparse short content": {slices.Concat(paxHeader("GNU.sparse.map=0,5", "GNU.sparse.numblocks=1", "GNU.sparse.size=50"), raw("n", '0', 9), padded("123456789")), "sparse map of 5 bytes for 9"},
		"sparse count":         {slices.Concat(paxHeader("GNU.sparse.map=0,5", "GNU.sparse.numblocks=2"), raw("n", '0', 5), padded("12345")), "sparse map"},
		"sparse 1.0 huge":      {slices.Concat(paxHeader("GNU.sparse.major=1", "GNU.sparse.minor=0"), raw("n", '0', 512), padded("999999999999\n")), "sparse map"},
		"sparse 1.0 no end":    {slices.Concat(paxHeader("GNU.sparse.major=1", "GNU.sparse.minor=0"), raw("n", '0', 1024), bytes.Repeat([]byte("1"), 1024)), "sparse map"},
		"sparse S in ustar":    {raw("n", 'S', 0), "not in the GNU format"},
		"sparse S endless": {slices.Concat(raw("n", 'S', 0, gnu, field{482, "\x01"}, field{483, "00000000005\x00"}),
			bytes.Repeat(padded(string(ext)), 3000)), "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{100, 1 << 20} {
				_, err := ours(c.archive, n)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
			}
		})
	}
}

// FuzzReader compares with archive/tar: what it accepts we accept, but for what
// the package doc lists, and both say the same.
func FuzzReader(f *testing.F) {
	f.Add(slices.Concat(raw("a/", '5', 0), raw("a/n", '0', 3), padded("abc"), endOf), 512)
	f.Add(slices.Concat(paxHeader("path=x", "SCHILY.xattr.user.a=b", "mtime=-1.5"), raw("n", '0', 3), padded("abc")), 100)
	f.Add(slices.Concat(paxHeader("GNU.sparse.map=0,3", "GNU.sparse.numblocks=1", "GNU.sparse.size=50"), raw("n", '0', 3), padded("abc")), 7)
	f.Add(slices.Concat(paxHeader("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=90"), raw("n", '0', 515), padded("1\n0\n3\n"), padded("abc")), 600)
	f.Add(slices.Concat(raw("././@LongLink", 'L', 5, gnu), padded("name\x00"), raw("n", '1', 0, gnu, field{157, "target"})), 512)
	f.Add(slices.Concat(raw("n", 'S', 3, gnu, field{386, "00000000000\x0000000000003\x00"}, field{483, "00000000007\x00"}), padded("abc")), 1)
	f.Fuzz(func(t *testing.T, archive []byte, n int) {
		// Checksums are mended, or hardly any input would get past them.
		archive = bytes.Clone(archive)
		for off := 0; off+blockSize <= len(archive); off += blockSize {
			if b := archive[off : off+blockSize]; b[148] != 'x' && string(b[257:262]) == "ustar" {
				copy(b, raw(string(b[:100]), b[156], 0, field{100, string(b[100:148])}, field{157, string(b[157:])}))
			}
		}
		got, err := ours(archive, max(1, n%5000))
		want, werr := theirs(archive)
		if errors := err != nil; errors {
			if werr == nil && !stricter(err) {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if werr == errDiffers {
			return
		}
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Fatalf("entry %d\n ours   %s\n theirs %s", i, brief(got[i]), brief(want[i]))
			}
		}
		if werr == nil && len(got) != len(want) {
			t.Fatalf("%d entries, archive/tar has %d", len(got), len(want))
		}
	})
}

// stricter tells whether we refuse on purpose what archive/tar takes.
func stricter(err error) bool {
	for _, s := range []string{"negative size", "invalid size", "sparse", "unsupported type", "malformed pax record", "1024"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
