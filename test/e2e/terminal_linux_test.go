package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns the master of a new terminal, and the name of its other
// end.
func openTerminal(t *testing.T) (*os.File, string) {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return f, fmt.Sprintf("/dev/pts/%d", n)
}

// On a terminal the disk is named, with what is on it, and the answer decides.
func TestInstallAsks(t *testing.T) {
	const size = 64 << 20
	for answer, code := range map[string]int{"no\n": 130, "\n": 130, "yes please\n": 130, "yes\n": 7, "disk.img\n": 7} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			disk := usedFile(t, size)
			terminal, name := openTerminal(t)
			slave, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
			if err != nil {
				t.Fatal(err)
			}
			cmd := command(t, "install", "--via-loopback", "--no-cache", "--to", disk, "oci:"+sample(t))
			cmd.Stdin = slave
			go func() {
				time.Sleep(200 * time.Millisecond)
				_, _ = terminal.Write([]byte(answer))
			}()
			r := run(t, cmd)
			slave.Close()
			for _, want := range []string{"Disk: " + disk + ", file, 64 MiB", "On it: unknown data", "EVERYTHING ON THIS DISK WILL BE ERASED", "Type disk.img or yes"} {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("no %q in %s", want, r.stderr)
				}
			}
			// Who says yes learns that the disk is too small.
			if r.code != code || code == 130 && !strings.Contains(r.stderr, "not confirmed, nothing was written") {
				t.Errorf("exit %d, want %d: %s", r.code, code, r.stderr)
			}
		})
	}
}
