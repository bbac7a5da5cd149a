//go:build !linux

package installer

// IsInit tells whether this process is the first one of an installer's initramfs,
// which only Linux has.
func IsInit() bool { return false }

// Main runs the installer, of which there is none here.
func Main() {}

// IsSession tells whether this process is one of an installer.
func IsSession() bool { return false }

// Session runs a shell of the installer.
func Session() error { return nil }
