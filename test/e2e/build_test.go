package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"imgbuild/test/image"
)

// The disk of a real image, as the owners of its formats see it.
func TestSampleDisk(t *testing.T) {
	dir, r := build(t, "--type", "raw", "--type", "qcow2", "--cache", t.TempDir(), "oci:"+sample(t))
	raw, qcow2 := filepath.Join(dir, "image/disk.raw"), filepath.Join(dir, "qcow2/disk.qcow2")
	if want := raw + "\n" + qcow2 + "\n"; r.stdout != want {
		t.Errorf("stdout %q, want %q", r.stdout, want)
	}
	for _, text := range []string{"Build complete!\n", "Results saved in " + dir + "\n"} {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("stderr lacks %q:\n%s", text, r.stderr)
		}
	}
	if out := check(t, "sgdisk", "gdisk", "-v", raw); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v: %s", out)
	}
	check(t, "qemu-img", "qemu-utils", "check", qcow2)
	check(t, "qemu-img", "qemu-utils", "compare", raw, qcow2)
	if out := check(t, "fsck.vfat", "dosfstools", "-n", partition(t, raw, 2)); strings.Contains(out, "ifference") {
		t.Errorf("fsck.vfat: %s", out)
	}
	for _, number := range []int{3, 4} {
		check(t, "e2fsck", "e2fsprogs", "-fn", partition(t, raw, number))
	}
	info, err := os.Stat(raw)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != 10<<30 {
		t.Errorf("disk of %d bytes, want 10 GiB", info.Size())
	}
	if n := allocated(info); n > 1<<30 {
		t.Errorf("the raw disk takes %d bytes", n)
	}
	if limit := int64(400 << 10); r.maxRSS > limit {
		t.Errorf("peak RSS %d KiB, limit %d", r.maxRSS, limit)
	}
	// The manifest says what plan says.
	written, err := os.ReadFile(filepath.Join(dir, "manifest-raw-qcow2.json"))
	if err != nil {
		t.Fatal(err)
	}
	plan := run(t, command(t, "plan", "--type", "raw", "--type", "qcow2", "--cache", t.TempDir(), "oci:"+sample(t)))
	if plan.code != 0 || plan.stdout != string(written) {
		t.Errorf("plan (exit %d, %s) differs from the manifest:\n%s\n%s", plan.code, plan.stderr, plan.stdout, written)
	}
	if !json.Valid(written) {
		t.Error("the manifest is no JSON")
	}
}

// Every format holds the same disk.
func TestFormats(t *testing.T) {
	dir, _ := build(t, "--type", "raw", "--type", "vmdk", "--type", "vhd", "--type", "vhdx", "--type", "vdi", "--type", "gce", "--type", "ova",
		"--size", "3 GiB", "--no-cache", "oci:"+sample(t))
	raw := filepath.Join(dir, "image/disk.raw")
	for path, format := range map[string]string{
		"vmdk/disk.vmdk": "vmdk", "vpc/disk.vhd": "vpc", "vhdx/disk.vhdx": "vhdx", "vdi/disk.vdi": "vdi",
	} {
		check(t, "qemu-img", "qemu-utils", "compare", "-f", "raw", "-F", format, raw, filepath.Join(dir, path))
		if format != "vpc" { // qemu-img has no check of it
			check(t, "qemu-img", "qemu-utils", "check", "-f", format, filepath.Join(dir, path))
		}
	}
	unpacked := t.TempDir()
	check(t, "tar", "tar", "-C", unpacked, "-xSzf", filepath.Join(dir, "gce/image.tar.gz"))
	if sum(t, filepath.Join(unpacked, "disk.raw")) != sum(t, raw) {
		t.Error("the disk in gce's archive is another one")
	}
	check(t, "tar", "tar", "-C", unpacked, "-xf", filepath.Join(dir, "archive/image.ova"))
	check(t, "qemu-img", "qemu-utils", "compare", "-f", "raw", "-F", "vmdk", raw, filepath.Join(unpacked, "image.vmdk"))
	for _, args := range [][]string{{"--type", "ami"}, {"--type", "ami", "--type", "raw"}} {
		dir, r := build(t, append(args, "--size", "3 GiB", "--no-cache", "oci:"+sample(t))...)
		if r.stdout != filepath.Join(dir, "image/disk.raw")+"\n" {
			t.Errorf("%v: stdout %q", args, r.stdout)
		}
	}
}

