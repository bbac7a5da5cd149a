package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Firmware is what the machine starts with.
type Firmware string

const (
	BIOS       Firmware = "bios"       // SeaBIOS, which QEMU brings along
	UEFI       Firmware = "uefi"       // OVMF without Secure Boot
	SecureBoot Firmware = "secureboot" // OVMF with Microsoft's keys enrolled
)

// OVMFVariable names a directory that is searched before those of the
// distributions.
const OVMFVariable = "IMGBUILD_OVMF_DIR"

// ovmf is a pair of firmware files: code, and the variables to start from.
type ovmf struct{ code, vars string }

// ovmfFiles returns the names of the distributions, in the order of preference,
// or nil where an architecture has no such firmware.
func ovmfFiles(arch string, f Firmware) []ovmf {
	switch arch + " " + string(f) {
	case "amd64 uefi":
		return []ovmf{
			{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},                         // Debian, Ubuntu
			{"/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2", "/usr/share/edk2/ovmf/OVMF_VARS_4M.qcow2"},         // Fedora
			{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},                     // Fedora, CentOS
			{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},                 // Arch
			{"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"},               // openSUSE
			{"/opt/homebrew/share/qemu/edk2-x86_64-code.fd", "/opt/homebrew/share/qemu/edk2-i386-vars.fd"}, // QEMU's own
			{"/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"},
		}
	case "amd64 secureboot":
		// Only with keys enrolled: without them the firmware checks nothing.
		return []ovmf{
			{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
			{"/usr/share/edk2/ovmf/OVMF_CODE_4M.secboot.qcow2", "/usr/share/edk2/ovmf/OVMF_VARS_4M.secboot.qcow2"},
			{"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"},
			{"/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"},
		}
	case "arm64 uefi":
		return []ovmf{
			{"/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"}, // Debian, Ubuntu
			{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
			{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.qcow2", "/usr/share/edk2/aarch64/vars-template-pflash.qcow2"}, // Fedora
			{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
			{"/usr/share/edk2/aarch64/QEMU_CODE.fd", "/usr/share/edk2/aarch64/QEMU_VARS.fd"},               // Arch
			{"/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"},           // openSUSE
			{"/opt/homebrew/share/qemu/edk2-aarch64-code.fd", "/opt/homebrew/share/qemu/edk2-arm-vars.fd"}, // QEMU's own
			{"/usr/share/qemu/edk2-aarch64-code.fd", "/usr/share/qemu/edk2-arm-vars.fd"},
		}
	case "arm64 secureboot":
		return []ovmf{
			{"/usr/share/AAVMF/AAVMF_CODE.secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd"},
			{"/usr/share/AAVMF/AAVMF_CODE.ms.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd"},
		}
	}
	return nil
}

// findOVMF returns the first pair of files that is there.
func findOVMF(arch string, f Firmware) (ovmf, error) {
	known := ovmfFiles(arch, f)
	if known == nil {
		return ovmf{}, fmt.Errorf("no firmware %q for %q: bios, uefi and secureboot are known for amd64, uefi and secureboot for arm64", f, arch)
	}
	candidates := known
	if dir := os.Getenv(OVMFVariable); dir != "" {
		candidates = nil
		for _, o := range known {
			candidates = append(candidates, ovmf{filepath.Join(dir, filepath.Base(o.code)), filepath.Join(dir, filepath.Base(o.vars))})
		}
	}
	var tried []string
	for _, o := range candidates {
		if readable(o.code) && readable(o.vars) {
			return o, nil
		}
		tried = append(tried, o.code)
	}
	return ovmf{}, fmt.Errorf("no OVMF for %s, %s (package ovmf, qemu-efi-aarch64, edk2-ovmf or edk2-aarch64); looked for %s", arch, f, strings.Join(tried, ", "))
}

func readable(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// imageFormat is the format of a firmware file for QEMU.
func imageFormat(name string) string {
	if strings.HasSuffix(name, ".qcow2") {
		return "qcow2"
	}
	return "raw"
}

// arguments returns QEMU's, after copying the variables into dir.
func (f Firmware) arguments(arch, dir string) ([]string, error) {
	if arch == "amd64" && f == BIOS {
		return []string{"-machine", "q35"}, nil
	}
	o, err := findOVMF(arch, f)
	if err != nil {
		return nil, err
	}
	vars := filepath.Join(dir, "vars"+filepath.Ext(o.vars))
	data, err := os.ReadFile(o.vars)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(vars, data, 0o600); err != nil {
		return nil, err
	}
	args := []string{"-machine", "q35"}
	switch {
	case arch == "arm64":
		args = []string{"-machine", "virt"}
	case f == SecureBoot:
		// The variables are only safe from the guest with system management mode.
		args = []string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on",
			"-global", "ICH9-LPC.disable_s3=1"}
	}
	return append(args,
		"-drive", "if=pflash,unit=0,readonly=on,format="+imageFormat(o.code)+",file="+escape(o.code),
		"-drive", "if=pflash,unit=1,format="+imageFormat(vars)+",file="+escape(vars)), nil
}

// escape doubles commas, which separate QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
