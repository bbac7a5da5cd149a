package pipeline

import (
	"strings"
	"testing"

	"imgbuild/bootc"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// A line of iso.yaml that comes to nothing once its variables are replaced is told.
func TestLiveMenuWithoutKernel(t *testing.T) {
	b := &build{sys: &system{facts: &bootc.Image{OSRelease: map[string]string{"NAME": "Some OS"}}}, disks: &disks{}}
	config := &bootc.ISOConfig{}
	config.GRUB.Entries = []bootc.ISOMenuEntry{{Name: "Start", Linux: "${kernelpath} ${root}"}}
	if m, err := b.liveMenu(config, "X", &Options{}); err != nil || m.Entries[0].Kernel != "/images/pxeboot/vmlinuz" {
		t.Errorf("%+v, %v", m, err)
	}
	config.GRUB.Entries[0].Linux = "${version}"
	if _, err := b.liveMenu(config, "X", &Options{}); fault.ClassOf(err) != fault.BadImage || !strings.Contains(err.Error(), "names no kernel") {
		t.Error(err)
	}
}

// Names that an image chose cannot make the installer's initramfs panic.
func TestInitTree(t *testing.T) {
	root := tree.NewDir(0o755)
	x := &initTree{root: root}
	x.put("lib/modules/1/a.ko", tree.NewFile(0o644, content.String("x")))
	if x.err != nil {
		t.Error(x.err)
	}
	x.put("lib/modules/1/a.ko/b.ko", tree.NewFile(0o644, content.String("x")))
	first := x.err
	if first == nil || !strings.Contains(first.Error(), "a.ko") {
		t.Error(first)
	}
	x.put("", tree.NewFile(0o644, content.String("x")))
	if x.err != first {
		t.Errorf("%v, and the first error was %v", x.err, first)
	}
}

// A shell takes with it what an image can be expected to have, and no more.
func TestShellIsBounded(t *testing.T) {
	image := tree.NewDir(0o755)
	for name, text := range map[string]string{"usr/bin/sh": "#!/x\n", "usr/bin/cat": "#!/larger\n"} {
		if err := tree.Put(image, name, tree.NewFile(0o755, content.String(text))); err != nil {
			t.Fatal(err)
		}
	}
	c := &closure{root: tree.NewDir(0o755), image: image, left: 5}
	if err := c.add("usr/bin/cat"); err == nil || !strings.Contains(err.Error(), "usr/bin/cat: with it, the shell") {
		t.Errorf("%v", err)
	}
	if err := c.add("usr/bin/sh"); err != nil || c.left != 0 || tree.Lookup(c.root, "usr/bin/sh") == nil {
		t.Errorf("%v, %d bytes left", err, c.left)
	}
}
