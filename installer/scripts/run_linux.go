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

// How long a script that is to end gets, and what it printed gets to arrive.
const (
	grace = 5 * time.Second
	drain = 2 * time.Second
)

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
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		_, _ = io.Copy(out, r)
	}()
	return wait(ctx, p, printed, r)
}

// wait waits for the end of a process; a service that it left behind is not waited
// for.
func wait(ctx context.Context, p *os.Process, printed chan struct{}, r *os.File) error {
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
	select {
	case <-printed:
	case <-time.After(drain):
		_ = r.SetReadDeadline(time.Unix(1, 0))
		<-printed
	}
	switch {
	case e.err != nil:
		return e.err
	case !e.state.Success():
		return errors.New(e.state.String())
	}
	return nil
}

// place writes the script where its interpreter finds it, and returns its path below
// root.
func place(s *kickstart.Script, root string) (string, error) {
	for _, dir := range []string{"/run", "/tmp"} {
		if i, err := os.Stat(filepath.Join(root, dir)); err != nil || !i.IsDir() {
			continue
		}
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
