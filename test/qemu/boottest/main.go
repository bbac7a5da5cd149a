// Command boottest boots a disk image in QEMU, without KVM and without writing
// to it, and prints the marker line that the image reports itself with.
//
//	boottest [-arch amd64|arm64] [-firmware bios|uefi|secureboot] [-bus virtio] [-sector 512] [-timeout 5m] IMAGE
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"imgbuild/test/qemu"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "boottest: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o qemu.Options
	flag.StringVar(&o.Arch, "arch", "amd64", "amd64 or arm64")
	firmware := flag.String("firmware", string(qemu.UEFI), "bios, uefi or secureboot")
	bus := flag.String("bus", "", "virtio, scsi, sata, nvme, usb or cdrom")
	flag.StringVar(&o.Format, "format", "", "format of the image, if not what it looks like")
	flag.StringVar(&o.LogPath, "log", "", "file for the serial console")
	flag.IntVar(&o.Memory, "memory", 0, "memory in MiB")
	flag.DurationVar(&o.Timeout, "timeout", 0, "how long to wait")
	flag.IntVar(&o.Sector, "sector", 0, "size of the disk's sectors in bytes")
	flag.BoolVar(&o.KVM, "kvm", false, "use KVM")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		return fmt.Errorf("one image, please")
	}
	o.Firmware, o.Bus = qemu.Firmware(*firmware), qemu.Bus(*bus)
	start := time.Now()
	m, err := qemu.Boot(ctx, flag.Arg(0), o)
	if err != nil {
		return err
	}
	for _, n := range m.Notes {
		fmt.Println("note:", n)
	}
	fmt.Println(m.Line)
	if err := m.Check(o.Firmware); err != nil {
		return err
	}
	fmt.Printf("booted by %s in %.1f s\n", o.Firmware, time.Since(start).Seconds())
	return nil
}
