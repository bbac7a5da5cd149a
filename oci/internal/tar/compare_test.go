package tar

import (
	stdtar "archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"testing"
)

// pieces is a Stream of b in pieces of n bytes. Each is overwritten when the
// next is asked for, as a pool of buffers would.
type pieces struct {
	b    []byte
	n    int
	last []byte
}

func (p *pieces) Next() ([]byte, error) {
	for i := range p.last {
		p.last[i] = 0xa5
	}
	if len(p.b) == 0 {
		return nil, io.EOF
	}
	n := min(p.n, len(p.b))
	p.last = bytes.Clone(p.b[:n])
	p.b = p.b[n:]
	return p.last, nil
}

// listed is an entry with its content, in a form that two readers can be
// compared in.
type listed struct {
	Type        byte
	Name, Link  string
	Mode        int64
	UID, GID    int64
	Dev         [2]int64
	Mtime, Size int64
	Xattrs      string
	Content     string
}

// mostContent bounds what is expanded of a file: fuzzing finds sparse ones of
// exabytes.
const mostContent = 1 << 20

// ours lists an archive with Reader. The content is taken both from Content and
// from the offsets.
func ours(archive []byte, piece int) (list []listed, err error) {
	r := NewReader(&pieces{b: archive, n: piece})
	for {
		h, err := r.Next()
		if err == io.EOF {
			if err := r.Drain(); err != nil {
				return list, err
			}
			if r.Offset() != int64(len(archive)) {
				return list, fmt.Errorf("offset %d after %d bytes", r.Offset(), len(archive))
			}
			return list, nil
		}
		if err != nil {
			return list, err
		}
		var stored []byte
		if err := r.Content(func(b []byte) error { stored = append(stored, b...); return nil }); err != nil {
			return list, err
		}
		if h.Type == TypeFile {
			if int64(len(stored)) != h.Stored || !bytes.Equal(stored, archive[h.Offset:h.Offset+h.Stored]) {
				return list, fmt.Errorf("%q: content is not at offset %d", h.Name, h.Offset)
			}
		}
		e := listed{
			Type: byte(h.Type), Name: h.Name, Link: h.Linkname, Mode: h.Mode, UID: h.UID, GID: h.GID,
			Dev: [2]int64{h.Major, h.Minor}, Mtime: h.Mtime, Size: h.Size,
		}
		for _, x := range h.Xattrs {
			e.Xattrs += fmt.Sprintf("%q=%q\n", x.Name, x.Value)
		}
		e.Xattrs = sortLines(e.Xattrs)
		switch {
		case h.Type != TypeFile:
		case h.Sparse && h.Size <= mostContent:
			full := make([]byte, h.Size)
			for _, s := range h.Data {
				stored = stored[copy(full[s.Offset:s.Offset+s.Length], stored):]
			}
			e.Content = string(full)
		case !h.Sparse:
			e.Content = string(stored[:min(len(stored), mostContent)])
		}
		list = append(list, e)
	}
}

// errDiffers marks archives on which we differ from archive/tar by design.
var errDiffers = errors.New("differs by design")

// theirs lists an archive with archive/tar.
func theirs(archive []byte) (list []listed, err error) {
	r := stdtar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		switch h.Typeflag {
		case stdtar.TypeXGlobalHeader:
			continue
		case stdtar.TypeReg, stdtar.TypeCont, stdtar.TypeGNUSparse:
			h.Typeflag = stdtar.TypeReg
			if strings.HasSuffix(h.Name, "/") {
				return list, errDiffers
			}
		case stdtar.TypeLink:
			if h.Size != 0 {
				return list, errDiffers
			}
		case stdtar.TypeSymlink, stdtar.TypeChar, stdtar.TypeBlock, stdtar.TypeDir, stdtar.TypeFifo:
			h.Size = 0
		default:
			return list, errDiffers
		}
		e := listed{
			Type: h.Typeflag, Name: h.Name, Link: h.Linkname, Mode: h.Mode, UID: int64(h.Uid), GID: int64(h.Gid),
			Dev: [2]int64{h.Devmajor, h.Devminor}, Mtime: h.ModTime.Unix(), Size: h.Size,
		}
		for k, v := range h.PAXRecords {
			if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
				e.Xattrs += fmt.Sprintf("%q=%q\n", name, v)
			}
			if strings.HasPrefix(k, "LIBARCHIVE.xattr.") {
				return list, errDiffers
			}
		}
		e.Xattrs = sortLines(e.Xattrs)
		if h.Typeflag == stdtar.TypeReg && h.Size <= mostContent {
			b, err := io.ReadAll(r)
			if err != nil {
				return list, err
			}
			e.Content = string(b)
		}
		list = append(list, e)
	}
}

func sortLines(s string) string {
	lines := strings.SplitAfter(s, "\n")
	sort.Strings(lines)
	return strings.Join(lines, "")
}

// same compares both readers on an archive that both must accept.
func same(t *testing.T, archive []byte) []listed {
	t.Helper()
	want, err := theirs(archive)
	if err != nil {
		t.Fatalf("archive/tar: %v", err)
	}
	for _, n := range []int{1, 7, 511, 512, 513, 4096, 1 << 20} {
		got, err := ours(archive, n)
		if err != nil {
			t.Fatalf("pieces of %d: %v", n, err)
		}
		if len(got) != len(want) {
			t.Fatalf("pieces of %d: %d entries, archive/tar has %d", n, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("pieces of %d: entry %d\n ours  %s\n theirs %s", n, i, brief(got[i]), brief(want[i]))
			}
		}
	}
	return want
}

func brief(l listed) string {
	if len(l.Content) > 60 {
		l.Content = l.Content[:60] + "…"
	}
	return fmt.Sprintf("%+v", l)
}
