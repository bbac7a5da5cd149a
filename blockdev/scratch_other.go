//go:build !linux

package blockdev

import "context"

// MountScratch is special to Linux.
func (v *Device) MountScratch(context.Context, *Plan, Range, string, string) (release func() error, err error) {
	return nil, unsupported()
}
