package qemu

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"
)

// hasBootEntry checks that the firmware of a machine keeps a boot entry of a label
// for a file: variables are in its flash as they are in memory.
func hasBootEntry(t *testing.T, m *Machine, label, loader string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "vars*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("variables: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	wide := func(s string) (w []byte) {
		for _, u := range utf16.Encode([]rune(s + "\x00")) {
			w = binary.LittleEndian.AppendUint16(w, u)
		}
		return w
	}
	// What is deleted stays in the flash for a while; the label and the file are
	// some 50 bytes apart.
	at := bytes.Index(b, wide(loader))
	if at < 0 || !bytes.Contains(b[max(at-200, 0):at], wide(label)) {
		t.Errorf("the firmware has no entry %s for %s", label, loader)
	}
}
