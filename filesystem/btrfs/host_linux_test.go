package btrfs

import "golang.org/x/sys/unix"

func mkfifo(name string) error { return unix.Mkfifo(name, 0o600) }

func setxattr(name, attr, value string) error { return unix.Setxattr(name, attr, []byte(value), 0) }
