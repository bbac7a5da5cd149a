package main

import "fmt"

// platform is what differs between the architectures of the image.
type platform struct {
	arch    string // Debian's and OCI's name of it
	triplet string // directory of its libraries
	efi     string // suffix of UEFI file names
	kernel  string // package
	boot    []string
	bios    bool // GRUB for BIOS
}

func platformOf(arch string) (platform, error) {
	switch arch {
	case "amd64":
		return platform{arch: arch, triplet: "x86_64-linux-gnu", efi: "x64", kernel: "linux-image-cloud-amd64", bios: true,
			boot: []string{"shim-signed", "shim-helpers-amd64-signed", "grub-efi-amd64-signed", "grub-pc-bin"}}, nil
	case "arm64":
		return platform{arch: arch, triplet: "aarch64-linux-gnu", efi: "aa64", kernel: "linux-image-cloud-arm64",
			boot: []string{"shim-signed", "shim-helpers-arm64-signed", "grub-efi-arm64-signed"}}, nil
	}
	return platform{}, fmt.Errorf("architecture %q: amd64 and arm64 are known", arch)
}

// systemPackages are installed with what they depend on.
var systemPackages = []string{"base-files", "base-passwd", "systemd", "systemd-sysv", "udev", "mount", "kmod",
	"busybox", "ostree-boot", "libcap2-bin", "attr"}

// systemDrop is what they depend on, but do not need here.
var systemDrop = []string{"ostree", "gpg", "gpg-agent", "gpgsm", "awk", "debconf", "libc-gconv-modules-extra", "openssl-provider-legacy"}

// bootDrop are packages around the kernel and the boot loaders that install
// and maintain them, which is not how they get onto a disk here.
var bootDrop = []string{"grub2-common", "debconf", "mokutil", "grub-efi-amd64-bin", "grub-efi-arm64-bin", "shim-unsigned",
	"shim-signed-common", "dracut", "initramfs-tools", "kmod", "linux-base", "libdevmapper1.02.1", "libc6"}

// dropDirs are left out of every package.
var dropDirs = []string{"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/bash-completion",
	"usr/share/zsh", "usr/share/lintian", "usr/share/bug", "usr/share/polkit-1", "usr/share/mime", "usr/share/factory",
	"usr/share/dbus-1", "usr/share/initramfs-tools", "usr/share/grub", "usr/share/base-files", "usr/share/gcc",
	"usr/share/glib-2.0", "usr/share/apport", "usr/share/libgcrypt20", "usr/share/xml", "usr/share/pkgconfig",
	"usr/share/icons", "usr/share/gnupg", "usr/share/cruft", "usr/share/doc-base", "usr/share/fish", "usr/share/user-tmpfiles.d", "usr/share/zoneinfo", "usr/share/menu", "usr/share/readline", "usr/lib/dracut", "usr/lib/systemd/catalog",
	"usr/lib/systemd/user", "usr/lib/systemd/network", "usr/lib/systemd/ukify", "usr/lib/systemd/boot", "usr/lib/udev/hwdb.d",
	"usr/lib/kernel", "usr/lib/pcrlock.d", "usr/lib/python3", "usr/lib/locale", "usr/lib/pam.d", "usr/lib/sysusers.d",
	"usr/lib/lsb", "usr/lib/environment.d", "usr/include", "usr/src", "usr/games", "usr/libexec/libostree", "usr/libexec/libselinux", "usr/lib/gnupg", "usr/lib/systemd/user-generators",
	"usr/lib/systemd/user-environment-generators", "usr/lib/systemd/profile.d", "usr/lib/systemd/ssh_config.d", "etc/ssh", "etc/xdg",
	"etc/init.d", "etc/cron.d", "etc/cron.daily", "etc/cron.weekly", "etc/logrotate.d", "etc/pam.d", "etc/X11", "etc/grub.d",
	"etc/dracut.conf.d", "etc/profile.d", "etc/skel", "etc/update-motd.d", "etc/kernel", "etc/apt", "etc/dpkg", "etc/gss",
	"etc/terminfo", "usr/lib/terminfo", "usr/share/terminfo", "usr/share/tabset", "usr/share/sensible-utils",
	"usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/grub", "var", "boot", "home", "root", "run", "dev", "proc", "sys", "tmp"}

