package oci

import (
	"fmt"
	"strings"

	"imgbuild/fault"
)

// archs lists the architectures that images are made for: GOARCH first, then
// the spellings of RPM, Rust and Debian where they differ.
var archs = [][]string{
	{"amd64", "x86_64", "x86-64"},
	{"arm64", "aarch64"},
	{"ppc64le", "powerpc64le", "ppc64el"},
	{"s390x"},
	{"riscv64", "riscv64gc"},
}

// ParseArch returns the GOARCH of an architecture in the spelling of Go, Rust,
// RPM or Debian. The error is of the class Usage.
func ParseArch(s string) (goarch string, err error) {
	for _, names := range archs {
		for _, name := range names {
			if s == name {
				return names[0], nil
			}
		}
	}
	known := make([]string, len(archs))
	for i, names := range archs {
		known[i] = names[0]
	}
	return "", fault.New(fault.Usage, fmt.Errorf("unknown architecture %s", clip(s)), "known are "+strings.Join(known, ", "))
}
