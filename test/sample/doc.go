// Command sample makes what the tests of imgbuild need from Debian packages,
// as an ordinary user and without running their maintainer scripts:
//
//	sample image -o DIR   a small bootable bootc image as an OCI layout
//	sample tools -o DIR   reference tools that run on any distribution
//
// The image is real where it matters: Debian's signed kernel, shim and GRUB, so
// that Secure Boot works; systemd, udev and ostree's own boot code; a bootupd
// payload; layers in three compressions with whiteouts, hard links and extended
// attributes. It is small where it does not: hardly any units, busybox for
// most commands, no login. At the end of its boot it compares what it runs from
// with what its layers amount to and prints one line on the serial console:
//
//	SAMPLE-BOOT-OK <kernel> <root> <stateroot>/<deployment> composefs=y
//	  failed-units=0 firmware=uefi secureboot=n features=ok uptime=17.0
//
// With -plain it has no bootupd: shim and GRUB are where Debian's packages have
// them, and there is no configuration for GRUB.
//
// With -fedoralike it is shaped like the images of Fedora and CentOS: the base
// is an encapsulated ostree commit in several layers, with labels of SELinux;
// the layers on top of it change some of them; the boot loaders are below
// usr/lib/efi; the root file system is to be xfs. The line at the end of the boot
// has selinux=permissive mislabeled=0 then. That takes Linux on amd64, as two
// programs of Debian's packages are run here to compile the policy.
//
// The same packages give the same bytes. See imgbuild/test/debian for where
// they come from and how far they can be trusted.
package main
