package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/pipeline"
)

// inspectDisk runs imgbuild inspect on a file, which must succeed.
func inspectDisk(t *testing.T, args ...string) *pipeline.DiskReport {
	t.Helper()
	r := run(t, command(t, append([]string{"inspect", "--json"}, args...)...))
	if r.code != 0 {
		t.Fatalf("inspect %q: exit %d\n%s", args, r.code, r.stderr)
	}
	d := &pipeline.DiskReport{}
	if err := json.Unmarshal([]byte(r.stdout), d); err != nil {
		t.Fatalf("%v in\n%s", err, r.stdout)
	}
	return d
}

// What inspect says of a disk is what the owners of the formats say, and the same
// whatever the file is.
func TestInspectDisk(t *testing.T) {
	dir, _ := build(t, "--type", "raw", "--type", "qcow2", "--type", "gce", "--type", "containerdisk",
		"--type", "vmdk", "--type", "vhdx", "--type", "ova", "--size", "3 GiB", "--no-cache", "--target-arch", "amd64", smallImage(t))
	raw := filepath.Join(dir, "image/disk.raw")
	got := inspectDisk(t, raw)
	if got.Format != "raw" || got.Size != 3<<30 || got.Table != "gpt" || got.SectorSize != 512 || len(got.Notes) != 0 {
		t.Errorf("%+v", got)
	}
	lines := strings.Split(strings.TrimSpace(check(t, "sfdisk", "fdisk", "--dump", raw)), "\n")
	n := 0
	for _, line := range lines {
		if !strings.Contains(line, "start=") {
			continue
		}
		if n == len(got.Partitions) {
			t.Fatalf("%d partitions, and there are more:\n%s", n, strings.Join(lines, "\n"))
		}
		p := got.Partitions[n]
		n++
		for _, field := range []string{fmt.Sprintf("start=%12d,", p.Start/512), fmt.Sprintf("size=%12d,", p.Size/512), "uuid=" + strings.ToUpper(p.UUID), `name="` + p.Name + `"`} {
			if !strings.Contains(line, field) {
				t.Errorf("partition %d: no %s in %s", p.Number, field, line)
			}
		}
		kind := strings.TrimSpace(check(t, "sh", "dash", "-c", fmt.Sprintf("blkid -p -o value -s TYPE --offset %d --size %d %s || true", p.Start, p.Size, raw)))
		if kind != p.FileSystem {
			t.Errorf("partition %d: %s, blkid says %s", p.Number, p.FileSystem, kind)
		}
		if p.FileSystem == "ext4" && p.Name == "boot" {
			if len(got.Entries) != 1 {
				t.Fatalf("boot entries: %+v", got.Entries)
			}
			e := got.Entries[0]
			text := check(t, "debugfs", "e2fsprogs", "-R", "cat /"+e.File, fmt.Sprintf("%s?offset=%d", raw, p.Start))
			for _, line := range []string{"title " + e.Title, "version " + e.Version, "options " + e.Options, "linux " + e.Linux, "initrd " + strings.Join(e.Initrd, " ")} {
				if !strings.Contains(text, line+"\n") {
					t.Errorf("no %q in\n%s", line, text)
				}
			}
		}
		if p.FileSystem == "vfat" {
			programs := 0
			for _, line := range strings.Fields(check(t, "mdir", "mtools", "-b", "-/", "-i", fmt.Sprintf("%s@@%d", raw, p.Start))) {
				if strings.HasSuffix(strings.ToLower(line), ".efi") {
					programs++
				}
			}
			if programs == 0 || programs != len(got.Programs) {
				t.Errorf("%d EFI programs, mdir finds %d", len(got.Programs), programs)
			}
		}
	}
	if n != len(got.Partitions) || n < 3 {
		t.Errorf("%d partitions, want %d", len(got.Partitions), n)
	}
	want, _ := json.Marshal(got.Report)
	for _, name := range []string{"qcow2/disk.qcow2", "gce/image.tar.gz", "containerdisk/image.tar", "vmdk/disk.vmdk", "vhdx/disk.vhdx", "archive/image.ova"} {
		other := inspectDisk(t, filepath.Join(dir, name))
		if text, _ := json.Marshal(other.Report); string(text) != string(want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, text, want)
		}
	}
	r := run(t, command(t, "inspect", raw))
	if want := "Boot entry:   " + got.Entries[0].Title; r.code != 0 || !strings.Contains(r.stdout, want) {
		t.Errorf("exit %d, no %q in\n%s", r.code, want, r.stdout)
	}
}

// What is no disk, and flags that say nothing of one.
func TestInspectFileBad(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	odd := file("odd", "some text")
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{filepath.Join(dir, "none")}, 3, "no such file"},
		{[]string{"none.qcow2"}, 3, "none.qcow2: no such file"},
		{[]string{"--deep", odd}, 2, "--deep: " + odd + " is a file"},
		{[]string{"--from", "qcow2", odd}, 5, odd + ": "},
		{[]string{"--from", "qcow2", "registry.example.com/os:1"}, 2, "--from: registry.example.com/os:1 is no file"},
		{[]string{file("cut.qcow2", "QFI\xfb\x00\x00\x00\x03")}, 5, "cut.qcow2: "},
	} {
		r := run(t, command(t, append([]string{"inspect"}, test.args...)...))
		if r.code != test.code || !strings.Contains(r.stderr, test.want) || r.stdout != "" {
			t.Errorf("%q: exit %d, want %d\n%s%s", test.args, r.code, test.code, r.stdout, r.stderr)
		}
	}
}