// A compressed raw disk unpacks to the plain one. The image is a small one, as xz
// takes its time.
func TestCompressedRaw(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	dir, _ := build(t, "--type", "raw", "--size", "min", "--no-cache", "--target-arch", "amd64", "oci:"+layout)
	want := sum(t, filepath.Join(dir, "image/disk.raw"))
	for compression, unpack := range map[string]string{"gzip": "disk.raw.gz", "xz": "disk.raw.xz", "zstd:1": "disk.raw.zst"} {
		dir, _ := build(t, "--type", "raw", "--compress", compression, "--size", "min", "--no-cache", "--target-arch", "amd64", "oci:"+layout)
		name, _, _ := strings.Cut(compression, ":")
		plain := filepath.Join(t.TempDir(), "disk.raw")
		check(t, "sh", "dash", "-c", name+` -dc "$1" | cp --sparse=always /dev/stdin "$2"`, "sh", filepath.Join(dir, "image", unpack), plain)
		if sum(t, plain) != want {
			t.Errorf("%s: another disk", compression)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "image/disk.raw.bmap")); err != nil || !bytes.Contains(b, []byte("<BlockMap>")) && !bytes.Contains(b, []byte("<BlockMap ")) {
			t.Errorf("%s: block map %v", compression, err)
		}
	}
}

// Sizes asked for are kept, and refused with what is needed where they cannot.
func TestSizes(t *testing.T) {
	cache := t.TempDir()
	for _, tc := range []struct {
		args  []string
		check func(disk, root, needed int64) bool
	}{
		{nil, func(disk, root, needed int64) bool { return disk == 10<<30 }},
		{[]string{"--size", "4 GiB"}, func(disk, root, needed int64) bool { return disk == 4<<30 }},
		{[]string{"--size", "min"}, func(disk, root, needed int64) bool { return root == needed && disk < 3<<30 }},
		{[]string{"--root-size", "3 GiB"}, func(disk, root, needed int64) bool { return root == 3<<30 }},
		{[]string{"--free-space", "20 GiB"}, func(disk, root, needed int64) bool { return root > needed+20<<30 && root < needed+23<<30 }},
		{[]string{"--size", "20 TiB"}, func(disk, root, needed int64) bool { return disk == 20<<40 }},
	} {
		r := run(t, command(t, append(append([]string{"plan", "--cache", cache}, tc.args...), "oci:"+sample(t))...))
		if r.code != 0 {
			t.Errorf("%v: exit %d: %s", tc.args, r.code, r.stderr)
			continue
		}
		var plan struct {
			Disk struct {
				Size       int64
				Partitions []struct{ Size, Needed int64 }
			}
		}
		if err := json.Unmarshal([]byte(r.stdout), &plan); err != nil {
			t.Fatal(err)
		}
		root := plan.Disk.Partitions[len(plan.Disk.Partitions)-1]
		if !tc.check(plan.Disk.Size, root.Size, root.Needed) {
			t.Errorf("%v: disk %d, root %d, needed %d", tc.args, plan.Disk.Size, root.Size, root.Needed)
		}
	}
	for _, args := range [][]string{{"--size", "1 GiB"}, {"--root-size", "40 MiB"}, {"--size", "4 GiB", "--free-space", "10 GiB"}} {
		dir := t.TempDir()
		r := run(t, command(t, append(append([]string{"--output", dir, "--cache", cache}, args...), "oci:"+sample(t))...))
		failed(t, strings.Join(args, " "), r, 7, dir)
		hint := regexp.MustCompile(`hint: .*--(root-)?size \d+MiB`)
		if !hint.MatchString(r.stderr) {
			t.Errorf("%v: no size that would do in %s", args, r.stderr)
		}
	}
	r := run(t, command(t, "--type", "gce", "--size", "10.5 GiB", "--cache", cache, "oci:"+sample(t)))
	failed(t, "a gce disk of 10.5 GiB", r, 2, "")
	// The smallest disk is one that works: its root is checked with no room left.
	dir, _ := build(t, "--type", "raw", "--size", "min", "--cache", cache, "oci:"+sample(t))
	check(t, "e2fsck", "e2fsprogs", "-fn", partition(t, filepath.Join(dir, "image/disk.raw"), 4))
}

