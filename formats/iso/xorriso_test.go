package iso

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/tree"
)

// materialise writes the directories, files and links of a tree to a directory.
func materialise(t *testing.T, root *tree.Inode) string {
	t.Helper()
	dir := t.TempDir()
	err := tree.Walk(root, func(path string, i *tree.Inode) error {
		at := filepath.Join(dir, path)
		switch {
		case i.IsDir():
			return os.MkdirAll(at, 0o755)
		case i.IsLink():
			return os.Symlink(i.Target, at)
		case !i.IsFile():
			return nil
		}
		f, err := os.Create(at)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(f, i.Content.Reader())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// bootReport returns what xorriso says of the start of an ISO, without addresses,
// identifiers and what depends on them.
func bootReport(t *testing.T, name string) []string {
	t.Helper()
	out := tool(t, "xorriso", "-indev", name, "-report_el_torito", "plain", "-report_system_area", "plain")
	var lines []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		if !ok || !strings.HasPrefix(key, "El Torito") && !strings.HasPrefix(key, "System area") && !strings.HasPrefix(key, "GPT") && !strings.HasPrefix(key, "MBR") && !strings.HasPrefix(key, "Partition") {
			continue
		}
		switch key {
		case "El Torito cat path", "MBR heads per cyl", "MBR secs per head":
			// Our catalog has no name, and the protective entry of the MBR ends, as
			// UEFI wants it, where nothing can be.
			continue
		case "GPT disk GUID", "GPT partition GUID", "GPT lba range", "GPT entry array", "GPT start and size", "El Torito catalog", "MBR partition":
			value = ""
		case "El Torito boot img":
			value = regexp.MustCompile(` +\d+$`).ReplaceAllString(value, "LBA")
		}
		lines = append(lines, key+":"+value)
	}
	return lines
}

// The ISO starts in all the ways that one of xorriso does with osbuild's options,
// and has the same files.
func TestLikeXorriso(t *testing.T) {
	root := sample(t)
	opt := options(t)
	ours := write(t, root, opt)
	dir := t.TempDir()
	esp, mbr := filepath.Join(dir, "esp.img"), filepath.Join(dir, "mbr.img")
	b := make([]byte, opt.ESP.Size())
	if _, err := opt.ESP.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{esp: b, mbr: opt.BIOS.MBR} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	theirs := filepath.Join(dir, "theirs.iso")
	tool(t, "xorrisofs", "-quiet", "-o", theirs, "-R", "-J", "-iso-level", "3", "-V", opt.VolumeID, "-sysid", "LINUX",
		"--grub2-mbr", mbr, "-partition_offset", "16", "-appended_part_as_gpt", "-append_partition", "2", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", esp,
		"-iso_mbr_part_type", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
		"-b", "images/eltorito.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
		"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot", materialise(t, root))
	if diff := cmp.Diff(bootReport(t, theirs), bootReport(t, ours)); diff != "" {
		t.Errorf("start (-xorriso +ours)\n%s", diff)
	}
	for _, flag := range []string{"-R", "-J"} {
		if diff := cmp.Diff(listing(t, theirs, flag), listing(t, ours, flag)); diff != "" {
			t.Errorf("isoinfo %s (-xorriso +ours)\n%s", flag, diff)
		}
	}
	// Their reader and ours see the same in theirs.
	im, _ := open(t, theirs)
	if len(im.Boot) != 2 || im.Boot[1].PlatformName() != "uefi" || im.VolumeID != opt.VolumeID {
		t.Errorf("%+v", im.Boot)
	}
}

// listing returns the names that isoinfo finds, but for those that xorriso was not
// given or adds, and those that Joliet has no room for.
func listing(t *testing.T, name, flag string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(tool(t, "isoinfo", flag, "-f", "-i", name)) {
		path := strings.TrimSpace(line)
		if strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/boot.cat") || path == "" || len(filepath.Base(path)) >= maxJolietName && flag == "-J" {
			continue
		}
		out = append(out, path)
	}
	slices.Sort(out)
	return out
}
