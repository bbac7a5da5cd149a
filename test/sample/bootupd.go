package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"imgbuild/test/debian"
)

// bootPayload adds what bootupd would install: the directory updates/EFI with
// the signed boot loaders, and the metadata that names their versions. The
// static GRUB configuration is among the embedded files.
func bootPayload(root rootfs, archive *debian.Archive, p platform, epoch int64) error {
	const updates = "usr/lib/bootupd/updates/"
	signed := map[string]string{"amd64": "x86_64-efi-signed", "arm64": "arm64-efi-signed"}[p.arch]
	files := [][2]string{
		{"EFI/BOOT/BOOT" + strings.ToUpper(p.efi) + ".EFI", "usr/lib/shim/shim" + p.efi + ".efi.signed"},
		{"EFI/BOOT/fb" + p.efi + ".efi", "usr/lib/shim/fb" + p.efi + ".efi.signed"},
		{"EFI/debian/shim" + p.efi + ".efi", "usr/lib/shim/shim" + p.efi + ".efi.signed"},
		{"EFI/debian/mm" + p.efi + ".efi", "usr/lib/shim/mm" + p.efi + ".efi.signed"},
		{"EFI/debian/grub" + p.efi + ".efi", "usr/lib/grub/" + signed + "/grub" + p.efi + ".efi.signed"},
	}
	for _, f := range files {
		data, err := root.regular(f[1])
		if err != nil {
			return err
		}
		root.file(updates+f[0], 0o644, data)
	}
	root.remove("usr/lib/shim")
	root.remove("usr/lib/grub/" + signed)
	// The fallback loader of shim makes a boot entry of this.
	csv := fmt.Sprintf("shim%s.efi,debian,,Debian boot entry\n", p.efi)
	root.file(updates+"EFI/debian/BOOT"+strings.ToUpper(p.efi)+".CSV", 0o644, utf16LE(csv))

	grub := "grub-efi-" + p.arch + "-signed"
	if err := writeMetadata(root, updates+"EFI.json", archive, epoch, [][2]string{{"grub2", grub}, {"shim", "shim-signed"}}); err != nil {
		return err
	}
	if p.bios {
		return writeMetadata(root, updates+"BIOS.json", archive, epoch, [][2]string{{"grub2", "grub-pc-bin"}})
	}
	return nil
}

// writeMetadata adds a file of bootupd's ContentMetadata. modules are pairs of
// a name and the package whose version counts.
func writeMetadata(root rootfs, name string, archive *debian.Archive, epoch int64, modules [][2]string) error {
	type module struct {
		Name string `json:"name"`
		EVR  string `json:"rpm_evr"`
	}
	meta := struct {
		Timestamp string   `json:"timestamp"`
		Version   string   `json:"version"`
		Versions  []module `json:"versions"`
	}{Timestamp: time.Unix(epoch, 0).UTC().Format(time.RFC3339)}
	var all []string
	for _, m := range modules {
		p := archive.Lookup(m[1])
		if p == nil {
			return fmt.Errorf("%s: no package %s", name, m[1])
		}
		meta.Versions = append(meta.Versions, module{m[0], p.Version})
		all = append(all, m[0]+"-"+p.Version)
	}
	meta.Version = strings.Join(all, ",")
	b, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	root.file(name, 0o644, b)
	return nil
}

// utf16LE encodes text in UTF-16, little endian, after a byte order mark.
func utf16LE(s string) []byte {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