// failed checks how a run ended that had to fail: its exit code, one line that
// says why, perhaps a hint, nothing on stdout and nothing in the output.
func failed(t *testing.T, what string, r result, code int, output string) {
	t.Helper()
	if r.code != code {
		t.Errorf("%s: exit %d, want %d: %s", what, r.code, code, r.stderr)
	}
	var messages, hints int
	for line := range strings.Lines(r.stderr) {
		switch {
		case strings.HasPrefix(line, "hint: "):
			hints++
		case strings.HasPrefix(line, "imgbuild: warning: "):
		case strings.HasPrefix(line, "imgbuild: "):
			messages++
		}
		if strings.Contains(line, "goroutine ") || strings.Contains(line, "panic") {
			t.Errorf("%s: a crash: %s", what, r.stderr)
		}
	}
	if messages != 1 || hints > 1 {
		t.Errorf("%s: %d messages and %d hints, want one line and at most one hint:\n%s", what, messages, hints, r.stderr)
	}
	if r.stdout != "" {
		t.Errorf("%s: stdout %q", what, r.stdout)
	}
	if output != "" {
		if left := files(t, output); len(left) > 0 {
			t.Errorf("%s: left behind: %v", what, left)
		}
	}
}

// Equal input gives equal bytes, whatever the machine is doing and however it is
// set up.
func TestDeterministic(t *testing.T) {
	warm := t.TempDir()
	runs := []struct {
		name string
		args []string
		env  []string
		wrap string // shell command line around imgbuild
		load bool
	}{
		{name: "cold cache", args: []string{"--cache", warm}},
		{name: "warm cache", args: []string{"--cache", warm}, env: []string{"TZ=Asia/Kathmandu", "LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8"}},
		{name: "one thread", args: []string{"--no-cache"}, env: []string{"GOMAXPROCS=1", "TZ=UTC"}},
		{name: "umask and load", args: []string{"--no-cache"}, wrap: `umask 077; exec "$0" "$@"`, load: true},
	}
	var first [2]string
	for _, tc := range runs {
		dir := t.TempDir()
		args := append(append([]string{"--output", dir, "--type", "raw", "--type", "qcow2", "--size", "3 GiB"}, tc.args...), "oci:"+sample(t))
		cmd := command(t, args...)
		if tc.wrap != "" {
			cmd = exec.Command("sh", append([]string{"-c", tc.wrap, binary(t)}, args...)...)
			cmd.Dir = t.TempDir()
		}
		cmd.Env = append(os.Environ(), tc.env...)
		stop := make(chan struct{})
		if tc.load {
			for range runtime.NumCPU() {
				go func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
					}
				}()
			}
		}
		r := run(t, cmd)
		close(stop)
		if r.code != 0 {
			t.Fatalf("%s: exit %d: %s", tc.name, r.code, r.stderr)
		}
		sums := [2]string{sum(t, filepath.Join(dir, "image/disk.raw")), sum(t, filepath.Join(dir, "qcow2/disk.qcow2"))}
		if first[0] == "" {
			first = sums
		} else if sums != first {
			t.Errorf("%s: raw and qcow2 are %v, at first they were %v", tc.name, sums, first)
		}
	}
	dir, _ := build(t, "--type", "raw", "--size", "3 GiB", "--cache", warm, "--seed", "another", "oci:"+sample(t))
	if sum(t, filepath.Join(dir, "image/disk.raw")) == first[0] {
		t.Error("--seed changes nothing")
	}
}

// A build makes no system call that needs a privilege, and runs nothing.
func TestNoPrivilegedCalls(t *testing.T) {
	strace := tool(t, "strace", "strace")
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-qq", "-o", trace,
		"-e", "trace=execve,execveat,mount,umount2,fsopen,fsmount,move_mount,open_tree,unshare,setns,chroot,pivot_root,clone,clone3,fork,vfork,mknod,mknodat,ioctl,init_module,finit_module,ptrace,setuid,setgid,setresuid,setresgid,socket",
		binary(t), "--type", "raw", "--type", "qcow2", "--output", t.TempDir(), "--no-cache", "oci:"+sample(t))
	cmd.Dir = t.TempDir()
	if r := run(t, cmd); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	execs := 0
	for line := range strings.Lines(string(text)) {
		_, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		switch {
		case strings.HasPrefix(call, "execve(") && strings.Contains(call, binary(t)):
			execs++
		case (strings.HasPrefix(call, "clone(") || strings.HasPrefix(call, "clone3(")) && strings.Contains(call, "CLONE_THREAD") && !strings.Contains(call, "CLONE_NEW"):
		case strings.Contains(call, "resumed>"), strings.HasPrefix(call, "---"), strings.HasPrefix(call, "+++"):
		case strings.HasPrefix(call, "ioctl(") && !strings.Contains(call, "LOOP_") && !strings.Contains(call, "DM_"):
		default:
			t.Errorf("system call: %s", line)
		}
	}
	if execs != 1 {
		t.Errorf("%d programs were run, want imgbuild alone", execs)
	}
}

