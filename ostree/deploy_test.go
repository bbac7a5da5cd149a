package ostree

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/tree"
)

const (
	testKernel = "7.1.0-test"
	modules    = "usr/lib/modules/" + testKernel
	testTime   = 1750000000
)

// testOS is a small OS tree with all that a deployment treats in its own way.
func testOS(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	for _, d := range []string{"boot", "dev", "proc", "run", "sys", "sysroot", "tmp"} {
		put(t, root, d, tree.NewDir(0o755))
	}
	root.Child("tmp").Mode |= 0o1777
	put(t, root, "ostree", tree.NewLink("sysroot/ostree"))
	put(t, root, "bin", tree.NewLink("usr/bin"))
	put(t, root, modules+"/vmlinuz", file(0o755, "kernel"))
	put(t, root, modules+"/initramfs.img", file(0o600, "initramfs"))
	put(t, root, "usr/lib/os-release", file(0o644, "ID=test\nPRETTY_NAME=\"Test OS 1\"\n"))
	put(t, root, "usr/lib/tmpfiles.d/x.conf", file(0o644, "# x"))
	put(t, root, "usr/lib/empty", file(0o644, ""))
	put(t, root, "usr/bin/one", file(0o755, "same"))
	put(t, root, "usr/bin/two", file(0o755, "same"))
	put(t, root, "usr/lib/link-to-empty-dir/.keep", file(0o600, "keep"))
	linked := put(t, root, "usr/etc/linked-1", file(0o640, "etc"))
	put(t, root, "usr/etc/linked-2", linked)
	put(t, root, "usr/etc/.updated", file(0o644, "1"))
	put(t, root, "usr/etc/machine-id", file(0o444, ""))
	put(t, root, "usr/etc/secret.d/x", file(0o600, "x"))
	root.Child("usr").Child("etc").Child("secret.d").Mode = tree.TypeDir | 0o700
	put(t, root, "usr/etc/mtab", tree.NewLink("../proc/self/mounts"))
	put(t, root, "var/lib/data", file(0o644, "data"))
	put(t, root, "var/lib/data2", root.Child("var").Child("lib").Child("data"))
	put(t, root, "var/empty", file(0o644, ""))
	put(t, root, "var/.updated", file(0o644, "1"))
	put(t, root, "var/tmp", tree.NewDir(0o1777))
	put(t, root, "var/run", tree.NewLink("../run"))
	return root
}

// deployOurs commits and deploys a tree; change may alter the options.
func deployOurs(t testing.TB, root *tree.Inode, change func(*DeployOptions)) (*Repo, *DeployOptions, *Sysroot, error) {
	t.Helper()
	r := NewRepo()
	commit := commitOurs(t, r, root, 1700000000)
	if err := r.SetRef("test", commit); err != nil {
		t.Fatal(err)
	}
	o := &DeployOptions{
		Commit: commit, Tree: root, Origin: "ostree-unverified-registry:quay.io/org/os:1", Title: "Test OS 1",
		Kargs: []string{"root=UUID=x", "rw", "console=ttyS0"}, KernelVersion: testKernel, Time: testTime,
		Vmlinuz: tree.Lookup(root, modules+"/vmlinuz"), Initramfs: tree.Lookup(root, modules+"/initramfs.img"),
	}
	if change != nil {
		change(o)
	}
	s, err := Deploy(r, o)
	return r, o, s, err
}

