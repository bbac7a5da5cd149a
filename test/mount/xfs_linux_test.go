package mount

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"imgbuild/content"
	"imgbuild/filesystem/xfs"
	"imgbuild/test/fstest"
	"imgbuild/tree"
)

// xfsTree returns richTree as far as XFS can hold it, and more of what it has
// several forms of.
func xfsTree(t testing.TB) *tree.Inode {
	root := richTree(t)
	for _, name := range []string{"4095", "labelled-4095"} { // more than 1023
		tree.Lookup(root, "links").Remove(name)
	}
	for _, name := range []string{"b[4095 1048575]", "c[4095 1048575]"} { // beyond 9 and 18 bits
		dev := tree.Lookup(root, "devices/"+name)
		if dev == nil {
			t.Fatal(name)
		}
		dev.Major, dev.Minor = 1<<9-1, 1<<18-1
	}
	put := func(path string, i *tree.Inode) *tree.Inode {
		if err := tree.Put(root, path, i); err != nil {
			t.Fatal(err)
		}
		return i
	}
	// XFS shows lists under its own names too.
	for _, p := range []string{"attributes/list", "attributes/dir"} {
		i := tree.Lookup(root, p)
		for _, names := range [][2]string{{"system.posix_acl_access", "trusted.SGI_ACL_FILE"}, {"system.posix_acl_default", "trusted.SGI_ACL_DEFAULT"}} {
			if value, ok := i.Xattr(names[0]); ok {
				i.SetXattr(names[1], xfsACL(value))
			}
		}
	}
	for _, n := range []int{287, 288, 289, 335, 336, 337, 1022, 1023} {
		put(fmt.Sprint("links/", n), tree.NewLink(strings.Repeat("l", n)))
		put(fmt.Sprint("links/labelled-", n), tree.NewLink(strings.Repeat("l", n))).SetXattr("security.selinux", strings.Repeat("s", n/10+1))
	}
	for _, n := range []int{254, 255, 256, 264, 265, 2000, 3060, 3063, 3064, 3070, 4040, 4041, 20000, 65536} {
		put(fmt.Sprint("attributes/file-", n), tree.NewFile(0o644, content.String("x"))).SetXattr("user.test", strings.Repeat("v", n))
		put(fmt.Sprint("attributes/dir-", n), tree.NewDir(0o755)).SetXattr("security.test", strings.Repeat("v", n))
		put(fmt.Sprint("attributes/link-", n), tree.NewLink("x")).SetXattr("trusted.test", strings.Repeat("v", n))
		put(fmt.Sprint("attributes/device-", n), &tree.Inode{Mode: tree.TypeChar | 0o600}).SetXattr("trusted.test", strings.Repeat("v", n))
	}
	many := put("attributes/many", tree.NewFile(0o644, content.String("x")))
	for i := range 2000 {
		many.SetXattr(fmt.Sprintf("%s.%d", []string{"user", "trusted", "security"}[i%3], i/3), strings.Repeat("v", i%400))
	}
	for _, n := range []int{0, 1, 20, 30, 31, 32, 100, 110, 120, 130, 490, 495, 500, 2000} {
		d := put(fmt.Sprint("dirs/", n), tree.NewDir(0o755))
		for i := range n {
			d.Set(fmt.Sprintf("%03d", i), tree.NewFile(0o644, content.String(fmt.Sprint(i))))
		}
	}
	link := tree.Lookup(root, "hard/one")
	many = put("dirs/links", tree.NewDir(0o755))
	for i := range 70000 {
		many.Set(fmt.Sprint(i), link)
	}
	return root
}

// xfsACL converts an access control list to the form that XFS stores.
func xfsACL(value string) string {
	in := []byte(value)[4:]
	out := binary.BigEndian.AppendUint32(nil, uint32(len(in)/8))
	for ; len(in) > 0; in = in[8:] {
		out = binary.BigEndian.AppendUint32(out, uint32(binary.LittleEndian.Uint16(in)))
		out = binary.BigEndian.AppendUint32(out, binary.LittleEndian.Uint32(in[4:]))
		out = binary.BigEndian.AppendUint16(out, binary.LittleEndian.Uint16(in[2:]))
		out = append(out, 0, 0)
	}
	return string(out)
}

func xfsImage(t testing.TB, root *tree.Inode, size int64, opt xfs.Options) string {
	t.Helper()
	extents, err := xfs.Write(context.Background(), root, size, opt)
	if err != nil {
		t.Fatal(err)
	}
	return materialise(t, extents, size)
}

