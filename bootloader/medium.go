package bootloader

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"imgbuild/bootloader/bootupd"
	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/filesystem/fat"
	"imgbuild/tree"
)

// MediumRequest is what the boot loaders of a CD or USB stick depend on.
type MediumRequest struct {
	OS   *tree.Inode // the merged OS tree whose boot loaders are used
	Arch string      // GOARCH name
	Menu grub.MediumMenu
	// Kargs are arguments that all entries have behind their own, and that can be
	// changed on the finished medium.
	Kargs []string
	// FATID is the serial number of the EFI system partition, not zero.
	FATID uint32
	Time  int64 // modification time of everything, seconds since 1970
}

// Medium is how a medium starts.
type Medium struct {
	// BIOSImage is the path on the medium of the El Torito image for the BIOS, ""
	// without BIOS; MBR the boot sector for the medium as a disk.
	BIOSImage string
	MBR       []byte
	// ESP is the EFI system partition, nil without UEFI.
	ESP *disk.Image
	// SecureBoot says that the boot chain begins with shim.
	SecureBoot bool
	// Warnings are lines for the user: what the medium does not start by, and why.
	Warnings []string
}

// espSpace is free space on the EFI system partition of a medium, in bytes.
const espSpace = 1 << 20

// maxESP16 is the largest system partition in bytes, whole MiB, that El Torito can
// say the size of, and about the largest FAT16. It has 6 MiB with Debian's files.
const maxESP16 = 31 << 20

// InstallMedium puts the boot loaders of an image onto a medium whose tree is
// root, as osbuild lays media out: GRUB's directory, the El Torito image, the EFI
// files. shim starts the GRUB that is made for media (gcd*.efi) where the image
// has one, and its usual one otherwise. A part that the image has not is left out
// with a warning; without any the error is of class fault.BadImage.
//
// Not done: systemd-boot, which reads kernels from the EFI system partition only;
// Open Firmware and s390x.
func InstallMedium(ctx context.Context, root *tree.Inode, r *MediumRequest) (*Medium, error) {
	s, err := inspect(r.OS, r.Arch)
	if err != nil {
		return nil, err
	}
	in := &mediumInstallation{MediumRequest: r, survey: s, root: root}
	in.result.Warnings = s.caps.Warnings
	if err := in.run(ctx); err != nil {
		return nil, fault.Default(fault.BadImage, err)
	}
	return &in.result, nil
}

// mediumInstallation is one run of InstallMedium.
type mediumInstallation struct {
	*MediumRequest
	*survey
	root   *tree.Inode
	result Medium
}

func (in *mediumInstallation) run(ctx context.Context) error {
	switch {
	case in.platform.efi == "":
		return fault.New(fault.Unsupported, fmt.Errorf("media do not start on %s", in.arch), "")
	case !in.caps.BIOS && !in.caps.UEFI:
		return noBootLoader(in.OS, in.arch)
	}
	if err := in.configure(); err != nil {
		return err
	}
	if err := in.installBIOS(); err != nil {
		return fmt.Errorf("install GRUB for BIOS: %w", err)
	}
	if err := in.installUEFI(ctx); err != nil {
		return fmt.Errorf("install the EFI files: %w", err)
	}
	if in.result.BIOSImage == "" && in.result.ESP == nil {
		return fault.New(fault.BadImage, errors.New("a medium with the boot loaders of the image would not start"), strings.Join(in.result.Warnings, "; "))
	}
	return nil
}

// put puts a file onto the medium.
func (in *mediumInstallation) put(path string, c content.Ref) error {
	f := tree.NewFile(0o644, c)
	f.Mtime = in.Time
	return in.putInode(path, f)
}

func (in *mediumInstallation) putInode(path string, i *tree.Inode) error {
	return tree.Put(in.root, path, i)
}

// leaveOut says what the medium does not start by.
func (in *mediumInstallation) leaveOut(format string, args ...any) {
	in.result.Warnings = append(in.result.Warnings, fmt.Sprintf(format, args...))
}

// configure writes the menu, and what hands over to it: Debian's GRUB for media
// looks for /boot/grub, on a disk by the file /.disk/info.
func (in *mediumInstallation) configure() error {
	config, err := grub.MediumConfig(in.Menu)
	if err != nil {
		return err
	}
	kargs, err := grub.Kargs(in.Kargs)
	if err != nil {
		return fault.New(fault.Config, err, "")
	}
	for _, f := range []struct {
		path string
		text []byte
	}{
		{grub.MediumDir + "/grub.cfg", config},
		{grub.KargsPath, kargs},
		{"boot/grub/grub.cfg", grub.MediumStub(in.Menu.VolumeID)},
		{".disk/info", []byte(in.Menu.VolumeID + "\n")},
	} {
		if err := in.put(f.path, content.Bytes(f.text)); err != nil {
			return err
		}
	}
	font := in.font()
	if font == nil {
		return nil
	}
	return in.put(grub.MediumDir+"/fonts/unicode.pf2", font.Content)
}

// font returns GRUB's font, or nil.
func (in *mediumInstallation) font() *tree.Inode {
	return firstFile(in.OS, "usr/share/grub/unicode.pf2", "usr/share/grub2/unicode.pf2")
}