// The whole sysroot is that which `ostree admin deploy` leaves.
func TestDeployAsLibostree(t *testing.T) {
	dtb := func(root *tree.Inode) {
		for _, name := range []string{"b", "a", "vendor/z", "vendor/a"} {
			put(t, root, modules+"/dtb/"+name+".dtb", file(0o644, "dtb "+name))
		}
		put(t, root, modules+"/dtb/vendor.dtb", tree.NewLink("vendor/z.dtb"))
		put(t, root, modules+"/dtb/zz.dtb", tree.NewLink("missing"))
	}
	for _, c := range []struct {
		name   string
		prune  func(root *tree.Inode)
		change func(o *DeployOptions)
	}{
		{"plain", nil, nil},
		{"no tmpfiles.d", func(root *tree.Inode) {
			tree.Lookup(root, "usr/lib").Remove("tmpfiles.d")
			root.Child("var").Child("tmp").Mode = tree.TypeDir | 0o755
		}, nil},
		{"no var", func(root *tree.Inode) { root.Remove("var") }, nil},
		{"empty etc beside usr/etc", func(root *tree.Inode) { put(t, root, "etc", tree.NewDir(0o700)) }, nil},
		{"no initramfs", func(root *tree.Inode) { tree.Lookup(root, modules).Remove("initramfs.img") },
			func(o *DeployOptions) { o.Initramfs = nil }},
		{"device tree and hmac", func(root *tree.Inode) {
			put(t, root, modules+"/devicetree", file(0o644, "tree"))
			put(t, root, modules+"/.vmlinuz.hmac", file(0o644, "hmac"))
		}, func(o *DeployOptions) {
			o.DeviceTree = tree.Lookup(o.Tree, modules+"/devicetree")
			o.HMAC = tree.Lookup(o.Tree, modules+"/.vmlinuz.hmac")
		}},
		{"device tree directory", dtb, func(o *DeployOptions) { o.DeviceTree = tree.Lookup(o.Tree, modules+"/dtb") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := testOS(t)
			if c.prune != nil {
				c.prune(root)
			}
			own(root)
			real := t.TempDir()
			ostree(t, "admin", "init-fs", "--modern", real)
			repo := filepath.Join(real, "ostree/repo")
			for _, kv := range [][2]string{{"sysroot.bootloader", "none"}, {"sysroot.bootprefix", "true"}, {"sysroot.readonly", "true"}} {
				ostree(t, "config", "--repo="+repo, "set", kv[0], kv[1])
			}
			ostree(t, "admin", "stateroot-init", "--sysroot="+real, "default")
			commitTar(t, repo, "test", root, 1700000000)
			origin := filepath.Join(t.TempDir(), "origin")
			if err := os.WriteFile(origin, []byte("[origin]\ncontainer-image-reference=ostree-unverified-registry:quay.io/org/os:1\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ostree(t, "admin", "deploy", "--sysroot="+real, "--os=default", "--no-merge", "--origin-file="+origin,
				"--karg=root=UUID=x", "--karg=rw", "--karg=console=ttyS0", "test")

			_, _, s, err := deployOurs(t, root, c.change)
			if err != nil {
				t.Fatal(err)
			}
			ours := t.TempDir()
			// Ours to write: what is created belongs to root otherwise.
			materialize(t, ours, s.Root)
			skip := func(p string) bool {
				// Left behind by the lock of the sysroot, and the composefs
				// image, which is made elsewhere.
				return p == "ostree/lock" || filepath.Base(p) == ".ostree.cfs" ||
					strings.HasPrefix(p, "ostree/repo/tmp/") && p != "ostree/repo/tmp/cache" || p == "ostree/repo/.lock"
			}
			diff(t, "sysroot", maskBackup(listDisk(t, ours, skip)), maskBackup(listDisk(t, real, skip)))

			if out := ostree(t, "--repo="+filepath.Join(ours, "ostree/repo"), "fsck"); !strings.Contains(out, "no errors found") {
				t.Errorf("fsck %s", out)
			}
			status := ostree(t, "admin", "status", "--sysroot="+ours)
			if want := ostree(t, "admin", "status", "--sysroot="+real); status != want {
				t.Errorf("status %s, want %s", status, want)
			}
		})
	}
}

// maskBackup drops the root line, whose mode is that of the temporary directory.
func maskBackup(lines []string) []string {
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, ". ") })
}

