package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	shell   = "/bin/sh"
	session = "installer's shell" // the name that a process runs under whose session a shell is
)

// drainTime is how long a terminal may take for what a shell said last.
const drainTime = 10 * time.Second

// Shell implements Machine.
//
// When the first process of a session ends, the kernel hangs its terminal up, and what
// a slow line has not sent by then is lost: the answer to the last command before the
// exit. So that process is one of ours, and the shell is its child.
func (m *machine) Shell(ctx context.Context) error {
	path, back := m.console.lend()
	defer back()
	if path == "" {
		return errors.New("there is no console for a shell")
	}
	if _, err := os.Stat(shell); err != nil {
		return errors.New("there is no shell: the image has none that could have come along")
	}
	fmt.Fprintf(m.console, "\nA shell on %s; exit ends it.\n", path)
	tty, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{session}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{tty, tty, tty},
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0},
	})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() })
	defer stop()
	state, err := p.Wait()
	if err == nil && !state.Success() && ctx.Err() == nil {
		err = fmt.Errorf("%s: %v", shell, state)
	}
	return err
}

// IsSession tells whether this process was started by [machine.Shell].
func IsSession() bool { return os.Getppid() == 1 && os.Args[0] == session }

// Session runs a shell in the foreground of the terminal that standard input is, and
// waits until the terminal has sent what it said.
func Session() error {
	p, err := os.StartProcess(shell, []string{"-sh"}, &os.ProcAttr{
		Dir: "/", Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Foreground: true, Ctty: unix.Stdin},
	})
	if err != nil {
		return err
	}
	// How a shell ends is that of its last command: no error of ours.
	if _, err := p.Wait(); err != nil {
		return err
	}
	// Only the group of processes in the foreground may wait for a terminal, which the
	// shell's was, or who does not care.
	signal.Ignore(syscall.SIGTTOU)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_ = unix.IoctlSetInt(unix.Stdout, unix.TCSBRK, 1) // tcdrain
	}()
	select {
	case <-sent:
	case <-time.After(drainTime): // nobody reads
	}
	return nil
}
