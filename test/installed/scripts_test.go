//go:build linux

package installed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"imgbuild/installer/scripts"
	"imgbuild/kickstart"
	"imgbuild/pipeline"
)

// scriptDisk builds a disk and makes its partitions block devices.
func scriptDisk(t *testing.T, layout string, args ...string) *scripts.Target {
	t.Helper()
	disk := rawDisk(t, layout, args...)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(disk)), "manifest-raw.json"))
	if err != nil {
		t.Fatal(err)
	}
	var plan pipeline.Plan
	if err := json.Unmarshal(text, &plan); err != nil {
		t.Fatal(err)
	}
	target, err := scripts.NewTarget(&plan, func(number int) string {
		start, size := extent(t, disk, number)
		loop := strings.TrimSpace(run(t, "losetup", "--find", "--show", "--offset", fmt.Sprint(start), "--sizelimit", fmt.Sprint(size), disk))
		t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })
		return loop
	})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func parseKickstart(t *testing.T, text string) []kickstart.Script {
	t.Helper()
	f, err := kickstart.Parse("ks.cfg", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f.Scripts
}

// noMounts fails where something is still mounted below dir.
func noMounts(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), " "+dir) {
		t.Errorf("still mounted:\n%s", text)
	}
}

// Scripts of a kickstart run in the installed system as it will see itself, and what
// they write is on the disk.
func TestKickstartScripts(t *testing.T) {
	needRoot(t)
	target := scriptDisk(t, path(t, "IMGBUILD_SAMPLE_FEDORALIKE", "../../.cache/sample-fedoralike"))
	dir := t.TempDir()
	var out bytes.Buffer
	o := scripts.Options{Output: &out, Dir: dir}
	pre := filepath.Join(dir, "pre")
	list := parseKickstart(t, `
%pre --log=`+dir+`/logs/pre.log
echo before >`+pre+`
echo said
%end
%post --nochroot
test -e `+dir+`/mnt/sysimage/ostree/repo/config && cp `+pre+` `+dir+`/mnt/sysroot/etc/pre
%end
%post --erroronfail --interpreter=/bin/sh --log=/var/log/post.log
set -e
echo in-etc >/etc/made
mkdir -p /var/lib/made
echo in-var >/var/lib/made/file
echo in-boot >/boot/made
( echo in-esp >/boot/efi/made ) 2>/dev/null || :
test -e /sysroot/ostree/repo/config
test -r /proc/1/status
test -c /dev/null
echo run >/run/x
echo tmp >/tmp/x
echo printed
( echo no >/usr/made ) 2>/dev/null && exit 3
ls -d /usr/bin
exit 0
%end
%post
exit 7
%end
`)
	if err := scripts.RunPre(t.Context(), list, o); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	// Below /var there may be a file system that has no labels.
	more := *target
	for _, m := range target.Mounts {
		if m.Type == "vfat" {
			m.Where = "/var/fat"
			more.Mounts = append(slices.Clone(target.Mounts), m)
		}
	}
	if len(more.Mounts) == len(target.Mounts) {
		t.Error("the disk has no FAT")
	}
	if err := scripts.RunPost(t.Context(), list, &more, o); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	noMounts(t, dir)
	for _, want := range []string{"said\n", "printed\n", "%post in line 26 of the kickstart: exit status 7\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if log, err := os.ReadFile(dir + "/logs/pre.log"); err != nil || string(log) != "said\n" {
		t.Errorf("log of %%pre: %q, %v", log, err)
	}
	// Not every kernel that tests run on has FAT.
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	fat := strings.Contains(string(known), "\tvfat\n")
	if noted := strings.Contains(out.String(), "/boot/efi is not there: the installer's kernel has no vfat\n"); noted == fat {
		t.Errorf("the kernel has FAT: %v\n%s", fat, out.String())
	}
	root := t.TempDir()
	for _, m := range target.Mounts {
		where := filepath.Join(root, m.Where)
		if m.Type == "vfat" && !fat {
			continue
		}
		run(t, "mount", m.Source, where)
		defer func() { _ = syscall.Unmount(where, syscall.MNT_DETACH) }()
	}
	etc := filepath.Join(root, target.Deployment, "etc")
	for _, f := range [][2]string{
		{filepath.Join(etc, "made"), "in-etc\n"}, {filepath.Join(etc, "pre"), "before\n"},
		{filepath.Join(root, target.Var, "lib/made/file"), "in-var\n"}, {filepath.Join(root, target.Var, "log/post.log"), "printed\n/usr/bin\n"},
		{filepath.Join(root, "boot/made"), "in-boot\n"}, {filepath.Join(root, "boot/efi/made"), "in-esp\n"},
	} {
		if !fat && strings.Contains(f[0], "/efi/") {
			continue
		}
		if text, err := os.ReadFile(f[0]); err != nil || string(text) != f[1] {
			t.Errorf("%s: %q, %v", f[0], text, err)
		}
	}
	label := make([]byte, 256)
	for name, want := range map[string]string{filepath.Join(etc, "made"): ":etc_t:", filepath.Join(root, target.Var, "lib/made/file"): ":var_lib_t:"} {
		if n, err := unix.Lgetxattr(name, "security.selinux", label); err != nil || !strings.Contains(string(label[:max(n, 0)]), want) {
			t.Errorf("label of %s: %q, %v", name, label[:max(n, 0)], err)
		}
	}
}

// A script that fails ends the installation where it says so, one that hangs when it
// is interrupted, and nothing stays mounted.
func TestKickstartScriptsFail(t *testing.T) {
	needRoot(t)
	target := scriptDisk(t, path(t, "IMGBUILD_SAMPLE", "../../.cache/sample"))
	dir := t.TempDir()
	var out bytes.Buffer
	o := scripts.Options{Output: &out, Dir: dir}
	for text, want := range map[string]string{
		"%post --erroronfail\nexit 5\n%end\n":                                             "%post in line 1 of the kickstart: exit status 5",
		"\n%post --erroronfail --interpreter=/bin/none\nexit 5\n%end\n":                   "%post in line 2 of the kickstart: interpreter /bin/none: no such file or directory",
		"%post --erroronfail\nkill -9 $$\n%end\n":                                         "%post in line 1 of the kickstart: signal: killed",
		"%post --erroronfail --log=/usr/x\ntrue\n%end\n":                                  "%post in line 1 of the kickstart: --log: open",
		"%post --erroronfail\nsleep 1000 & echo left $!; exit 0\n%end\n%post\ntrue\n%end": "",
	} {
		err := scripts.RunPost(t.Context(), parseKickstart(t, text), target, o)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
		noMounts(t, dir)
	}
	// What was left behind keeps the file system, and so the disk.
	var left int
	if _, rest, ok := strings.Cut(out.String(), "left "); !ok {
		t.Errorf("nothing was left behind:\n%s", out.String())
	} else if _, err := fmt.Sscan(rest, &left); err != nil {
		t.Error(err)
	} else if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Errorf("what was left behind: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := scripts.RunPost(ctx, parseKickstart(t, "%post\nsleep 1000\n%end\n"), target, o)
	if err == nil || ctx.Err() == nil {
		t.Errorf("interrupted: %v", err)
	}
	noMounts(t, dir)
	if err := scripts.RunPost(t.Context(), nil, nil, o); err != nil {
		t.Errorf("without scripts: %v", err)
	}
}
