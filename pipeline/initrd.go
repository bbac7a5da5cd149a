package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/initramfs"
	"imgbuild/kmod"
	"imgbuild/tree"
)

// Paths in the installer's initramfs.
const (
	initProgram  = "init"
	initIndex    = "imgbuild/modules.json"
	initMedium   = "imgbuild/medium" // SHA-256 of the description of the medium
	initModules  = "lib/modules"     // VERSION/…
	initFirmware = "lib/firmware"    // where every kernel looks
)

// maxProgram bounds the installer program, in bytes.
const maxProgram = 256 << 20

// initrd returns the initramfs of the installer: the program, the kernel modules
// that get it at disks and media, and a shell of the image with its libraries.
func (sys *system) initrd(ctx context.Context, program, description []byte, p Progress) ([]byte, error) {
	p.Stage("compose the installer's initramfs", 0)
	kernel := &sys.facts.Kernel
	dir, err := tree.Resolve(sys.merged, kernel.Dir)
	if err != nil {
		return nil, err
	}
	modules, err := kmod.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kernel.Dir, err)
	}
	if err := checkModules(modules, kernel.Version, p); err != nil {
		return nil, err
	}
	firmware, err := tree.Resolve(sys.merged, "usr/lib/firmware")
	if err != nil {
		firmware = nil
	}
	choice, err := modules.Choose(ctx, firmware)
	if err != nil {
		return nil, fault.Default(fault.BadImage, err)
	}
	for _, b := range choice.Broken {
		err := fmt.Errorf("kernel module %s depends on %s, which the image does not have", b.Name, b.Missing)
		if b.Name == "isofs" {
			return nil, fault.New(fault.Unsupported, fmt.Errorf("%w, so that the installer could not read its own medium", err), "install the kernel package with all modules in the Containerfile (kernel-modules, linux-image-amd64)")
		}
		p.Warn(err.Error() + ": the installer does without it")
	}
	index, err := choice.Index.Encode()
	if err != nil {
		return nil, err
	}
	root := tree.NewDir(0o755)
	t := &initTree{root: root}
	for _, d := range []string{"dev", "proc", "sys", "run", "tmp", "mnt", "sysroot", "etc", "root"} {
		t.put(d, tree.NewDir(0o755))
	}
	t.put("dev/console", &tree.Inode{Mode: tree.TypeChar | 0o600, Major: 5, Minor: 1})
	t.put("dev/null", &tree.Inode{Mode: tree.TypeChar | 0o666, Major: 1, Minor: 3})
	t.put(initProgram, tree.NewFile(0o755, content.Bytes(program)))
	t.put(initIndex, tree.NewFile(0o644, content.Bytes(index)))
	t.put(initMedium, tree.NewFile(0o644, content.String(fmt.Sprintf("%x\n", sha256.Sum256(description)))))
	t.put("etc/passwd", tree.NewFile(0o644, content.String("root:x:0:0:root:/root:/bin/sh\n")))
	t.put("etc/group", tree.NewFile(0o644, content.String("root:x:0:\n")))
	for _, m := range choice.Modules {
		t.put(initModules+"/"+kernel.Version+"/"+m.Path, tree.NewFile(0o644, m.Content))
	}
	for _, f := range choice.Firmware {
		t.put(initFirmware+"/"+f.Path, tree.NewFile(0o644, f.Inode.Content))
	}
	if t.err != nil {
		return nil, fault.New(fault.BadImage, t.err, "")
	}
	if err := addShell(root, sys.merged); err != nil {
		p.Warn(fmt.Sprintf("the installer has no shell to offer when something fails: %v", err))
	}
	config, err := tree.ReadFile(sys.merged, kernel.Dir+"/config", 4<<20)
	if errors.Is(err, fs.ErrNotExist) {
		config, err = tree.ReadFile(sys.merged, "boot/config-"+kernel.Version, 4<<20)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var b bytes.Buffer
	if err := initramfs.Write(ctx, &b, root, initramfs.ForKernel(config)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// initTree takes files. Its first error sticks: names of modules and of firmware are
// the image's, and what is a file as one can be a directory as another.
type initTree struct {
	root *tree.Inode
	err  error
}

func (t *initTree) put(p string, i *tree.Inode) {
	if err := tree.Put(t.root, p, i); err != nil && t.err == nil {
		t.err = fmt.Errorf("initramfs: %w", err)
	}
}

// checkModules says early what would keep the installer from working.
func checkModules(k *kmod.Kernel, version string, p Progress) error {
	if !k.Has("isofs") {
		return fault.New(fault.Unsupported, fmt.Errorf("kernel %s has no isofs, so that the installer could not read its own medium", version),
			"install the kernel package with all modules in the Containerfile (kernel-modules, linux-image-amd64)")
	}
	disks := []string{"virtio_blk", "nvme", "ahci", "sd_mod", "mmc_block", "xen_blkfront"}
	var missing []string
	for _, name := range disks {
		if !k.Has(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == len(disks) {
		return fault.New(fault.Unsupported, fmt.Errorf("kernel %s has no driver for any disk (%s)", version, strings.Join(disks, ", ")),
			"install the kernel package with all modules in the Containerfile")
	}
	for _, c := range []struct{ name, what string }{
		{"nvme", "NVMe disks are"}, {"ahci", "SATA disks are"}, {"sd_mod", "SATA, SAS and USB disks are"}, {"sr_mod", "optical drives are"},
		{"usb_storage", "USB sticks and disks are"}, {"xhci_pci", "devices at USB 3 ports are"}, {"usbhid", "USB keyboards are"},
	} {
		if !k.Has(c.name) {
			p.Warn(fmt.Sprintf("kernel %s has no %s: in the installer %s not there", version, c.name, c.what))
		}
	}
	return nil
}

// installerProgram returns the program that installs: the file, or this program
// itself where it can run on the target.
func installerProgram(name, arch, hostArch string) ([]byte, error) {
	const hint = "--installer-program FILE names an imgbuild for Linux of that architecture, as CGO_ENABLED=0 GOOS=linux go build makes it"
	own := name == ""
	if own {
		if runtime.GOOS != "linux" || arch != hostArch {
			return nil, fault.New(fault.Unsupported, fmt.Errorf("the installer is imgbuild itself, and this one is for %s on %s, not for linux on %s", runtime.GOOS, hostArch, arch), hint)
		}
		var err error
		if name, err = os.Executable(); err != nil {
			return nil, fault.New(fault.Unsupported, fmt.Errorf("the installer is imgbuild itself: %w", err), hint)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("installer program: %w", err), hint)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProgram+1))
	if err == nil && len(data) > maxProgram {
		err = fmt.Errorf("%s: more than %d bytes", name, maxProgram)
	}
	if err == nil {
		err = checkProgram(data, arch)
	}
	if err != nil {
		return nil, fault.New(fault.Usage, fmt.Errorf("installer program %s: %w", name, err), hint)
	}
	return data, nil
}

// machines are the ELF machines of architectures, as GOARCH.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390, "riscv64": elf.EM_RISCV,
	"loong64": elf.EM_LOONGARCH, "386": elf.EM_386, "arm": elf.EM_ARM,
}

// checkProgram checks that a program runs on a kernel of the architecture and
// nothing else.
func checkProgram(data []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("no ELF program: %w", err)
	}
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return fmt.Errorf("it is for %s, and the image is for %s", f.Machine, arch)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("it is linked dynamically, and an initramfs has no libraries for it")
		}
	}
	return nil
}