func TestDeploySeparateBoot(t *testing.T) {
	root := testOS(t)
	tree.Lookup(root, modules+"/vmlinuz").SetXattr("security.selinux", "modules_object_t\x00")
	_, o, s, err := deployOurs(t, root, func(o *DeployOptions) { o.SeparateBoot = true })
	if err != nil {
		t.Fatal(err)
	}
	if b := s.Root.Child("boot"); b == nil || b == s.Boot || b.Len() != 0 {
		t.Errorf("boot of the root file system: %+v", b)
	}
	k := tree.Lookup(s.Boot, s.BootPath+"/vmlinuz-"+testKernel)
	if k == nil || k == o.Vmlinuz || len(k.Xattrs) != 0 || k.Mtime != testTime || k.Perm() != 0o755 {
		t.Errorf("kernel %+v", k)
	}
	if want := sha256.Sum256([]byte("kernelinitramfs")); s.BootChecksum != want {
		t.Errorf("boot checksum %s", Hex(s.BootChecksum))
	}
	entry, err := tree.ReadFile(s.Boot, "loader/entries/ostree-1.conf", 1<<16)
	sum := Hex(s.BootChecksum)
	want := "title Test OS 1 (ostree:0)\nversion 1\noptions root=UUID=x rw console=ttyS0 ostree=/ostree/boot.1/default/" + sum + "/0\n" +
		"linux /boot/ostree/default-" + sum + "/vmlinuz-" + testKernel + "\ninitrd /boot/ostree/default-" + sum + "/initramfs-" + testKernel + ".img\n"
	if err != nil || string(entry) != want {
		t.Errorf("entry %s\nwant %s, %v", entry, want, err)
	}
	// The path in the entry is valid on the boot file system itself.
	if i, err := tree.Resolve(s.Boot, "/boot/ostree/default-"+sum+"/vmlinuz-"+testKernel); err != nil || i != k {
		t.Errorf("kernel by its path: %v", err)
	}
	if i, err := tree.Resolve(s.Root, "/ostree/boot.1/default/"+sum+"/0"); err != nil || i != s.Deployment {
		t.Errorf("deployment by its path: %v", err)
	}
	for path, i := range map[string]*tree.Inode{s.DeployPath: s.Deployment, s.VarPath: s.Var, s.DeployPath + "/etc": s.Etc,
		"ostree/repo": s.Repo, s.BackingPath + "/root-transient/upper": s.Upper} {
		if tree.Lookup(s.Root, path) != i {
			t.Errorf("%s is not what it says", path)
		}
	}
	if tree.Lookup(s.Boot, s.EntryPath) == nil || tree.Lookup(s.Root, s.OriginPath) == nil {
		t.Error("entry or origin is missing")
	}
}