// xfsVariants are options that change the format. Each has a UUID of its own.
func xfsVariants() map[string]xfs.Options {
	variants := map[string]xfs.Options{
		"default": {},
		"plain":   {Features: xfs.NoFeatures},
		"rmapbt":  {Features: xfs.DefaultFeatures | xfs.Rmapbt},
		"nrext64": {Features: xfs.DefaultFeatures | xfs.Rmapbt | xfs.NrExt64},
		"today":   {Features: xfs.DefaultFeatures | xfs.Rmapbt | xfs.NrExt64 | xfs.ExchangeRange | xfs.Parent},
		"stripes": {Features: xfs.DefaultFeatures | xfs.Rmapbt, StripeUnit: 64 << 10, StripeWidth: 256 << 10},
		"sectors": {SectorSize: 4096, AGCount: 2},
	}
	for name, opt := range variants {
		copy(opt.UUID[:], name)
		opt.Label, opt.Time = "test", 1700000000
		variants[name] = opt
	}
	return variants
}

// xfsCheck fails the test when xfs_repair finds something.
func xfsCheck(t testing.TB, image string) {
	t.Helper()
	out, err := fstest.XFSRepair(t, "-f", image)
	if err != nil {
		t.Fatalf("xfs_repair: %v\n%s", err, out)
	}
	for _, bad := range []string{"would ", "bad ", "ALERT", "corrupt"} {
		if strings.Contains(strings.ReplaceAll(out, "would be", ""), bad) {
			t.Fatal(out)
		}
	}
}

// kernelLog returns what XFS complained of on a device since the last call.
func kernelLog(device string, since int) (complaints string, end int) {
	return kernelLogOf("XFS ("+filepath.Base(device)+")", []string{"Corruption", "corrupt", "failed", "error", "Metadata"}, since)
}

// kernelLogOf returns the lines of the kernel's log with name and one of the bad
// words in them, since the last call. It is empty where the log cannot be read.
func kernelLogOf(name string, words []string, since int) (complaints string, end int) {
	buffer := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buffer)
	if err != nil {
		return "", since
	}
	var found []string
	for line := range bytes.Lines(buffer[:n]) {
		if !bytes.Contains(line, []byte(name)) {
			continue
		}
		for _, bad := range words {
			if bytes.Contains(line, []byte(bad)) {
				found = append(found, string(line))
				break
			}
		}
	}
	return strings.Join(found[min(since, len(found)):], ""), len(found)
}

// TestXFSReadOnly compares file systems with their tree.
func TestXFSReadOnly(t *testing.T) {
	needRoot(t)
	root := xfsTree(t)
	for name, opt := range xfsVariants() {
		t.Run(name, func(t *testing.T) {
			for _, free := range []int64{0, 1 << 30, 30 << 30} {
				size, err := xfs.Size(root, free, opt)
				if err != nil {
					t.Fatal(err)
				}
				want := root
				if opt.Features == xfs.NoFeatures {
					want = before2038(t, root)
				}
				image := xfsImage(t, root, size, opt)
				args := []string{"-r"}
				if opt.SectorSize > 0 {
					args = append(args, "-b", "4096")
				}
				device := attach(t, image, args...)
				_, start := kernelLog(device, 0)
				mounted(t, "xfs", "ro", device, func(dir string) {
					if d := Compare(want, dir); d != "" {
						t.Errorf("%d bytes:\n%s", size, d)
					}
				})
				if said, _ := kernelLog(device, start); said != "" {
					t.Errorf("%d bytes: %s", size, said)
				}
			}
		})
	}
}

// before2038 returns a copy of the tree with times as they are without bigtime.
func before2038(t testing.TB, root *tree.Inode) *tree.Inode {
	copies := map[*tree.Inode]*tree.Inode{}
	var copyOf func(i *tree.Inode) *tree.Inode
	copyOf = func(i *tree.Inode) *tree.Inode {
		if c := copies[i]; c != nil {
			return c
		}
		c := i.Copy()
		copies[i] = c
		c.Mtime = min(c.Mtime, 1<<31-1)
		for _, e := range i.Entries() {
			c.Set(e.Name, copyOf(e.Inode))
		}
		return c
	}
	return copyOf(root)
}

