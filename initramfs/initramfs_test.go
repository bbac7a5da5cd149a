package initramfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// sample returns a tree with files of all types.
func sample(t testing.TB) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	put := func(p string, i *tree.Inode) {
		if err := tree.Put(root, p, i); err != nil {
			t.Fatal(err)
		}
	}
	put("init", tree.NewFile(0o755, content.String("#!/bin/sh\n")))
	put("dev/console", &tree.Inode{Mode: tree.TypeChar | 0o600, Major: 5, Minor: 1})
	put("bin", tree.NewLink("usr/bin"))
	put("usr/bin/empty", tree.NewFile(0o644, content.Ref{}))
	put("etc/secret", &tree.Inode{Mode: tree.TypeFile | 0o4640, UID: 7, GID: 65534, Content: content.String(strings.Repeat("abc", 7000))})
	put("run/fifo", &tree.Inode{Mode: tree.TypeFIFO | 0o600})
	put("odd name\n", tree.NewFile(0o600, content.String("x")))
	return root
}

// listing describes an initramfs, a line a file.
func listing(t testing.TB, r io.Reader) []string {
	t.Helper()
	var list []string
	err := Walk(r, func(e Entry, c io.Reader) error {
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		sum := 0
		for _, x := range b {
			sum += int(x)
		}
		list = append(list, fmt.Sprintf("%q %o %d:%d %d,%d %d %q %d", e.Name, e.Mode, e.UID, e.GID, e.Major, e.Minor, e.Size, e.Target, sum))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func written(t testing.TB, root *tree.Inode, c Compression) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(context.Background(), &b, root, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What is written is read back, and twice the same.
func TestRoundTrip(t *testing.T) {
	want := listing(t, bytes.NewReader(written(t, sample(t), None)))
	if len(want) != 12 {
		t.Fatalf("%d files: %q", len(want), want)
	}
	for _, c := range []Compression{None, Gzip, Zstd} {
		b := written(t, sample(t), c)
		if !bytes.Equal(b, written(t, sample(t), c)) {
			t.Errorf("%s: two archives differ", c)
		}
		if got := listing(t, bytes.NewReader(b)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", c, got, want)
		}
		// As dracut makes them, with microcode in front and padding around.
		early := written(t, func() *tree.Inode {
			root := tree.NewDir(0o755)
			if err := tree.Put(root, "kernel/x86/microcode/x.bin", tree.NewFile(0o644, content.String("microcode"))); err != nil {
				t.Fatal(err)
			}
			return root
		}(), None)
		padded := slices.Concat(early, make([]byte, 512-len(early)%512), b, make([]byte, 1024))
		if got := listing(t, bytes.NewReader(padded)); len(got) != len(want)+4 || !slices.Equal(got[4:], want) {
			t.Errorf("%s behind another: %q", c, got)
		}
	}
}

// The owners of the formats unpack what is written, and what they write is read.
func TestTools(t *testing.T) {
	plain := written(t, sample(t), None)
	want := listing(t, bytes.NewReader(plain))
	dir := t.TempDir()
	file := filepath.Join(dir, "plain")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(plain, "cpio", "-t", "--quiet"); err != nil {
		t.Errorf("cpio: %v", err)
	} else if n := bytes.Count(out, []byte("\n")); n != 13 { // one name has a line feed
		t.Errorf("cpio lists %d lines:\n%s", n, out)
	}
	for _, tool := range [][]string{{"gzip", "-9c"}, {"zstd", "-19c"}, {"xz", "-c", "--check=crc32"}, {"xz", "-c", "--format=lzma"},
		{"bzip2", "-c"}, {"lz4", "-lc"}} {
		packed, err := run(plain, tool...)
		if err != nil {
			t.Errorf("%v: %v", tool, err)
			continue
		}
		if got := listing(t, bytes.NewReader(packed)); !slices.Equal(got, want) {
			t.Errorf("%v: %q", tool, got)
		}
		if tool[1] == "-c" && tool[0] == "bzip2" || strings.Contains(strings.Join(tool, " "), "lzma") {
			continue // their readers take no padding, and nobody pads them
		}
		if got := listing(t, bytes.NewReader(append(slices.Clone(packed), make([]byte, 1024)...))); !slices.Equal(got, want) {
			t.Errorf("%v, padded: %q", tool, got)
		}
	}
	for c, tool := range map[Compression]string{Gzip: "gzip", Zstd: "zstd"} {
		if out, err := run(written(t, sample(t), c), tool, "-dc"); err != nil || !bytes.Equal(out, plain) {
			t.Errorf("%s -d: %d bytes, %v", tool, len(out), err)
		}
	}
}

func run(stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, msg.String())
	}
	return out.Bytes(), nil
}

func TestForKernel(t *testing.T) {
	for config, want := range map[string]Compression{
		"":                                     Gzip,
		"CONFIG_RD_GZIP=y\nCONFIG_RD_ZSTD=y\n": Zstd,
		"CONFIG_RD_GZIP=y\n# CONFIG_RD_ZSTD is not set\n": Gzip,
		"CONFIG_X=y\n": None,
	} {
		if got := ForKernel([]byte(config)); got != want {
			t.Errorf("%q: %s, want %s", config, got, want)
		}
	}
}

// Damaged archives are errors, not endless or large.
func TestDamaged(t *testing.T) {
	plain := written(t, sample(t), None)
	for name, b := range map[string][]byte{
		"empty":     {},
		"zeros":     make([]byte, 4096),
		"text":      []byte("no archive at all"),
		"truncated": plain[:len(plain)-200],
		"name":      bytes.Replace(plain, []byte("0000000B00000000init"), []byte("0000000B00000000xxxx"), 1)[:180],
		"digits":    append([]byte("070701zz"), plain[8:]...),
		"long name": append(append(slices.Clone(plain[:94]), "7FFFFFFF"...), plain[102:]...),
		"lz4":       []byte("\x02\x21\x4c\x18\xff\xff\xff\x7f"),
	} {
		if err := Walk(bytes.NewReader(b), func(Entry, io.Reader) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzWalk(f *testing.F) {
	for _, c := range []Compression{None, Gzip, Zstd} {
		f.Add(written(f, sample(f), c))
	}
	for _, tool := range [][]string{{"xz", "-c"}, {"lz4", "-lc"}} {
		packed, err := run(written(f, sample(f), None), tool...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = Walk(bytes.NewReader(b), func(e Entry, c io.Reader) error {
			if n++; n > 10000 {
				return io.EOF
			}
			_, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20))
			return err
		})
	})
}
