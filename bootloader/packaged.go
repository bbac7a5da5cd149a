package bootloader

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"

	"imgbuild/bootloader/bootupd"
	"imgbuild/bootloader/grub"
	"imgbuild/content"
	"imgbuild/tree"
)

// packaged is the EFI files that an image without bootupd's metadata has, laid
// out as the distribution's own installer does it.
type packaged struct {
	files  *bootupd.Payload
	vendor string // directory on the ESP
	grub   string // GRUB's path below EFI/
	shim   bool
	image  *grub.EFIImage // nil when GRUB's binary tells nothing
	config string         // where else than in the vendor's directory GRUB looks for grub.cfg, or ""
}

// findPackaged looks for EFI files: where bootupd's packages and rpm-ostree
// have them (Fedora, CentOS, RHEL), in the packages of shim and GRUB (Debian and
// its derivatives; openSUSE). It returns nil when the image has none.
//
// Arch and others that ship GRUB's modules only have their tools compose an EFI
// binary, which is not done here.
func findPackaged(os *tree.Inode, p platform) (*packaged, error) {
	var problem error // of one place, while another may do
	for _, find := range []func(*tree.Inode, platform) (*packaged, error){laidOut, debian, openSUSE} {
		found, err := find(os, p)
		if found != nil {
			return found, nil
		}
		if problem == nil {
			problem = err
		}
	}
	return nil, problem
}

// laidOut finds directories that are laid out as on the ESP already.
func laidOut(os *tree.Inode, p platform) (*packaged, error) {
	var problem error
	for _, read := range []func() (*bootupd.Payload, error){
		func() (*bootupd.Payload, error) { return bootupd.FindPayload(os) },
		func() (*bootupd.Payload, error) { return bootupd.ReadPayload(os, "usr/lib/ostree-boot/efi/EFI") },
		func() (*bootupd.Payload, error) { return bootupd.ReadPayload(os, "boot/efi/EFI") },
	} {
		files, err := read()
		if err != nil && problem == nil {
			problem = err
		}
		if files == nil || err != nil {
			continue
		}
		vendor, err := files.Vendor(p.file("shim"))
		if err != nil || files.Lookup("BOOT/"+p.removable()) == nil {
			continue // another architecture's, or part of one only
		}
		found := &packaged{files: files, vendor: vendor, grub: vendor + "/" + p.file("grub"), shim: true}
		if i := files.Lookup(found.grub); i != nil {
			found.image, _ = grub.ParseEFI(i.Content)
		}
		return found, nil
	}
	return nil, problem
}

// debian finds the files of Debian's and Ubuntu's packages: the signed ones, or
// GRUB without a signature where there are no others.
func debian(os *tree.Inode, p platform) (*packaged, error) {
	dir := "usr/lib/grub/" + p.modules
	loader := firstFile(os, dir+"-signed/"+p.file("grub")+".signed", dir+"/monolithic/"+p.file("grub"))
	if loader == nil {
		return nil, nil
	}
	found := &packaged{files: &bootupd.Payload{Root: dir}}
	if err := found.readGRUB(os, loader, dir); err != nil {
		return nil, err
	}
	const shimDir = "usr/lib/shim/"
	either := func(stem string) *tree.Inode {
		name := shimDir + p.file(stem)
		// Ubuntu's .signed is an alternative, which its .latest is.
		return firstFile(os, name+".signed", name+".signed.latest", name+".dualsigned", name)
	}
	shim := either("shim")
	if shim == nil {
		// Without shim GRUB is what the firmware starts, and so has no signature
		// that counts.
		found.grub = "BOOT/" + p.removable()
		found.put(found.grub, loader)
		return found, nil
	}
	found.shim = true
	found.grub = found.vendor + "/" + p.file("grub")
	found.put("BOOT/"+p.removable(), shim)
	found.put(found.vendor+"/"+p.file("shim"), shim)
	found.put(found.grub, loader)
	manager := either("mm")
	found.put(found.vendor+"/"+p.file("mm"), manager)
	if fallback := either("fb"); fallback != nil {
		csv := "BOOT" + strings.ToUpper(p.efi) + ".CSV"
		found.put("BOOT/"+p.file("fb"), fallback)
		found.putCSV(csv, firstFile(os, shimDir+csv), p.file("shim"))
		return found, nil
	}
	// shim starts GRUB from its own directory.
	found.put("BOOT/"+p.file("grub"), loader)
	found.put("BOOT/"+p.file("mm"), manager)
	return found, nil
}

