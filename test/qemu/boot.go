package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	defaultTimeout = 15 * time.Minute // without KVM, beside other tests; half a minute on an idle machine
	defaultMemory  = 1536             // MiB
	pollInterval   = 200 * time.Millisecond
	tailLines      = 40
	hangTime       = time.Minute // without a line, see hangs; more after each restart
	maxRestarts    = 2
)

// Bus is how the boot medium is attached.
type Bus string

const (
	Virtio Bus = "virtio"
	SCSI   Bus = "scsi" // virtio-scsi
	SATA   Bus = "sata"
	NVMe   Bus = "nvme"
	USB    Bus = "usb"
	CDROM  Bus = "cdrom" // on virtio-scsi, read-only
)

// Options say how to boot; the zero value boots by UEFI without Secure Boot.
type Options struct {
	Arch     string         // GOARCH name, amd64 or arm64; default: amd64
	Firmware Firmware       // default: UEFI
	Format   string         // of the image, as QEMU calls it; default: what qemu-img finds
	Bus      Bus            // default: Virtio, for an ISO 9660 image CDROM
	Sector   int            // size of the sectors of the boot medium, as the machine sees it; default: 512
	Disks    []string       // raw or qcow2 images of further disks, which are written to
	Targets  []Attached     // further disks, on buses of their own
	Memory   int            // MiB, default 1536
	Timeout  time.Duration  // default: 15 minutes
	LogPath  string         // of the serial console; default: kept only while booting
	Netboot  string         // URL of a script that iPXE in the network card starts by a BIOS, before the boot medium
	SSH      bool           // of a Machine: a way to its port 22
	KVM      bool           // use it; the emulation is slower but the same everywhere
	Expect   *regexp.Regexp // wait for a line that matches, in place of the marker

	talk     *talk         // of a Machine
	patience time.Duration // with a kernel that says nothing
}

// Attached is a disk beside the boot medium, which is written to.
type Attached struct {
	Image  string // raw or qcow2
	Bus    Bus
	Serial string
}

// Boot starts a machine with the image as its first disk and returns when the
// marker appears on the serial console, or an error that ends with the last
// lines of it. The machine is gone then. The marker is not judged: see
// [Marker.Check]. With Options.Expect only its Line is set.
func Boot(ctx context.Context, image string, o Options) (Marker, error) {
	o = o.withDefaults()
	for restarts := 0; ; restarts++ {
		// What seems to hang on a busy machine may only be slow.
		o.patience = hangTime * time.Duration(1+2*restarts)
		m, err := o.boot(ctx, image)
		m.Restarts = restarts
		if !errors.Is(err, errHung) || restarts == maxRestarts {
			return m, err
		}
	}
}

// boot starts one machine.
func (o Options) boot(ctx context.Context, image string) (Marker, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "imgbuild-qemu-")
	if err != nil {
		return Marker{}, err
	}
	defer os.RemoveAll(dir)
	if o.LogPath == "" {
		o.LogPath = filepath.Join(dir, "serial.log")
	}
	// QEMU appends to what is there.
	if err := os.WriteFile(o.LogPath, nil, 0o644); err != nil {
		return Marker{}, err
	}
	args, err := arguments(ctx, dir, image, o)
	if err != nil {
		if ctx.Err() != nil {
			err = interrupted(ctx, o, nil)
		}
		return Marker{}, fmt.Errorf("%s: %w", image, err)
	}
	m, err := run(ctx, args, o)
	if err != nil {
		return m, fmt.Errorf("%s (%s): %w", image, o.Firmware, err)
	}
	return m, nil
}

