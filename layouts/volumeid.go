package layouts

import (
	"fmt"
	"strconv"
)

// ParseVolumeID parses the serial number of a FAT file system as blkid shows it:
// two groups of four hexadecimal digits. It is not zero.
func ParseVolumeID(s string) (uint32, error) {
	if len(s) == 9 && s[4] == '-' {
		if n, err := strconv.ParseUint(s[:4]+s[5:], 16, 32); err == nil && n != 0 {
			return uint32(n), nil
		}
	}
	return 0, fmt.Errorf("invalid volume ID %q, as in 7B77-95E7", s)
}