// openSUSE finds the files of openSUSE's packages and lays them out as its
// shim-install does. Its shim has other names for what it starts.
func openSUSE(os *tree.Inode, p platform) (*packaged, error) {
	for _, dir := range []string{"usr/share/efi/" + p.machine, "usr/lib64/efi"} {
		at := func(name string) *tree.Inode { return firstFile(os, dir+"/"+name) }
		shim, loader := at("shim.efi"), at("grub.efi")
		if shim == nil || loader == nil {
			continue
		}
		found := &packaged{files: &bootupd.Payload{Root: dir}, shim: true}
		if err := found.readGRUB(os, loader, dir); err != nil {
			return nil, err
		}
		found.grub = found.vendor + "/grub.efi"
		found.put("BOOT/"+p.removable(), shim)
		found.put("BOOT/MokManager.efi", at("MokManager.efi"))
		found.put(found.vendor+"/shim.efi", shim)
		found.put(found.vendor+"/MokManager.efi", at("MokManager.efi"))
		found.put(found.grub, loader)
		if fallback := at("fallback.efi"); fallback != nil {
			found.put("BOOT/fallback.efi", fallback)
			found.putCSV("boot.csv", nil, "shim.efi")
		} else {
			found.put("BOOT/grub.efi", loader)
		}
		return found, nil
	}
	return nil, nil
}

// readGRUB works out the vendor's directory: the one that is compiled into
// GRUB, which is where it looks for its configuration.
func (f *packaged) readGRUB(os *tree.Inode, loader *tree.Inode, dir string) error {
	image, err := grub.ParseEFI(loader.Content)
	if err != nil {
		return fmt.Errorf("GRUB's EFI binary in %s: %w", dir, err)
	}
	f.image = image
	f.vendor = distributor(os)
	if image.Prefix == "" {
		return nil // then it looks where it was started from
	}
	prefix := strings.Trim(image.Prefix, "/")
	parts := strings.Split(prefix, "/")
	if !strings.HasPrefix(image.Prefix, "/") || !all(parts, plainName) {
		return fmt.Errorf("GRUB's EFI binary in %s: prefix %q is no directory of the EFI system partition", dir, image.Prefix)
	}
	if len(parts) == 2 && strings.EqualFold(parts[0], "EFI") && !strings.EqualFold(parts[1], "BOOT") {
		f.vendor = parts[1]
		return nil
	}
	f.config = prefix + "/grub.cfg"
	return nil
}

// plainName tells whether s is a name that needs no care on a FAT file system.
func plainName(s string) bool {
	return s != "" && len(s) <= 64 && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}

// put adds a file of the image, if there is one.
func (f *packaged) put(at string, file *tree.Inode) {
	if file != nil {
		f.files.Files = append(f.files.Files, bootupd.File{Path: at, Copied: true, Inode: file})
	}
}

// putCSV adds the file by which shim's fallback makes a boot entry: the
// image's, or one like the distributions'.
func (f *packaged) putCSV(name string, file *tree.Inode, shim string) {
	if file == nil {
		text := fmt.Sprintf("%s,%s,,This is the boot entry for %s\n", shim, f.vendor, f.vendor)
		var b []byte
		for _, u := range utf16.Encode([]rune(text)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		file = tree.NewFile(0o644, content.Bytes(b))
	}
	f.put(f.vendor+"/"+name, file)
}

// firstFile returns the first regular file there is, through symbolic links, or
// nil.
func firstFile(os *tree.Inode, paths ...string) *tree.Inode {
	for _, p := range paths {
		if i, err := tree.Resolve(os, p); err == nil && i.IsFile() {
			return i
		}
	}
	return nil
}

// distributor returns a directory name for the OS: the first word of its NAME
// in lower case, as grub-install and shim-install have it.
func distributor(os *tree.Inode) string {
	const fallback = "linux"
	text, err := tree.ReadFile(os, "usr/lib/os-release", 64<<10)
	if err != nil {
		return fallback
	}
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "NAME=")
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(strings.Trim(value, `"'`), " ")
		if word = strings.ToLower(word); plainName(word) && word != "boot" {
			return word
		}
	}
	return fallback
}
