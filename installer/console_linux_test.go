package installer

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"
)

// A terminal that takes nothing for a while is not waited for twice, and is heard of
// again when it does.
func TestConsoleRecovers(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := &consoles{patience: 200 * time.Millisecond, list: []*terminal{{f: w}}}
	full := bytes.Repeat([]byte("x"), 1<<20) // more than a pipe holds
	if n, err := c.Write(full); n != len(full) || err != nil || !c.list[0].dead {
		t.Fatalf("%d, %v, dead %v", n, err, c.list[0].dead)
	}
	c.patience = time.Hour
	if _, err := c.Write([]byte("lost\n")); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, r)
	for c.list[0].dead { // a stall may take longer than the try
		if _, err := c.Write([]byte("back\n")); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 5)
	if err := r.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "back\n" {
		t.Errorf("%q, %v", b, err)
	}
}
