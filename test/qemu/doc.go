// Package qemu boots disk images in QEMU and waits for the line that a test
// image prints on its serial console when it is up.
//
// The machine is emulated, so no privilege and no KVM is needed, and it is the
// same everywhere: q35, or virt for arm64, with two processors, the disk on
// virtio, one serial port. The image itself is not written to. QEMU
// (qemu-system-x86_64, qemu-system-aarch64, qemu-img) and OVMF or AAVMF come
// from the host's packages.
package qemu
