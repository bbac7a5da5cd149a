package qemu

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// bootSector is a disk that prints text on the first serial port, in real mode,
// and then stops or resets the machine.
func bootSector(text string, reset bool) []byte {
	code := []byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x40, 0x7c, // mov si, 0x7c40
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x11, // jz done
		0x88, 0xc4, // mov ah, al
		0xba, 0xfd, 0x03, // mov dx, 0x3fd: line status
		0xec,       // wait: in al, dx
		0xa8, 0x20, // test al, 0x20: may transmit
		0x74, 0xfb, // jz wait
		0x88, 0xe0, // mov al, ah
		0xb2, 0xf8, // mov dl, 0xf8: data
		0xee,       // out dx, al
		0xeb, 0xea, // jmp next
	}
	done := []byte{0xfa, 0xf4, 0xeb, 0xfd} // cli; hlt; jmp to hlt
	if reset {
		done = []byte{0xea, 0x00, 0x00, 0xff, 0xff} // jmp 0xffff:0
	}
	b := make([]byte, 2<<20) // SeaBIOS wants a whole cylinder
	copy(b[copy(b, code):], done)
	copy(b[0x40:510], text)
	b[510], b[511] = 0x55, 0xaa
	return b
}

func writeImage(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a, b.raw") // a comma separates QEMU's options
	if err := os.WriteFile(name, data, 0o444); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBoot(t *testing.T) {
	const text = "loading\r\nSAMPLE-NOTE careful\r\nSAMPLE-BOOT-OK 1 2 3 firmware=bios uptime=1.5\r\n"
	data := bootSector(text, false)
	image, log := writeImage(t, data), filepath.Join(t.TempDir(), "serial,log")
	m, err := Boot(context.Background(), image, Options{Firmware: BIOS, LogPath: log})
	if err != nil {
		t.Fatal(err)
	}
	if m.Kernel != "1" || m.Firmware != "bios" || m.Uptime != 1500*time.Millisecond || len(m.Notes) != 1 {
		t.Errorf("%+v", m)
	}
	if b, err := os.ReadFile(log); err != nil || string(b) != text {
		t.Errorf("log %q, %v", b, err)
	}
	if b, err := os.ReadFile(image); err != nil || !bytes.Equal(b, data) {
		t.Errorf("the image has changed: %v", err)
	}
	m, err = Boot(context.Background(), image, Options{Firmware: BIOS, Bus: SATA, Expect: regexp.MustCompile("^load")})
	if err != nil || m.Line != "loading" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestBootFails(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	image := writeImage(t, bootSector("kernel panic\r\n", true))
	for name, c := range map[string]struct {
		ctx   context.Context
		image string
		o     Options
		want  string
	}{
		"reset":       {context.Background(), image, Options{Firmware: BIOS}, "stopped without a marker"},
		"log":         {context.Background(), image, Options{Firmware: BIOS}, "kernel panic"},
		"timeout":     {context.Background(), writeImage(t, bootSector("slow\r\n", false)), Options{Firmware: BIOS, Timeout: 4 * time.Second}, "no marker in 4s"},
		"no image":    {context.Background(), image + ".x", Options{Firmware: BIOS}, "No such file"},
		"no firmware": {context.Background(), image, Options{Firmware: "coreboot"}, "coreboot"},
		"no BIOS":     {context.Background(), image, Options{Arch: "arm64", Firmware: BIOS}, "for \"arm64\""},
		"no machine":  {context.Background(), image, Options{Arch: "mips64"}, "mips64"},
		"no bus":      {context.Background(), image, Options{Firmware: BIOS, Bus: "mca"}, "mca"},
		"cancelled":   {ctx, image, Options{Firmware: BIOS}, "canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Boot(c.ctx, c.image, c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, expected %q", err, c.want)
			}
			if c.ctx == ctx && !errors.Is(err, context.Canceled) {
				t.Errorf("%v is not context.Canceled", err)
			}
		})
	}
}

func TestDetectBus(t *testing.T) {
	iso := make([]byte, 64<<10)
	copy(iso[32769:], "CD001")
	for want, data := range map[Bus][]byte{CDROM: iso, Virtio: make([]byte, 512)} {
		if got, err := detectBus(writeImage(t, data)); err != nil || got != want {
			t.Errorf("%s, %v, expected %s", got, err, want)
		}
	}
}

// Firmware files are looked for by the distributions' names also in a directory
// of one's own.
func TestOVMFDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(OVMFVariable, dir)
	if _, err := findOVMF("amd64", SecureBoot); err == nil {
		t.Error("found in an empty directory")
	}
	for _, name := range []string{"OVMF_CODE.secboot.fd", "OVMF_VARS.secboot.fd"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := findOVMF("amd64", SecureBoot); err != nil || o.code != filepath.Join(dir, "OVMF_CODE.secboot.fd") {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestHangs(t *testing.T) {
	for log, want := range map[string]bool{
		"":                                false,
		"Welcome to GRUB!\n":              false,
		"  Booting `OS (ostree:0)'\n\n":   true,
		"  Booting `OS'\nsystemd[1]: x\n": false,
		"[    0.000000] Linux version 7.2\n[    1.0] hpet0: 3 comparators\n":      true,
		"[    0.000000] Linux version 7.2\n[    2.0] Run /init as init process\n": false,
		"  Booting `Install OS'\n\nStarting the installer ...\n":                  false,
		"systemd[1]: x\n[   38.571015] Oops: int3: 0000 [#1] SMP NOPTI\n":         true,
		"systemd[1]: x\n[   38.571015] Oops: 0002 [#1] SMP NOPTI\n":               false,
	} {
		if hangs([]byte(log)) != want {
			t.Errorf("%q: want %v", log, want)
		}
	}
}