// systemdPrograms are those of systemd and udev that the image runs; their
// other programs are left out, with the units that stay behind unused.
var systemdPrograms = map[string]bool{
	"systemd": true, "systemd-executor": true, "systemd-journald": true, "systemd-shutdown": true, "systemd-udevd": true,
	"systemd-fsck": true, "systemd-remount-fs": true, "systemd-growfs": true, "systemd-makefs": true,
	"systemd-sulogin-shell": true, "systemd-modules-load": true, "systemd-sysctl": true, "systemd-random-seed": true,
	"systemd-user-sessions": true, "systemd-update-done": true, "systemd-volatile-root": true,
}

// programs are the files in usr/bin and usr/sbin that stay.
var programs = map[string]bool{
	"systemctl": true, "journalctl": true, "udevadm": true, "systemd-tmpfiles": true, "systemd-notify": true,
	"systemd-escape": true, "systemd-run": true, "systemd-sysusers": true, "systemd-machine-id-setup": true,
	"mount": true, "umount": true, "losetup": true, "swapon": true, "swapoff": true, "kmod": true, "lsmod": true,
	"modprobe": true, "insmod": true, "rmmod": true, "modinfo": true, "depmod": true, "busybox": true, "getcap": true,
	"setcap": true, "getfattr": true, "setfattr": true, "init": true, "reboot": true, "poweroff": true, "halt": true,
	"shutdown": true,
}

// applets are commands that busybox stands for in the image.
var applets = []string{"[", "arch", "awk", "base64", "basename", "blkid", "cat", "chgrp", "chmod", "chown", "clear", "cmp",
	"cp", "cut", "date", "dd", "df", "diff", "dirname", "dmesg", "du", "echo", "env", "expr", "false", "find", "free",
	"fsync", "grep", "gunzip", "gzip", "head", "hexdump", "hostname", "id", "install", "ip", "kill", "less", "ln", "ls",
	"md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "more", "mv", "nproc", "od", "pgrep", "pidof", "pkill", "printf", "ps",
	"pwd", "readlink", "realpath", "rm", "rmdir", "sed", "seq", "sh", "sha256sum", "sleep", "sort", "stat", "stty",
	"sync", "tail", "tar", "tee", "test", "timeout", "top", "touch", "tr", "true", "truncate", "tty", "uname", "uniq",
	"uptime", "usleep", "vi", "wc", "which", "whoami", "xargs", "xxd", "yes", "zcat"}

// dlopened are libraries that programs load by name when they need them.
var dlopened = []string{"libblkid.so.1", "libmount.so.1", "libkmod.so.2", "libselinux.so.1", "libacl.so.1", "liblzma.so.5",
	"libzstd.so.1"}

// wantedUnits are the units that are started because another one wants them.
// The rest of what systemd and udev enable is for machines with more to do.
var wantedUnits = map[string]bool{
	"tmp.mount": true, "systemd-journald.service": true, "systemd-journald.socket": true,
	"systemd-journald-dev-log.socket": true, "systemd-udevd.service": true, "systemd-udevd-kernel.socket": true,
	"systemd-udevd-control.socket": true, "systemd-udevd-varlink.socket": true, "systemd-udev-trigger.service": true,
	"systemd-tmpfiles-setup.service": true, "systemd-tmpfiles-setup-dev.service": true,
	"systemd-tmpfiles-setup-dev-early.service": true,
}

// udevRules are the rules that disks and systemd need.
var udevRules = map[string]bool{"50-udev-default.rules": true, "60-block.rules": true,
	"60-persistent-storage.rules": true, "99-systemd.rules": true}

// imageModules are the kernel modules of the image beyond bootModules.
var imageModules = []string{"virtio_net?", "virtio_rng?", "virtio_balloon?", "vfat", "nls_cp437?", "nls_ascii?",
	"nls_iso8859_1?", "nls_utf8?", "efivarfs?", "autofs4?", "qemu_fw_cfg?", "dm_mod?", "dm_verity?", "ena?", "gve?",
	"hv_netvsc?", "xen_netfront?"}

// links are the symbolic links in the root directory.
var links = map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64",
	"ostree": "sysroot/ostree", "home": "var/home", "root": "var/roothome", "opt": "var/opt", "srv": "var/srv",
	"mnt": "var/mnt", "media": "run/media", "usr/local": "../var/usrlocal"}

// systemGroups are the groups that udev and systemd name in rules and
// tmpfiles.d beyond those of base-passwd.
var systemGroups = []string{"systemd-journal", "input", "sgx", "clock", "kvm", "render", "systemd-network", "lpadmin"}

// firstSystemGroup is the id of the first of them; they count down from here.
const firstSystemGroup = 999
