package swap

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/disk"
	"imgbuild/filesystem"
)

const (
	id     = "0d6f7e3a-1b2c-4d5e-8f90-a1b2c3d4e5f6"
	idByte = "\x0d\x6f\x7e\x3a\x1b\x2c\x4d\x5e\x8f\x90\xa1\xb2\xc3\xd4\xe5\xf6"
)

// tool returns the path of a program.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if p := filepath.Join(dir, name); exec.Command(p, "--version").Run() == nil {
			return p
		}
	}
	t.Fatalf("needs %s (Debian package %s)", name, pkg)
	return ""
}

func write(t *testing.T, size int64, opt Options) string {
	t.Helper()
	extents, err := Write(size, opt)
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.New(size, extents)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "swap")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.NewSectionReader(d, 0, size)); err != nil {
		t.Fatal(err)
	}
	return p
}

// The bytes are those of mkswap, and its companions read them.
func TestMkswap(t *testing.T) {
	mkswap, swaplabel, blkid := tool(t, "mkswap", "util-linux"), tool(t, "swaplabel", "util-linux"), tool(t, "blkid", "util-linux")
	for _, c := range []struct {
		size  int64
		label string
	}{{MinSize, ""}, {MinSize + 1000, "a"}, {1 << 20, "swap"}, {(64 << 20) + 512, "fifteen bytes !"}} {
		p := write(t, c.size, Options{UUID: [16]byte([]byte(idByte)), Label: c.label})
		ref := filepath.Join(t.TempDir(), "ref")
		if err := os.WriteFile(ref, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(ref, c.size); err != nil {
			t.Fatal(err)
		}
		args := []string{"--uuid", id, "--pagesize", "4096"}
		if c.label != "" {
			args = append(args, "--label", c.label)
		}
		if out, err := exec.Command(mkswap, append(args, ref)...).CombinedOutput(); err != nil {
			t.Fatalf("mkswap: %v\n%s", err, out)
		}
		got, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(ref)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes, label %q: not the bytes of mkswap", c.size, c.label)
		}
		out, err := exec.Command(swaplabel, p).CombinedOutput()
		if err != nil || !strings.Contains(string(out), id) || !strings.Contains(string(out), c.label) {
			t.Errorf("swaplabel: %v\n%s", err, out)
		}
		out, err = exec.Command(blkid, "-p", "-o", "export", p).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "TYPE=swap") || !strings.Contains(string(out), "UUID="+id) {
			t.Errorf("blkid: %v\n%s", err, out)
		}
	}
}

func TestRefused(t *testing.T) {
	uuid := [16]byte{1}
	var small *filesystem.TooSmallError
	if _, err := Write(MinSize-1, Options{UUID: uuid}); !errors.As(err, &small) || small.Need != MinSize {
		t.Errorf("too small: %v", err)
	}
	for _, c := range []struct {
		size int64
		opt  Options
	}{{MinSize, Options{}}, {MinSize, Options{UUID: uuid, Label: "sixteen bytes..."}}, {(maxPages + 1) * pageSize, Options{UUID: uuid}}} {
		if _, err := Write(c.size, c.opt); err == nil {
			t.Errorf("%d bytes, %+v: no error", c.size, c.opt)
		}
	}
}
