package pipeline

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"imgbuild/filesystem/xfs"
)

// The features for a kernel are those of the configuration that xfsprogs has for
// it.
func TestXFSFeaturesOfKernels(t *testing.T) {
	tool, err := exec.LookPath("mkfs.xfs")
	if err == nil {
		tool, err = filepath.EvalSymlinks(tool)
	}
	if err != nil {
		t.Fatalf("this test needs xfsprogs: %v", err)
	}
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(tool), "../root/usr/share/xfsprogs/mkfs/lts_*.conf"))
	if len(found) < 8 {
		t.Fatalf("configurations of xfsprogs: %q: make tools makes them", found)
	}
	keys := map[string]xfs.Features{
		"finobt": xfs.Finobt, "rmapbt": xfs.Rmapbt, "reflink": xfs.Reflink, "inobtcount": xfs.InobtCount,
		"bigtime": xfs.Bigtime, "nrext64": xfs.NrExt64, "exchange": xfs.ExchangeRange, "parent": xfs.Parent,
	}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var want xfs.Features
		for _, m := range regexp.MustCompile(`(?m)^(\w+)=(\d)`).FindAllStringSubmatch(string(text), -1) {
			if m[2] == "1" {
				want |= keys[m[1]]
			}
			if m[1] == "metadir" && m[2] == "1" {
				t.Errorf("%s has metadata directories", name)
			}
		}
		version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "lts_"), ".conf")
		if got := xfsFeatures(version+".7-test", false); got != want {
			t.Errorf("Linux %s: features %#x, xfsprogs has %#x", version, got, want)
		}
		// The kernel before has not more than that.
		dot := strings.IndexByte(version, '.')
		minor, _ := strconv.Atoi(version[dot+1:])
		if before := xfsFeatures(version[:dot+1]+strconv.Itoa(minor-1), false); minor > 0 && before&^want != 0 {
			t.Errorf("Linux before %s: features %#x, more than %#x", version, before, want)
		}
	}
}

func TestXFSFeatures(t *testing.T) {
	const rhel9 = xfs.DefaultFeatures
	const rhel10 = rhel9 | xfs.Rmapbt | xfs.NrExt64
	const newest = rhel10 | xfs.ExchangeRange | xfs.Parent
	for _, tc := range []struct {
		kernel string
		read   bool
		grub   []string
		want   xfs.Features
	}{
		{"5.14.0-570.el9.x86_64", true, []string{"grub2-efi-x64-1:2.06-95.el9.x86_64,shim-x64-15.8-3.x86_64", "grub2-tools-1:2.06-95.el9.x86_64"}, rhel9},
		{"6.12.0-55.el10.x86_64", false, nil, rhel10},
		{"6.12.0-55.el10.x86_64", true, []string{"grub2-efi-x64-1:2.12-15.el10.x86_64,shim-x64-15.8-3.x86_64"}, rhel10},
		{"6.12.0-55.el10.x86_64", true, []string{"shim-x64-15.8-3.x86_64,grub2-efi-x64-1:2.06-15.x86_64"}, rhel10 &^ xfs.NrExt64},
		{"7.2.12+deb14-cloud-amd64", false, []string{"grub-efi-amd64-signed-1+2.12+9"}, newest},
		{"7.2.12+deb14-cloud-amd64", true, []string{"grub-efi-amd64-signed-1+2.14+9", ""}, newest},
		{"7.2.12+deb14-cloud-amd64", true, []string{"grub-efi-amd64-signed-1+2.14+9", "grub-pc-2.12-9"}, rhel10},
		{"7.2.12", true, []string{"grub-pc-2.04-9"}, rhel9&^xfs.Bigtime | xfs.Rmapbt},
		{"7.2.12", true, nil, rhel9 | xfs.Rmapbt},
		{"7.2.12", true, []string{"grub-2,shim-1"}, rhel9 | xfs.Rmapbt},
		{"custom", true, nil, xfs.DefaultFeatures},
	} {
		if got := xfsFeatures(tc.kernel, tc.read, tc.grub...); got != tc.want {
			t.Errorf("%s, read %v by %q: %#x, want %#x", tc.kernel, tc.read, tc.grub, got, tc.want)
		}
	}
}
