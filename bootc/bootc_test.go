package bootc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

type files = map[string]string

// minimal are the files of the smallest image that can boot.
func minimal() files {
	return files{
		"usr/lib/modules/6.1/vmlinuz":       "kernel",
		"usr/lib/modules/6.1/initramfs.img": "initramfs",
		"usr/lib/os-release":                "ID=test\nPRETTY_NAME=\"Test OS 1\"\n",
		"usr/lib/ostree/prepare-root.conf":  "[composefs]\nenabled = true\n",
		"sysroot/":                          "",
		"boot/":                             "",
		"var/":                              "",
	}
}

// makeTree returns a tree of files by path. A path that ends in a slash is a
// directory, a content "-> x" a symbolic link to x, and "gone" takes the file
// of an earlier list away.
func makeTree(t testing.TB, lists ...files) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	all := files{}
	for _, list := range lists {
		for p, c := range list {
			all[p] = c
		}
	}
	for p, c := range all {
		i := tree.NewFile(0o644, content.String(c))
		if c == "gone" {
			continue
		}
		if strings.HasSuffix(p, "/") {
			if _, err := tree.MkdirAll(root, p); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if target, ok := strings.CutPrefix(c, "-> "); ok {
			i = tree.NewLink(target)
		}
		if err := tree.Put(root, p, i); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestInspectMinimal(t *testing.T) {
	root := makeTree(t, minimal())
	image, err := Inspect(root, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	dir := tree.Lookup(root, "usr/lib/modules/6.1")
	k := image.Kernel
	if k.Version != "6.1" || k.Dir != "usr/lib/modules/6.1" || k.Vmlinuz != dir.Child("vmlinuz") || k.Initramfs != dir.Child("initramfs.img") ||
		k.DeviceTree != nil || k.HMAC != nil || k.Aboot != nil {
		t.Errorf("kernel %+v", k)
	}
	image.Kernel = Kernel{}
	want := &Image{
		Install:   InstallConfig{Block: []string{"direct"}, Stateroot: "default"},
		OSRelease: files{"ID": "test", "PRETTY_NAME": "Test OS 1"},
		Composefs: ComposefsYes, ComposefsKeys: "/etc/ostree/initramfs-root-binding.key",
	}
	if d := cmp.Diff(want, image); d != "" {
		t.Error(d)
	}
}

// fullImage has all that an image can say.
func fullImage() files {
	return files{
		"usr/lib/modules/6.1/vmlinuz":                       "-> ../../kernels/vmlinuz",
		"usr/lib/kernels/vmlinuz":                           "kernel",
		"usr/lib/modules/6.1/devicetree":                    "dtb",
		"usr/lib/modules/6.1/.vmlinuz.hmac":                 "hmac",
		"usr/lib/modules/6.1/aboot.img":                     "aboot",
		"usr/lib/modules/5.0/only.ko":                       "module",
		"usr/lib/modules/latest":                            "-> 6.1",
		"usr/lib/os-release":                                "-> ../../etc/os-release",
		"etc/os-release":                                    "ID=etc",
		"etc/ostree/prepare-root.conf":                      "[composefs]\nenabled=signed\nkeypath=/etc/keys\n[root]\ntransient-ro=1\n[etc]\ntransient=true\n",
		"etc/selinux/config":                                "# comment\nSELINUX=Enforcing\nSELINUXTYPE= targeted \n",
		"etc/selinux/targeted/contexts/files/file_contexts": "/.* x\n",
		"etc/bootc/install/50-x.toml":                       "[install]\nkargs=[\"etc=1\"]\n",
		"usr/lib/bootc/install/50-x.toml":                   "[install]\nkargs=[\"lib=1\"]\n",
		"usr/lib/bootc/install/10-y.toml":                   "[install]\nroot-fs-type=\"xfs\"\n",
		"usr/lib/bootc/kargs.d/10-a.toml":                   "kargs = [\"a=1 b\", 'c=\"x y\"']\n",
		"usr/lib/bootc/kargs.d/20-b.toml":                   "kargs = [\"b\", \"d\"]\nmatch-architectures = [\"x86_64\"]\n",
		"usr/lib/bootc/kargs.d/30-c.toml":                   "kargs = [\"arm\"]\nmatch-architectures = [\"aarch64\"]\n",
		"usr/lib/bootc/kargs.d/README":                      "not read",
		"usr/lib/bootc/bound-images.d/app.image":            "-> /usr/share/app.image",
		"usr/lib/bootc/bound-images.d/b.container":          "-> ../../../share/b.container",
		"usr/share/app.image":                               "[Image]\nImage=quay.io/org/app:1\n",
		"usr/share/b.container":                             "; x\n[Unit]\nImage=no\n[Container]\nImage = quay.io/org/b%%c:2\n",
	}
}

// TestInspectFull reads it with etc and, as a commit has it, with usr/etc.
func TestInspectFull(t *testing.T) {
	commit := files{}
	for p, c := range fullImage() {
		if rest, ok := strings.CutPrefix(p, "etc/"); ok {
			p = "usr/etc/" + rest
		}
		commit[p] = c
	}
	const install = "etc/bootc/install/50-x.toml"
	for name, lists := range map[string][]files{
		"image":                 {minimal(), fullImage()},
		"commit":                {minimal(), commit},
		"commit with empty etc": {minimal(), commit, {"etc/": ""}},
		"both":                  {minimal(), commit, {install: fullImage()[install], "usr/" + install: "nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			root := makeTree(t, lists...)
			image, err := Inspect(root, "amd64")
			if err != nil {
				t.Fatal(err)
			}
			dir := tree.Lookup(root, "usr/lib/modules/6.1")
			k := image.Kernel
			if k.Vmlinuz != tree.Lookup(root, "usr/lib/kernels/vmlinuz") || k.DeviceTree != dir.Child("devicetree") ||
				k.HMAC != dir.Child(".vmlinuz.hmac") || k.Aboot != dir.Child("aboot.img") {
				t.Errorf("kernel %+v", k)
			}
			image.Kernel = Kernel{}
			want := &Image{
				Install:          InstallConfig{RootFSType: "xfs", Kargs: []string{"etc=1"}, Block: []string{"direct"}, Stateroot: "default"},
				Kargs:            []string{"a=1", "b", `c="x y"`, "d"},
				OSRelease:        files{"ID": "etc"},
				Composefs:        ComposefsSigned,
				ComposefsKeys:    "/etc/keys",
				RootTransient:    true,
				EtcTransient:     true,
				SELinuxType:      "targeted",
				SELinuxEnforcing: true,
				BoundImages:      []string{"quay.io/org/app:1", "quay.io/org/b%c:2"},
			}
			if d := cmp.Diff(want, image); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDeviceTreeDirectory(t *testing.T) {
	root := makeTree(t, minimal(), files{"usr/lib/modules/6.1/dtb/vendor/a.dtb": "a", "usr/lib/modules/6.1/initramfs": "other"})
	image, err := Inspect(root, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if d := tree.Lookup(root, "usr/lib/modules/6.1/dtb"); image.Kernel.DeviceTree != d {
		t.Error("device tree is not the directory dtb")
	}
	if i := tree.Lookup(root, "usr/lib/modules/6.1/initramfs.img"); image.Kernel.Initramfs != i {
		t.Error("initramfs is not initramfs.img")
	}
}

// TestComposefsBringsMountPoints: the composefs image has boot and var.
func TestComposefsBringsMountPoints(t *testing.T) {
	if _, err := Inspect(makeTree(t, minimal(), files{"boot/": "gone", "var/": "gone"}), "amd64"); err != nil {
		t.Error(err)
	}
}

func TestCheckLabels(t *testing.T) {
	for _, labels := range []files{{"containers.bootc": "1"}, {"ostree.bootable": "true"}, {"containers.bootc": ""}} {
		if err := CheckLabels(labels); err != nil {
			t.Errorf("%v: %v", labels, err)
		}
	}
	for _, labels := range []files{nil, {"containers.bootc.x": "1"}} {
		if err := CheckLabels(labels); fault.ClassOf(err) != fault.BadImage || fault.HintOf(err) == "" {
			t.Errorf("%v: %v", labels, err)
		}
	}
}

func TestSELinuxConfig(t *testing.T) {
	for _, tt := range []struct{ content, policy, mode string }{
		{"", "", ""},
		{"SELINUX=disabled\nSELINUXTYPE=targeted\n", "targeted", ""},
		{"SELINUX=enforcing\nSELINUXTYPE=targeted", "targeted", "enforcing"},
		{"SELINUX=PERMISSIVE # x\nSELINUXTYPE=a\nSELINUXTYPE=b\n", "b", "permissive"},
		{" SELINUX=enforcing\n#SELINUXTYPE=a\n", "", ""},
	} {
		if policy, mode := parseSELinux(tt.content); policy != tt.policy || mode != tt.mode {
			t.Errorf("%q: %q, %q", tt.content, policy, mode)
		}
	}
}

func TestOSRelease(t *testing.T) {
	got := parseOSRelease("# x\nA=plain\nB=\"a \\\"b\\\" \\$c \\n\"\nC='single \\ '\nD=a'b'\"c\"\\ d\nE=\"open\nF='open\nG\nH=\\\nI=\nJ=\"a\x01b\"\nA=twice\r\n")
	want := files{"A": "twice", "B": `a "b" $c \n`, "C": `single \ `, "D": "abc d", "I": ""}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestComposefsModes(t *testing.T) {
	for v, want := range map[string]ComposefsMode{
		"yes": ComposefsYes, "true": ComposefsYes, "1": ComposefsYes, "no": ComposefsNo, "false": ComposefsNo, "0": ComposefsNo,
		"maybe": ComposefsMaybe, "verity": ComposefsVerity, "signed": ComposefsSigned,
	} {
		var image Image
		if err := image.parsePrepareRoot("p", "# c\n[composefs]\n enabled  =  "+v+" \n"); err != nil || image.Composefs != want {
			t.Errorf("%s: %s, %v", v, image.Composefs, err)
		}
	}
	var image Image
	if err := image.parsePrepareRoot("p", "[sysroot]\nreadonly=true\n"); err != nil || image.Composefs != ComposefsNo {
		t.Error(image.Composefs, err)
	}
}
