package scripts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"imgbuild/kickstart"
)

// How long a script that is to end gets, and what those that it started print after
// its end.
const (
	grace = 5 * time.Second
	drain = 2 * time.Second
)

// pipeSize is what a pipe of Linux holds, in bytes, of pipe(7).
const pipeSize = 64 << 10

// environment is what scripts find; there is nothing of the installer in it.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=linux",
}

// RunPre runs the scripts %pre one after the other, in the root directory of the
// installer. The error is that of the first script with --erroronfail that fails.
func RunPre(ctx context.Context, list []kickstart.Script, o Options) error {
	for i := range list {
		if s := &list[i]; s.Stage == kickstart.Pre {
			if err := one(ctx, s, "/", o); err != nil {
				return err
			}
		}
	}
	return nil
}

// RunPost mounts the target and runs the scripts %post one after the other. The
// error is that of a mount, or of the first script with --erroronfail that fails; the
// file systems are unmounted in any case, and nothing is mounted without scripts.
func RunPost(ctx context.Context, list []kickstart.Script, t *Target, o Options) (err error) {
	if !slices.ContainsFunc(list, func(s kickstart.Script) bool { return s.Stage == kickstart.Post }) {
		return nil
	}
	m := &mounts{out: o.output()}
	defer func() { err = errors.Join(err, m.unmount()) }()
	root, err := m.target(t, o.Dir)
	if err != nil {
		return fmt.Errorf("mounting the installed system: %w", err)
	}
	for i := range list {
		s := &list[i]
		if s.Stage != kickstart.Post {
			continue
		}
		where := root
		if s.NoChroot {
			where = "/"
		}
		if err := one(ctx, s, where, o); err != nil {
			return err
		}
	}
	if err := relabel(root); err != nil {
		return fmt.Errorf("SELinux labels of what %%post made: %w", err)
	}
	return nil
}

// one runs a script in a root directory.
func one(ctx context.Context, s *kickstart.Script, root string, o Options) error {
	out := o.output()
	fmt.Fprintf(out, "running %s of line %d\n", s.Section(), s.Line)
	err := start(ctx, s, root, out)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return failure(s, ctx.Err())
	case s.ErrorOnFail:
		return failure(s, err)
	}
	fmt.Fprintf(out, "%v\n", failure(s, err))
	return nil
}

// start runs a script and waits for its end.
func start(ctx context.Context, s *kickstart.Script, root string, out io.Writer) error {
	name, err := place(s, root)
	if err != nil {
		return err
	}
	defer os.Remove(filepath.Join(root, name))
	if s.Log != "" {
		log, err := openLog(s.Log, root)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		defer log.Close()
		out = io.MultiWriter(log, out)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		w.Close()
		return err
	}
	defer null.Close()
	args := append(strings.Fields(s.Interpreter), name)
	attr := &syscall.SysProcAttr{Setsid: true}
	if root != "/" {
		attr.Chroot = root
	}
	p, err := os.StartProcess(args[0], args, &os.ProcAttr{Dir: "/", Env: environment, Files: []*os.File{null, w, w}, Sys: attr})
	w.Close()
	if err != nil {
		return fmt.Errorf("interpreter %s: %w", args[0], errors.Unwrap(err))
	}
	return wait(ctx, p, out, r)
}

// wait waits for the end of a process and copies what it prints; a service that it
// left behind is not waited for.
func wait(ctx context.Context, p *os.Process, out io.Writer, r *os.File) error {
	over, printed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(printed)
		copyOutput(out, r, over)
	}()
	type end struct {
		state *os.ProcessState
		err   error
	}
	ended := make(chan end, 1)
	go func() {
		state, err := p.Wait()
		ended <- end{state, err}
	}()
	var e end
	select {
	case e = <-ended:
	case <-ctx.Done():
		_ = syscall.Kill(-p.Pid, syscall.SIGTERM)
		select {
		case e = <-ended:
		case <-time.After(grace):
			_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
			e = <-ended
		}
	}
	close(over)
	stopReading(r)
	<-printed
	switch {
	case e.err != nil:
		return e.err
	case !e.state.Success():
		return errors.New(e.state.String())
	}
	return nil
}

// copyOutput copies what comes from a pipe until nobody has it open for writing, or,
// once the script is over, nothing came for as long as drain. However slow the console
// is, all that the script printed is copied: it is in the pipe by then. Of a service
// that prints without a pause no more than that is.
func copyOutput(out io.Writer, r *os.File, over <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for left, quiet := pipeSize, 0; left > 0 && quiet < 2; {
		var ended *time.Timer // once the script is
		select {
		case <-over:
			_ = r.SetReadDeadline(time.Time{})
			ended = time.AfterFunc(drain/2, func() { stopReading(r) })
		default:
		}
		n, err := r.Read(buf)
		if ended != nil {
			ended.Stop()
		}
		_, _ = out.Write(buf[:n])
		switch {
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return
		case ended != nil && err != nil:
			quiet++
		case ended != nil:
			left, quiet = left-n, 0
		}
	}
}

// stopReading ends a read of r that waits.
func stopReading(r *os.File) { _ = r.SetReadDeadline(time.Unix(1, 0)) }

// place writes the script where its interpreter finds it, and returns its path below
// root.
func place(s *kickstart.Script, root string) (string, error) {
	for _, dir := range []string{"/run", "/tmp"} {
		if i, err := os.Stat(filepath.Join(root, dir)); err != nil || !i.IsDir() {
			continue
		}
		// The name is the same each time: interpreters say it in their messages, which
		// a script's log on the installed system may have.
		name := fmt.Sprintf("%s/ks-script-%d", dir, s.Line)
		_ = os.Remove(filepath.Join(root, name))
		f, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
		if err != nil {
			continue
		}
		_, err = f.WriteString(s.Body)
		return name, errors.Join(err, f.Close())
	}
	return "", errors.New("there is neither /run nor /tmp for the script")
}

// openLog opens the log of a script, a path of the system it runs in, whose symbolic
// links lead nowhere else.
func openLog(name, root string) (*os.File, error) {
	if root == "/" {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, err
		}
		return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}
	real, err := within(root, filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, real), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(root, real, filepath.Base(name)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
}

// within follows the symbolic links of a path as the system below root sees it.
func within(root, name string) (string, error) {
	const maxLinks = 40
	real, todo := "/", strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		next := filepath.Join(real, part)
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			real = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", name)
		}
		if filepath.IsAbs(target) {
			real = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return real, nil
}