// installBIOS makes the El Torito image and the boot sector.
func (in *mediumInstallation) installBIOS() error {
	const image = "images/eltorito.img"
	switch {
	case in.platform.first == "":
		return nil // no such firmware
	case !in.caps.BIOS:
		in.leaveOut("the medium does not start from a BIOS: the image has no GRUB for %s", in.platform.first)
		return nil
	}
	for _, name := range []string{"cdboot.img", "boot_hybrid.img"} {
		if firstFile(in.OS, in.firstDir+"/"+name) == nil {
			in.leaveOut("the medium does not start from a BIOS: %s/%s is missing", in.firstDir, name)
			return nil
		}
	}
	b, err := grub.ComposeCD(in.OS, in.firstDir, grub.CoreOptions{Modules: grub.CDModules(), Prefix: "/" + grub.MediumDir})
	if err != nil {
		return err
	}
	if in.result.MBR, err = grub.HybridBootCode(in.OS, in.firstDir); err != nil {
		return err
	}
	modules, err := grub.Modules(in.OS, in.firstDir, in.Time)
	if err != nil {
		return err
	}
	if err := in.putInode(grub.MediumDir+"/"+in.platform.first, modules); err != nil {
		return err
	}
	in.result.BIOSImage = image
	return in.put(image, content.Bytes(b))
}

// installUEFI makes the EFI system partition, and the same files on the medium:
// a GRUB that was started from a CD takes the CD for the place it came from.
func (in *mediumInstallation) installUEFI(ctx context.Context) error {
	if !in.caps.UEFI {
		in.leaveOut("the medium does not start by UEFI: the image has no EFI files")
		return nil
	}
	esp, err := in.efiTree()
	if esp == nil || err != nil {
		return err
	}
	opt := fat.Options{VolumeID: in.FATID, Label: "EFI-SYSTEM", Time: in.Time, FAT16: true}
	size, err := fat.Size(esp, espSpace, opt)
	size = (size + espSpace - 1) / espSpace * espSpace
	if err != nil || size > maxESP16 {
		opt.FAT16 = false
		if size, err = fat.Size(esp, espSpace, opt); err != nil {
			return err
		}
		size = (size + espSpace - 1) / espSpace * espSpace
	}
	extents, err := fat.Write(ctx, esp, size, opt)
	if err != nil {
		return err
	}
	if in.result.ESP, err = disk.New(size, extents); err != nil {
		return err
	}
	in.result.SecureBoot = in.caps.Shim
	return in.putInode("EFI", esp.Child("EFI"))
}

// efiTree returns the EFI system partition's tree: everything in EFI/BOOT, and
// stubs where GRUB may look for its configuration. It is nil where the image has
// no GRUB.
func (in *mediumInstallation) efiTree() (*tree.Inode, error) {
	p, vendor := in.platform, in.caps.Vendor
	loaderName := p.file("grub")
	loader := in.payload.Lookup(vendor + "/" + loaderName)
	if loader == nil && in.packaged != nil {
		// openSUSE's shim has other names for what it starts.
		loader = in.payload.Lookup(in.packaged.grub)
		loaderName = in.packaged.grub[strings.LastIndexByte(in.packaged.grub, '/')+1:]
	}
	if loader == nil {
		in.leaveOut("the medium does not start by UEFI: EFI/%s/%s is missing", vendor, loaderName)
		return nil, nil
	}
	if cd := in.cdLoader(); cd != nil {
		loader = cd
	}
	root := tree.NewDir(0o755)
	put := func(path string, i *tree.Inode) {
		if i != nil {
			f := tree.NewFile(0o644, i.Content)
			f.Mtime = in.Time
			bootupd.PutFile(root, path, f)
		}
	}
	if in.caps.Shim {
		put("EFI/BOOT/"+p.removable(), in.payload.Lookup("BOOT/"+p.removable()))
		put("EFI/BOOT/"+loaderName, loader)
		for _, name := range []string{p.file("mm"), "MokManager.efi"} {
			manager := in.payload.Lookup(vendor + "/" + name)
			if manager == nil {
				manager = in.payload.Lookup("BOOT/" + name)
			}
			put("EFI/BOOT/"+name, manager)
		}
		in.putShimData(put)
	} else {
		put("EFI/BOOT/"+p.removable(), loader)
	}
	put("EFI/BOOT/fonts/unicode.pf2", in.font())
	stub := tree.NewFile(0o644, content.Bytes(grub.MediumStub(in.Menu.VolumeID)))
	put("EFI/BOOT/grub.cfg", stub)
	put("EFI/"+vendor+"/grub.cfg", stub)
	if in.packaged != nil && in.packaged.config != "" {
		put(in.packaged.config, stub)
	}
	return stamped(root, in.Time), nil
}

// putShimData puts the certificates and revocations that shim reads from its own
// directory.
func (in *mediumInstallation) putShimData(put func(string, *tree.Inode)) {
	for _, f := range in.payload.Files {
		name := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
		lower := strings.ToLower(name)
		if f.Copied && (strings.HasPrefix(lower, "shim_certificate") || strings.HasPrefix(lower, "revocations")) && strings.HasSuffix(lower, ".efi") {
			put("EFI/BOOT/"+name, f.Inode)
		}
	}
}

// cdLoader returns the GRUB that is made for media, or nil: only one that shim
// trusts where shim is used.
func (in *mediumInstallation) cdLoader() *tree.Inode {
	p := in.platform
	if i := in.payload.Lookup(in.caps.Vendor + "/" + p.file("gcd")); i != nil {
		return i
	}
	if i := firstFile(in.OS, "usr/lib/grub/"+p.modules+"-signed/"+p.file("gcd")+".signed"); i != nil && in.caps.Shim {
		return i
	}
	if in.caps.Shim {
		return nil
	}
	return firstFile(in.OS, "usr/lib/grub/"+p.modules+"/monolithic/"+p.file("gcd"))
}

// stamped returns the tree with one time for all directories.
func stamped(root *tree.Inode, time int64) *tree.Inode {
	_ = tree.Walk(root, func(_ string, i *tree.Inode) error {
		i.Mtime = time
		return nil
	})
	return root
}