// A build changes nothing outside its output, its cache and its temporary
// directory.
func TestTouchesOnlyItsOwn(t *testing.T) {
	strace := tool(t, "strace", "strace")
	trace, output, cache, temp := filepath.Join(t.TempDir(), "trace"), t.TempDir(), t.TempDir(), t.TempDir()
	cmd := exec.Command(strace, "-f", "-qq", "-s", "4096", "-o", trace, "-e",
		"trace=open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmodat,chown,fchownat,truncate,utimensat,mknod,mknodat,setxattr,lsetxattr",
		binary(t), "--type", "raw", "--output", output, "--cache", cache, "oci:"+sample(t))
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+temp)
	if r := run(t, cmd); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	paths := regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)
	changes := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "open") && !regexp.MustCompile(`O_(WRONLY|RDWR|CREAT|TRUNC)`).MatchString(line) {
			continue
		}
		for _, m := range paths.FindAllStringSubmatch(line, -1) {
			changes++
			ours := false
			for _, dir := range []string{output, cache, temp} {
				ours = ours || strings.HasPrefix(m[1], dir)
			}
			if !ours && m[1] != "/dev/null" && !strings.HasPrefix(m[1], "/sys/kernel/mm/transparent_hugepage") {
				t.Errorf("changes something else: %s", line)
			}
		}
	}
	if changes == 0 {
		t.Error("the trace shows no change at all")
	}
}

// A signal stops a build within a second and leaves nothing.
func TestInterrupt(t *testing.T) {
	cache := t.TempDir()
	_, r := build(t, "--type", "raw", "--type", "qcow2", "--no-cache", "oci:"+sample(t))
	// How long builds take, and how long programs take to start: the machine has
	// other work, now more, now less.
	took, starts := map[bool]time.Duration{false: r.wall, true: r.wall}, 50*time.Millisecond
	const signals = 12
	early, late := 0, 0
	for i, tries := 0, 0; i < signals; tries++ {
		if tries == 8*signals {
			t.Fatalf("only %d of %d builds were stopped", i, tries)
		}
		dir, temp := t.TempDir(), t.TempDir()
		args := []string{"--output", filepath.Join(dir, "new"), "--type", "raw", "--type", "qcow2", "--cache", cache}
		cached := i%2 == 1
		if !cached {
			args = append(args[:len(args)-2], "--no-cache")
		}
		cmd := command(t, append(args, "oci:"+sample(t))...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		sig := []os.Signal{os.Interrupt, syscall.SIGTERM}[i/2%2]
		var at time.Time
		sent := make(chan struct{})
		timer := time.AfterFunc(took[cached]*time.Duration(i)/14+starts, func() {
			defer close(sent)
			if cmd.Process != nil {
				at = time.Now()
				_ = cmd.Process.Signal(sig)
			}
		})
		r := run(t, cmd)
		ended := time.Now()
		if !timer.Stop() {
			<-sent
		}
		what := fmt.Sprintf("interrupt %d", i)
		switch {
		case r.code == 0:
			took[cached] = min(took[cached], r.wall) // it was faster
			continue
		case r.code == -1 && r.stderr == "" && early < signals:
			// It had not come to its first line yet, where signals are asked for.
			early++
			starts *= 2
		default:
			failed(t, what, r, 130, dir)
			// What the machine does otherwise may make it wait, but not each time.
			if waited := ended.Sub(at); waited <= time.Second {
				i, late = i+1, 0
			} else if late++; late == 5 {
				t.Fatalf("%s: stopped after %v, the fifth time too late", what, waited)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v in the output", what, left)
		}
		if left, _ := os.ReadDir(temp); len(left) > 0 {
			t.Errorf("%s: left %v in TMPDIR", what, left)
		}
	}
	// What is in the cache is whole: the next build uses or repairs it.
	a, _ := build(t, "--type", "raw", "--size", "3 GiB", "--cache", cache, "oci:"+sample(t))
	b, _ := build(t, "--type", "raw", "--size", "3 GiB", "--no-cache", "oci:"+sample(t))
	if sum(t, filepath.Join(a, "image/disk.raw")) != sum(t, filepath.Join(b, "image/disk.raw")) {
		t.Error("the build after interruptions differs")
	}
}

// Existing results are replaced by a build that succeeds and kept by one that
// does not.
func TestReplace(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "qcow2/disk.qcow2")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o666); err != nil {
		t.Fatal(err)
	}
	r := run(t, command(t, "--output", dir, "--no-cache", "--size", "100 MiB", "oci:"+layout))
	if r.code == 0 {
		t.Fatal("a disk of 100 MiB was built")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the older result is %q, %v", b, err)
	}
	if r := run(t, command(t, "--output", dir, "--no-cache", "oci:"+layout)); r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	check(t, "qemu-img", "qemu-utils", "check", path)
}
