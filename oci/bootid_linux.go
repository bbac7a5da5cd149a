package oci

import (
	"os"
	"strings"
)

// bootID returns an id of this boot of the machine, or "". What was written
// since it began is there, in memory or on disk.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(b) > 128 {
		return ""
	}
	return strings.TrimSpace(string(b))
}