// Nothing that may be modified afterwards is shared with the repository.
func TestDeploySharing(t *testing.T) {
	root := testOS(t)
	put(t, root, "usr/lib/containers/.ostree-wh.gone", file(0o600, "")).UID = 3
	put(t, root, "usr/etc/.ostree-wh.kept", file(0o600, ""))
	r, o, s, err := deployOurs(t, root, func(o *DeployOptions) { o.Composefs = []byte("cfs") })
	if err != nil {
		t.Fatal(err)
	}
	objects := map[*tree.Inode]bool{}
	for _, i := range r.files {
		objects[i] = true
	}
	_ = tree.Walk(root, func(p string, i *tree.Inode) error {
		if objects[i] {
			t.Errorf("%s of the input became an object", p)
		}
		return nil
	})
	_ = tree.Walk(s.Deployment, func(p string, i *tree.Inode) error {
		shared := (i.IsLink() || i.IsFile() && i.Content.Size() > 0) && !strings.HasPrefix(p, "/etc/") && p != "/.ostree.cfs"
		if objects[i] != shared {
			t.Errorf("%s: shared is %v", p, objects[i])
		}
		if i.IsDir() && !strings.HasPrefix(p, "/etc") && i.Mtime != 0 {
			t.Errorf("%s: mtime %d", p, i.Mtime)
		}
		if flags := tree.Flags(0); i.Flags != flags && p != "/" {
			t.Errorf("%s: flags %v", p, i.Flags)
		}
		return nil
	})
	if s.Deployment.Flags != tree.Immutable || root.Flags != 0 {
		t.Error("the deployment is not immutable, or the input is")
	}
	if i := tree.Lookup(s.Deployment, "usr/lib/containers/gone"); i == nil || i.Mode != tree.TypeChar|0o600 || i.Major|i.Minor != 0 || i.UID != 3 {
		t.Errorf("whiteout %+v", i)
	}
	if tree.Lookup(s.Etc, ".ostree-wh.kept") == nil || tree.Lookup(s.Deployment, "usr/etc/kept") == nil {
		t.Error("whiteouts in etc")
	}
	if s.Etc.Child("linked-1") == s.Etc.Child("linked-2") || s.Var.Child("lib").Child("data") == s.Var.Child("lib").Child("data2") {
		t.Error("hard links in etc or var are left")
	}
	if b, err := tree.ReadFile(s.Deployment, ".ostree.cfs", 10); err != nil || string(b) != "cfs" {
		t.Errorf("composefs %q, %v", b, err)
	}
	if i := tree.Lookup(s.Boot, s.BootPath+"/vmlinuz-"+testKernel); i != r.File(o.Vmlinuz.Object) {
		t.Error("the kernel is not linked")
	}
	if c, ok := r.Ref("ostree/1/1/0"); !ok || c != o.Commit {
		t.Error("ref of the deployment")
	}
}