// TestXFSWrite has the kernel change and grow file systems.
func TestXFSWrite(t *testing.T) {
	needRoot(t)
	root := xfsTree(t)
	for name, opt := range xfsVariants() {
		t.Run(name, func(t *testing.T) {
			size, err := xfs.Size(root, 300<<20, opt)
			if err != nil {
				t.Fatal(err)
			}
			image := xfsImage(t, root, size, opt)
			var args []string
			if opt.SectorSize > 0 {
				args = append(args, "-b", "4096")
			}
			device := attach(t, image, args...)
			_, start := kernelLog(device, 0)
			mounted(t, "xfs", "rw", device, func(dir string) {
				xfsUse(t, dir)
				xfsGrow(t, image, device, dir, 5<<30)
				for i := range 200 {
					write(t, filepath.Join(dir, "dirs/2000", fmt.Sprint("late-", i)), 1_000_000)
				}
			})
			if said, _ := kernelLog(device, start); said != "" {
				t.Error(said)
			}
			xfsCheck(t, image)
		})
	}
}

// xfsUse writes 10,000 files and removes most, and changes what is there.
func xfsUse(t testing.TB, dir string) {
	t.Helper()
	change(t, dir)
	for i := range 10000 {
		parent := filepath.Join(dir, "dirs", []string{"0", "31", "130", "500", "2000", "links"}[i%6])
		write(t, filepath.Join(parent, fmt.Sprint("new-", i)), i)
	}
	for i := range 9000 {
		parent := filepath.Join(dir, "dirs", []string{"0", "31", "130", "500", "2000", "links"}[i%6])
		if err := os.Remove(filepath.Join(parent, fmt.Sprint("new-", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60000 {
		if err := os.Remove(filepath.Join(dir, "dirs/links", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{254, 264, 3063, 4041, 65536} {
		for _, kind := range []string{"file", "dir", "link"} {
			name := filepath.Join(dir, "attributes", fmt.Sprint(kind, "-", n))
			for k := range 20 {
				if err := unix.Lsetxattr(name, fmt.Sprint("trusted.new-", k), bytes.Repeat([]byte("n"), 40*k), 0); err != nil {
					t.Fatal(err)
				}
			}
			run(t, "chcon", "-h", "system_u:object_r:etc_t:s0:c1.c1023", name)
		}
		if err := unix.Lremovexattr(filepath.Join(dir, "attributes", fmt.Sprint("file-", n)), "user.test"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		name := fmt.Sprintf("%s.%d", []string{"user", "trusted", "security"}[i%3], i/3)
		if err := unix.Removexattr(filepath.Join(dir, "attributes/many"), name); err != nil {
			t.Fatal(err)
		}
	}
}

// xfsGrow grows a mounted file system to size bytes.
func xfsGrow(t testing.TB, image, device, dir string, size int64) {
	t.Helper()
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	run(t, "losetup", "-c", device)
	run(t, "xfs_growfs", dir)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if got := int64(st.Blocks) * st.Bsize; got < size-200<<20 {
		t.Errorf("%d bytes after growing to %d", got, size)
	}
}

// TestXFSTight mounts file systems without free space but for what Linux keeps
// to itself, of which it must not complain.
func TestXFSTight(t *testing.T) {
	needRoot(t)
	root := xfsTree(t)
	spool := noise(50, 8<<20)
	for i := range 60 {
		root.Set(fmt.Sprint("fill-", i), tree.NewFile(0o644, spool.Slice(int64(i), 7<<20)))
	}
	for name, opt := range xfsVariants() {
		if name == "plain" || name == "stripes" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			size, err := xfs.Size(root, 0, opt)
			if err != nil {
				t.Fatal(err)
			}
			image := xfsImage(t, root, size, opt)
			var args []string
			if opt.SectorSize > 0 {
				args = append(args, "-b", "4096")
			}
			device := attach(t, image, args...)
			_, start := kernelLog(device, 0)
			mounted(t, "xfs", "rw", device, func(dir string) {
				if err := os.Remove(filepath.Join(dir, "fill-0")); err != nil {
					t.Fatal(err)
				}
				xfsGrow(t, image, device, dir, size+2<<30)
				write(t, filepath.Join(dir, "new"), 100<<20)
			})
			if said, _ := kernelLog(device, start); said != "" {
				t.Errorf("%d bytes: %s", size, said)
			}
			xfsCheck(t, image)
		})
	}
}