func (o Options) withDefaults() Options {
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.Firmware == "" {
		o.Firmware = UEFI
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	return o
}

// arguments returns the command line of QEMU, without its name.
func arguments(ctx context.Context, dir, image string, o Options) ([]string, error) {
	image, err := filepath.Abs(image)
	if err != nil {
		return nil, err
	}
	if o.Format == "" {
		if o.Format, err = detectFormat(ctx, image); err != nil {
			return nil, err
		}
	}
	if o.Bus == "" {
		if o.Bus, err = detectBus(image); err != nil {
			return nil, err
		}
	}
	accel := []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
	if o.Arch == "arm64" {
		// Without the pointer authentication of "max", which is slow to emulate.
		accel[3] = "cortex-a72"
	}
	if o.KVM {
		accel = []string{"-accel", "kvm", "-cpu", "host"}
	}
	args := append([]string{"-nodefaults", "-no-reboot", "-display", "none", "-m", fmt.Sprint(o.Memory), "-smp", "2"}, accel...)
	serial, network := "file,id=serial,path="+escape(o.LogPath), "user,id=net"
	if o.talk != nil {
		serial, network = o.talk.serial(), o.talk.network()
	}
	card, index := "virtio-net-pci,netdev=net,romfile=", 1
	if o.Netboot != "" {
		network += ",bootfile=" + escape(o.Netboot)
		card, index = "virtio-net-pci,netdev=net,bootindex=1", 2
	}
	args = append(args, "-chardev", serial, "-serial", "chardev:serial",
		"-device", "virtio-rng-pci", "-netdev", network, "-device", card)
	firmware, err := o.Firmware.arguments(o.Arch, dir)
	if err != nil {
		return nil, err
	}
	args = append(args, firmware...)
	drive := "if=none,id=boot,format=" + o.Format + ",readonly=on,file=" + escape(image)
	if o.talk != nil {
		drive = "if=none,id=boot,cache=unsafe,format=" + o.Format + ",file=" + escape(image)
	} else if o.Bus != CDROM {
		overlay := filepath.Join(dir, "overlay.qcow2")
		if err := command(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", o.Format, "-b", image, overlay); err != nil {
			return nil, err
		}
		drive = "if=none,id=boot,format=qcow2,cache=unsafe,file=" + escape(overlay)
	}
	options := fmt.Sprintf(",bootindex=%d", index)
	if o.Sector != 0 {
		options += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%[1]d", o.Sector)
	}
	device, err := o.Bus.device("boot", options)
	if err != nil {
		return nil, err
	}
	args = append(append(args, "-drive", drive), device...)
	for i, disk := range o.Disks {
		format, err := detectFormat(ctx, disk)
		if err != nil {
			return nil, err
		}
		id := fmt.Sprintf("disk%d", i+1)
		args = append(args, "-drive", "if=none,id="+id+",cache=unsafe,format="+format+",file="+escape(disk),
			"-device", "virtio-blk-pci,drive="+id)
	}
	for i, t := range o.Targets {
		format, err := detectFormat(ctx, t.Image)
		if err != nil {
			return nil, err
		}
		id := fmt.Sprintf("target%d", i+1)
		options := ""
		if t.Serial != "" && t.Bus != NVMe {
			options = ",serial=" + t.Serial
		}
		device, err := t.Bus.device(id, options)
		if err != nil {
			return nil, err
		}
		for k := range device {
			// Controllers of their own, or ports where there is one for all.
			device[k] = strings.NewReplacer("ide-hd,", fmt.Sprintf("ide-hd,bus=ide.%d,", i+1), "id=scsi", "id=scsi"+id, "scsi.0", "scsi"+id+".0", "id=xhci", "id=xhci"+id, "xhci.0", "xhci"+id+".0").Replace(device[k])
		}
		args = append(append(args, "-drive", "if=none,id="+id+",cache=unsafe,format="+format+",file="+escape(t.Image)), device...)
	}
	return args, nil
}

// device returns the arguments that attach a drive to the bus.
func (b Bus) device(id, options string) ([]string, error) {
	scsi := []string{"-device", "virtio-scsi-pci,id=scsi"}
	switch b {
	case Virtio:
		return []string{"-device", "virtio-blk-pci,drive=" + id + options}, nil
	case SCSI:
		return append(scsi, "-device", "scsi-hd,bus=scsi.0,drive="+id+options), nil
	case CDROM:
		return append(scsi, "-device", "scsi-cd,bus=scsi.0,drive="+id+options), nil
	case SATA:
		return []string{"-device", "ide-hd,drive=" + id + options}, nil
	case NVMe:
		return []string{"-device", "nvme,serial=" + id + ",drive=" + id + options}, nil
	case USB:
		return []string{"-device", "qemu-xhci,id=xhci", "-device", "usb-storage,bus=xhci.0,drive=" + id + options}, nil
	}
	return nil, fmt.Errorf("bus %q is not known", b)
}

// detectFormat asks qemu-img, which knows all that QEMU can boot.
func detectFormat(ctx context.Context, image string) (string, error) {
	out, err := output(ctx, "qemu-img", "info", "--output=json", image)
	if err != nil {
		return "", err
	}
	var info struct{ Format string }
	if err := json.Unmarshal(out, &info); err != nil {
		return "", fmt.Errorf("qemu-img info: %w", err)
	}
	return info.Format, nil
}

// detectBus attaches what has an ISO 9660 volume descriptor as a CD-ROM.
func detectBus(image string) (Bus, error) {
	f, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const descriptor, magic = 16*2048 + 1, "CD001"
	b := make([]byte, len(magic))
	if _, err := f.ReadAt(b, descriptor); err != nil && err != io.EOF {
		return "", err
	}
	if string(b) == magic {
		return CDROM, nil
	}
	return Virtio, nil
}

// run starts QEMU and follows the log until there is a result.
func run(ctx context.Context, args []string, o Options) (Marker, error) {
	var messages bytes.Buffer
	program := "qemu-system-x86_64"
	if o.Arch == "arm64" {
		program = "qemu-system-aarch64"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &messages, &messages
	if err := cmd.Start(); err != nil {
		return Marker{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var exited bool
	defer func() {
		if !exited {
			cmd.Process.Kill()
			<-ended
		}
	}()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	size, grown := 0, time.Now()
	for {
		log, err := os.ReadFile(o.LogPath)
		if err != nil {
			return Marker{}, err
		}
		if len(log) != size {
			size, grown = len(log), time.Now()
		} else if time.Since(grown) > o.patience && hangs(log) {
			return Marker{}, fmt.Errorf("%w\n%s", errHung, tail(log))
		}
		if m, ok, err := o.find(log); ok {
			return m, err
		}
		if exited {
			return Marker{}, fmt.Errorf("the machine stopped without a marker: %s\n%s", strings.TrimSpace(messages.String()), tail(log))
		}
		select {
		case err := <-ended:
			if exited = true; ctx.Err() != nil {
				return Marker{}, interrupted(ctx, o, log)
			} else if err != nil {
				return Marker{}, fmt.Errorf("qemu: %w: %s", err, strings.TrimSpace(messages.String()))
			}
		case <-ticker.C:
		}
	}
}

// errHung is a machine that stopped in the kernel, for a reason that is QEMU's.
var errHung = errors.New("the machine hangs, for a reason of QEMU")

// hangs tells of a log that does not grow whether it ends in the kernel, before
// anything of the image runs. QEMU without KVM, with several processors, comes to
// that once in some fifty starts, whatever the disk: it is no word on the disk
// when that happens once, so the machine is started again.
//
// Nor is a kernel that runs into a breakpoint of its own: it sets them while it
// patches its code, and one processor took one for real, in some five hundred starts.
// Nor is one that says itself that a processor of its does not go on, and does not.
func hangs(log []byte) bool {
	for _, stuck := range []string{"] Oops: int3: ", "] watchdog: BUG: soft lockup - CPU#", " detected stalls on CPUs/tasks", " self-detected stall on CPU"} {
		if bytes.Contains(log, []byte(stuck)) {
			return true
		}
	}
	for _, begun := range []string{"] Run /init", "systemd", "Starting the installer"} {
		if bytes.Contains(log, []byte(begun)) {
			return false
		}
	}
	// A quiet kernel says nothing after GRUB's last words.
	return bytes.Contains(log, []byte("] Linux version ")) || bytes.Contains(log, []byte("Booting `"))
}

func interrupted(ctx context.Context, o Options, log []byte) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		if hangs(log) {
			return fmt.Errorf("%w, and no marker in %v\n%s", errHung, o.Timeout, tail(log))
		}
		return fmt.Errorf("no marker in %v\n%s", o.Timeout, tail(log))
	}
	return ctx.Err()
}

// find looks for what is waited for.
func (o Options) find(log []byte) (Marker, bool, error) {
	if o.Expect == nil {
		return FindMarker(log)
	}
	for line := range bytes.Lines(lines(log)) {
		if text := bytes.TrimSuffix(line, []byte{'\n'}); o.Expect.Match(text) {
			return Marker{Line: string(text)}, true, nil
		}
	}
	return Marker{}, false, nil
}

// tail returns the last lines of the serial console, without control characters.
func tail(log []byte) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, string(log))
	lines := strings.Split(strings.TrimSpace(clean), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

func command(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

// output runs a program and returns what it prints.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var messages bytes.Buffer
	cmd.Stderr = &messages
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(messages.String()))
	}
	return out, nil
}
