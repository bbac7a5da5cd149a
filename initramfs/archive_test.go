package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestWriter(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	want := []string{"medium dir"}
	size := EntrySize("medium", 0) + EndSize()
	if err := w.Dir("medium"); err != nil {
		t.Fatal(err)
	}
	for n := range 9 {
		name, text := "medium/"+strings.Repeat("n", n+1), strings.Repeat("x", n)
		if err := w.File(name, int64(n), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(name, " ", text))
		size += EntrySize(name, int64(n))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if int64(b.Len()) != size {
		t.Errorf("%d bytes, not %d", b.Len(), size)
	}
	var got []string
	err := Walk(&b, func(e Entry, r io.Reader) error {
		text, err := io.ReadAll(r)
		if e.Mode == 0o040755 {
			text = []byte("dir")
		}
		got = append(got, e.Name+" "+string(text))
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if err := w.File("x", 1<<32, nil); err == nil || !strings.Contains(err.Error(), "more than the format can express") {
		t.Errorf("4 GiB: %v", err)
	}
	if err := NewWriter(io.Discard).File("x", 10, strings.NewReader("short")); err == nil {
		t.Error("content that is cut short is taken")
	}
}
