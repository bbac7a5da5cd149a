package installer

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// consoles is all terminals of a machine at once: what is said is said on all of
// them, and whichever answers first is heard.
type consoles struct {
	lines chan typed
	// patience is how long a terminal may take for what is written to it.
	patience time.Duration

	mu   sync.Mutex
	list []*terminal
	last *terminal // that answered
}

// typed is a line that somebody typed.
type typed struct {
	from *terminal
	text string
	err  error
}

// terminal is one console.
type terminal struct {
	path string
	f    *os.File
	dead bool // it did not take what was written to it
}

// terminalNames lists the terminals that there may be: those of the kernel's
// consoles, and the usual ones of machines and hypervisors.
func terminalNames() (kernel, usual []string) {
	if text, err := os.ReadFile("/proc/consoles"); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 0 {
				name := f[0]
				if name == "tty0" {
					name = "tty1"
				}
				kernel = append(kernel, name)
			}
		}
	}
	return kernel, []string{"tty1", "ttyS0", "ttyAMA0", "hvc0", "ttysclp0"}
}

// openConsoles opens all terminals that answer.
func openConsoles() *consoles {
	c := &consoles{lines: make(chan typed), patience: writeTime}
	done := map[string]bool{}
	kernel, usual := terminalNames()
	for i, name := range append(kernel, usual...) {
		if done[name] {
			continue
		}
		done[name] = true
		path := filepath.Join("/dev", name)
		t := &terminal{path: path}
		if t.open() != nil {
			continue
		}
		if !t.works() {
			t.f.Close()
			continue
		}
		t.setUp(strings.HasPrefix(name, "ttyS") && i >= len(kernel))
		c.list = append(c.list, t)
		go c.read(t, t.f)
	}
	return c
}

// open opens the terminal, in the way that its reads and writes can be stopped.
func (t *terminal) open() error {
	f, err := os.OpenFile(t.path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	t.f = f
	return nil
}

// works tells whether there is a device behind the terminal: Linux has names for
// serial ports that the machine does not have.
func (t *terminal) works() (ok bool) {
	t.control(func(fd int) {
		if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			return
		}
		// struct serial_struct of linux/serial.h, which begins with the type of
		// the chip; other terminals do not know the call.
		var port [128]byte
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGSERIAL, uintptr(unsafe.Pointer(&port[0])))
		ok = errno != 0 || port[0] != 0
	})
	return ok
}

// control calls fn with the descriptor, which stays one that does not block.
func (t *terminal) control(fn func(fd int)) {
	raw, err := t.f.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { fn(int(fd)) })
	}
}

// change changes how the terminal works.
func (t *terminal) change(fn func(m *unix.Termios)) {
	t.control(func(fd int) {
		if m, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			fn(m)
			_ = unix.IoctlSetTermios(fd, unix.TCSETS, m)
		}
	})
}

// setUp makes the terminal one of lines: it echoes, and edits.
func (t *terminal) setUp(serial bool) {
	t.change(func(m *unix.Termios) {
		m.Iflag |= unix.ICRNL | unix.IXON
		m.Oflag |= unix.OPOST | unix.ONLCR
		m.Lflag |= unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK
		m.Lflag &^= unix.ISIG // nobody is to be interrupted by a key
		m.Cflag |= unix.CREAD | unix.CLOCAL
		m.Cflag &^= unix.CRTSCTS
		if serial {
			// What the kernel uses as a console has its speed from the command
			// line; others get the usual one.
			m.Cflag = m.Cflag&^unix.CBAUD | unix.B115200
			m.Ispeed, m.Ospeed = unix.B115200, unix.B115200
		}
	})
}

// How long a terminal may take for what is written to it: nobody may be at the other
// end. A full screen takes a line of 9600 bits per second some seconds. One that did
// not take something is not waited for again before it takes something else.
const (
	writeTime = 30 * time.Second
	tryTime   = 10 * time.Millisecond
)

// Write writes to all terminals. It never fails: the installation goes on where
// nobody looks.
func (c *consoles) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.list {
		wait := c.patience
		if t.dead {
			wait = tryTime
		}
		_ = t.f.SetWriteDeadline(time.Now().Add(wait))
		_, err := t.f.Write(p)
		t.dead = err != nil
	}
	return len(p), nil
}

// read passes on what is typed at a terminal, until it is closed.
func (c *consoles) read(t *terminal, f *os.File) {
	in := bufio.NewReader(f)
	for {
		text, err := in.ReadString('\n')
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if errors.Is(err, io.EOF) {
			// Control-D, or a line that hung up: there may be more.
			time.Sleep(time.Second)
			continue
		}
		c.lines <- typed{t, strings.TrimRight(text, "\r\n"), err}
		if err != nil {
			return
		}
	}
}

// ReadLine implements Console.
func (c *consoles) ReadLine(ctx context.Context, secret bool) (string, error) {
	if secret {
		c.echo(false)
		defer c.echo(true)
	}
	for {
		c.mu.Lock()
		n := len(c.list)
		c.mu.Unlock()
		if n == 0 {
			// A machine that nobody can talk to: it waits to be switched off.
			<-ctx.Done()
			return "", ctx.Err()
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case l := <-c.lines:
			if l.err != nil {
				c.drop(l.from)
				continue
			}
			c.mu.Lock()
			c.last = l.from
			l.from.dead = false
			c.mu.Unlock()
			return l.text, nil
		}
	}
}

// drop forgets a terminal that cannot be read.
func (c *consoles) drop(t *terminal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.list {
		if c.list[i] == t {
			c.list = append(c.list[:i:i], c.list[i+1:]...)
			return
		}
	}
}

// echo switches whether what is typed is shown.
func (c *consoles) echo(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.list {
		t.change(func(m *unix.Termios) {
			m.Lflag &^= unix.ECHO
			if on {
				m.Lflag |= unix.ECHO
			}
		})
	}
}

// lend takes the reading off the terminal that answered last, or the first one, for
// a program to use it, until the function that is returned is called.
func (c *consoles) lend() (path string, back func()) {
	c.mu.Lock()
	t := c.last
	if t == nil && len(c.list) > 0 {
		t = c.list[0]
	}
	c.mu.Unlock()
	if t == nil {
		return "", func() {}
	}
	// When a session ends the kernel hangs its terminal up for everybody who has it
	// open, so it is opened anew afterwards.
	c.mu.Lock()
	t.f.Close()
	t.dead = true
	c.mu.Unlock()
	return t.path, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.open() != nil {
			return
		}
		t.setUp(false)
		t.dead = false
		go c.read(t, t.f)
	}
}
