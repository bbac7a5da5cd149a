package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Machine is a running machine that is talked to: on its serial console, and, with
// Options.SSH, over TCP on its port 22. It writes to its disk. A reboot ends it; the disk can be
// started again.
type Machine struct {
	SSH string // address that leads to port 22

	talk     *talk
	cmd      *exec.Cmd
	messages bytes.Buffer
	ended    chan struct{}
	dir      string
	console  net.Conn

	patience time.Duration // with a kernel that says nothing; hangTime by default

	mu  sync.Mutex
	log []byte
	pos int // what Expect has seen
}

// talk is how a machine is reached.
type talk struct {
	socket string
	port   int // of this machine, that leads to port 22; 0 for none
}

func (t *talk) serial() string {
	return "socket,id=serial,server=on,wait=on,path=" + escape(t.socket)
}

func (t *talk) network() string {
	if t.port == 0 {
		return "user,id=net"
	}
	return fmt.Sprintf("user,id=net,hostfwd=tcp:127.0.0.1:%d-:22", t.port)
}

// Start starts a machine with a disk, which is written to. It must be stopped.
func Start(ctx context.Context, disk string, o Options) (_ *Machine, err error) {
	o = o.withDefaults()
	m := &Machine{ended: make(chan struct{})}
	if m.dir, err = os.MkdirTemp("", "imgbuild-qemu-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(m.dir)
		}
	}()
	m.talk = &talk{socket: filepath.Join(m.dir, "serial")}
	if o.SSH {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		m.SSH, m.talk.port = l.Addr().String(), l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	o.talk = m.talk
	args, err := arguments(ctx, m.dir, disk, o)
	if err != nil {
		return nil, err
	}
	m.cmd = exec.Command("qemu-system-x86_64", args...)
	m.cmd.Stdout, m.cmd.Stderr = &m.messages, &m.messages
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = m.cmd.Wait()
		close(m.ended)
	}()
	// QEMU waits for the console before it starts the processor.
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(pollInterval) {
		if m.console, err = net.Dial("unix", m.talk.socket); err == nil {
			break
		}
		if m.over() || time.Now().After(deadline) {
			m.Stop()
			return nil, fmt.Errorf("qemu: no console: %w: %s", err, strings.TrimSpace(m.messages.String()))
		}
	}
	go m.read()
	return m, nil
}

// read collects what the console says.
func (m *Machine) read() {
	b := make([]byte, 64<<10)
	for {
		n, err := m.console.Read(b)
		m.mu.Lock()
		m.log = append(m.log, bytes.ReplaceAll(b[:n], []byte{'\r'}, nil)...)
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Log returns all that the console has said.
func (m *Machine) Log() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.log)
}

// Send types a text on the console.
func (m *Machine) Send(text string) error {
	_, err := m.console.Write([]byte(text))
	return err
}

// ErrHung is a machine that stopped in the kernel for a reason of QEMU, or never
// started, which is no word on the disk when it happens once.
var ErrHung = errHung

// Expect waits until a program says on the console what matches, after what the last
// call saw, and returns that. What the kernel says is left out.
func (m *Machine) Expect(ctx context.Context, re *regexp.Regexp) (string, error) {
	size, grown := 0, time.Now()
	for {
		m.mu.Lock()
		log := m.log
		said := spoken(log[m.pos:])
		if at := re.FindIndex(said.text); at != nil {
			m.pos += said.logged(at[1])
			m.mu.Unlock()
			return string(said.text[at[0]:at[1]]), nil
		}
		m.mu.Unlock()
		switch {
		case len(log) != size:
			size, grown = len(log), time.Now()
		case time.Since(grown) > max(m.patience, hangTime) && hangs(log):
			return "", fmt.Errorf("%w\n%s", errHung, tail(log))
		}
		if m.over() {
			// Between the choice of the port and QEMU's start somebody else took it.
			if bytes.Contains(m.messages.Bytes(), []byte("Could not set up host forwarding rule")) {
				return "", fmt.Errorf("%w: %s", errHung, strings.TrimSpace(m.messages.String()))
			}
			return "", fmt.Errorf("the machine stopped before %s: %s\n%s", re, strings.TrimSpace(m.messages.String()), tail(log))
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("nothing like %s on the console: %w\n%s", re, ctx.Err(), tail(log))
		case <-time.After(pollInterval):
		}
	}
}

func (m *Machine) over() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// Wait waits for the machine to reboot or to power off.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.ended:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), errors.New(tail(m.Log())))
	}
}

// Stop ends the machine, and waits until it is gone.
func (m *Machine) Stop() {
	if m.console != nil {
		m.console.Close()
	}
	if !m.over() {
		_ = m.cmd.Process.Kill()
		<-m.ended
	}
	os.RemoveAll(m.dir)
}