func TestDeployOrigin(t *testing.T) {
	_, _, s, err := deployOurs(t, testOS(t), func(o *DeployOptions) {
		o.Origin = `ostree-unverified-image:oci:/a\b`
		o.Stateroot = "my.os-1"
		o.Kargs = []string{"a", "ostree=/old", "b"}
		o.Aboot = o.Vmlinuz
	})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := tree.ReadFile(s.Root, s.OriginPath, 1000); err != nil || string(b) != "[origin]\ncontainer-image-reference=ostree-unverified-image:oci:/a\\\\b\n" {
		t.Errorf("origin %q, %v", b, err)
	}
	entry, err := tree.ReadFile(s.Boot, s.EntryPath, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	sum := Hex(s.BootChecksum)
	for _, want := range []string{"options a ostree=/ostree/boot.1/my.os-1/" + sum + "/0 b\n",
		"\naboot /ostree/my.os-1-" + sum + "/aboot-" + testKernel + ".img\nabootcfg /" + s.DeployPath + "/usr/lib/ostree-boot/aboot.cfg\n"} {
		if !strings.Contains(string(entry), want) {
			t.Errorf("entry %s, no %s", entry, want)
		}
	}
}

func TestDeployErrors(t *testing.T) {
	for name, c := range map[string]struct {
		tree   func(*tree.Inode)
		change func(*DeployOptions)
		class  fault.Class
	}{
		"etc and usr/etc":     {tree: func(r *tree.Inode) { put(t, r, "etc/x", file(0o644, "")) }, class: fault.BadImage},
		"no etc":              {tree: func(r *tree.Inode) { r.Child("usr").Remove("etc") }, class: fault.BadImage},
		"etc is a link":       {tree: func(r *tree.Inode) { put(t, r, "etc", tree.NewLink("x")) }, class: fault.BadImage},
		"usr/etc is a link":   {tree: func(r *tree.Inode) { put(t, r, "usr/etc", tree.NewLink("x")) }, class: fault.BadImage},
		"no usr":              {tree: func(r *tree.Inode) { put(t, r, "usr", tree.NewLink("x")) }, change: func(o *DeployOptions) { o.Vmlinuz = o.Tree.Child("tmp") }, class: fault.BadImage},
		"whiteout of nothing": {tree: func(r *tree.Inode) { put(t, r, "usr/.ostree-wh.", file(0o644, "")) }, class: fault.BadImage},
		"whiteout of ..":      {tree: func(r *tree.Inode) { put(t, r, "usr/.ostree-wh...", file(0o644, "")) }, class: fault.BadImage},
		"whiteout of a file":  {tree: func(r *tree.Inode) { put(t, r, "usr/.ostree-wh.bin", file(0o644, "")) }, class: fault.BadImage},
		"dtb is a device":     {change: func(o *DeployOptions) { o.DeviceTree = &tree.Inode{Mode: tree.TypeFIFO} }, class: fault.BadImage},
		"stateroot":           {change: func(o *DeployOptions) { o.Stateroot = "a/b" }, class: fault.Usage},
		"stateroot ..":        {change: func(o *DeployOptions) { o.Stateroot = ".." }, class: fault.Usage},
		"karg":                {change: func(o *DeployOptions) { o.Kargs = []string{"a\nb"} }, class: fault.Usage},
		"title":               {change: func(o *DeployOptions) { o.Title = "a\nlinux /evil" }, class: fault.BadImage},
		"no title":            {change: func(o *DeployOptions) { o.Title = "" }, class: fault.BadImage},
		"origin":              {change: func(o *DeployOptions) { o.Origin = "a\n[x]" }, class: fault.Usage},
		"kernel version":      {change: func(o *DeployOptions) { o.KernelVersion = "../x" }, class: fault.BadImage},
		"kernel version long": {change: func(o *DeployOptions) { o.KernelVersion = strings.Repeat("1", 250) }, class: fault.BadImage},
		"no kernel":           {change: func(o *DeployOptions) { o.Vmlinuz = nil }, class: fault.BadImage},
		"initramfs is a link": {change: func(o *DeployOptions) { o.Initramfs = tree.NewLink("x") }, class: fault.BadImage},
		"commit":              {change: func(o *DeployOptions) { o.Commit = tree.Sum{1} }, class: fault.Internal},
		"tree":                {change: func(o *DeployOptions) { o.Tree = nil }, class: fault.Internal},
		"other tree":          {change: func(o *DeployOptions) { o.Tree = dirOf(t, "usr/etc/x", file(0o644, "other")) }, class: fault.Internal},
		"other kernel":        {change: func(o *DeployOptions) { o.Vmlinuz = file(0o644, "other") }, class: fault.Internal},
		"boot loader":         {change: func(o *DeployOptions) { o.RepoConfig.Bootloader = "x" }, class: fault.Usage},
	} {
		root := testOS(t)
		if c.tree != nil {
			c.tree(root)
		}
		_, _, s, err := deployOurs(t, root, c.change)
		if err == nil || s != nil || fault.ClassOf(err) != c.class {
			t.Errorf("%s: %v (class %v)", name, err, fault.ClassOf(err))
		}
	}
	root := testOS(t)
	put(t, root, "etc/x", file(0o644, ""))
	if _, _, _, err := deployOurs(t, root, nil); !strings.Contains(fmt.Sprint(err), "tree contains both /etc and /usr/etc") {
		t.Error(err)
	}
}

// One object may have more names than ext4 allows links.
func TestDeployManyLinks(t *testing.T) {
	root := testOS(t)
	f := file(0o644, "x")
	for k := range maxLinks + 100 {
		put(t, root, fmt.Sprintf("usr/many/%d", k), f)
	}
	r, _, s, err := deployOurs(t, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	object, n := r.File(f.Object), 1
	for _, e := range tree.Lookup(s.Deployment, "usr/many").Entries() {
		if e.Inode == object {
			n++
		}
	}
	if n > maxLinks || n < maxLinks-5 {
		t.Errorf("%d links", n)
	}
}
