package bootloader

import (
	"path"
	"strings"

	"imgbuild/bootloader/grub"
	"imgbuild/tree"
)

// platform is what the boot loaders of an architecture are called.
type platform struct {
	efi     string // suffix of EFI files, as in shimx64.efi; "" without UEFI
	modules string // GRUB's name of the platform for UEFI
	machine string // the kernel's name of the architecture
	// first is GRUB's platform for a firmware that loads it from the disk, or "".
	first string
}

// platformOf returns the platform of an architecture (GOARCH name) that has a
// boot loader.
func platformOf(arch string) (platform, bool) {
	switch arch {
	case "amd64":
		return platform{efi: "x64", modules: "x86_64-efi", machine: "x86_64", first: "i386-pc"}, true
	case "arm64":
		return platform{efi: "aa64", modules: "arm64-efi", machine: "aarch64"}, true
	case "riscv64":
		return platform{efi: "riscv64", modules: "riscv64-efi", machine: "riscv64"}, true
	case "ppc64le":
		return platform{machine: "ppc64le", first: "powerpc-ieee1275"}, true
	}
	return platform{}, false
}

// removable is the name of the file that firmware starts without being told
// one.
func (p platform) removable() string { return "BOOT" + strings.ToUpper(p.efi) + ".EFI" }

// file returns the name of an EFI file of the architecture.
func (p platform) file(stem string) string { return stem + p.efi + ".efi" }

// modulesDir returns GRUB's directory of a platform in an image, or "". bootupd
// only looks at the first; openSUSE has the second.
func modulesDir(os *tree.Inode, name string) string {
	if name == "" {
		return ""
	}
	for _, lib := range []string{"usr/lib/grub", "usr/share/grub2", "usr/lib/grub2"} {
		dir := path.Join(lib, name)
		if i, err := tree.Resolve(os, dir); err == nil && i.IsDir() {
			return dir
		}
	}
	return ""
}

// hasModule returns a function that tells whether a module is in a directory.
func hasModule(os *tree.Inode, dir string) func(string) bool {
	return func(module string) bool { return dir != "" && grub.HasModule(os, dir, module) }
}

// all tells whether fn holds for all of list.
func all(list []string, fn func(string) bool) bool {
	for _, v := range list {
		if !fn(v) {
			return false
		}
	}
	return true
}
