package qemu

import (
	"context"
	"errors"
	"regexp"
	"testing"
	"time"
)

// attempt is one run of a test that talks to machines.
type attempt struct {
	t        *testing.T
	ctx      context.Context
	machines []*Machine
}

// hung is what a run of a test panics with when one of its machines did [ErrHung].
type hung struct{ err error }

// attempts runs a test that talks to machines, and runs it anew when one of them hangs
// for a reason of QEMU. What fn makes and changes has to be its own.
func attempts(t *testing.T, fn func(a *attempt)) {
	t.Helper()
	for n := 0; ; n++ {
		err := try(t, fn)
		if err == nil {
			return
		}
		if n == maxRestarts {
			t.Fatal(err)
		}
		t.Logf("once more: %v", err)
	}
}

// try runs fn once and returns the error of a machine that hung.
func try(t *testing.T, fn func(a *attempt)) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	a := &attempt{t: t, ctx: ctx}
	defer func() {
		for _, m := range a.machines {
			m.Stop()
		}
		switch r := recover().(type) {
		case nil:
		case hung:
			err = r.err
		default:
			panic(r)
		}
	}()
	fn(a)
	return nil
}

// dialogue is a machine whose console is waited for and answered.
type dialogue struct {
	*Machine
	t   *testing.T
	ctx context.Context
}

// start starts a machine. It is stopped at the end of the attempt.
func (a *attempt) start(disk string, o Options) *dialogue {
	a.t.Helper()
	m, err := Start(a.ctx, disk, o)
	if err != nil {
		a.t.Fatal(err)
	}
	m.patience = 3 * time.Minute // a kernel may be quiet
	a.machines = append(a.machines, m)
	return &dialogue{m, a.t, a.ctx}
}

// installer starts a machine from a medium, and waits for the installer.
func (a *attempt) installer(medium string, o Options) *dialogue {
	a.t.Helper()
	o.Memory = 1024 // whatever the size of the image
	d := a.start(medium, o)
	d.expect(`Starting the installer`)
	return d
}

// expect waits for what matches.
func (d *dialogue) expect(pattern string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, 15*time.Minute)
	defer cancel()
	text, err := d.Expect(ctx, regexp.MustCompile(pattern))
	if errors.Is(err, ErrHung) {
		panic(hung{err})
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return text
}

// answer waits for a question and answers it.
func (d *dialogue) answer(question, text string) {
	d.t.Helper()
	d.expect(question)
	if err := d.Send(text + "\n"); err != nil {
		d.t.Fatal(err)
	}
}

// off waits for the machine to switch itself off, or to reboot, which ends it too.
func (d *dialogue) off() {
	d.t.Helper()
	err := d.Wait(d.ctx)
	if err != nil && hangs(d.Log()) {
		panic(hung{err})
	}
	if err != nil {
		d.t.Fatalf("the machine goes on\n%v", err)
	}
}

// A test is run anew for a machine that hung, and for nothing else.
func TestAttempts(t *testing.T) {
	runs := 0
	attempts(t, func(*attempt) {
		if runs++; runs < 3 {
			panic(hung{ErrHung})
		}
	})
	if runs != 3 {
		t.Errorf("%d runs", runs)
	}
	runs = 0
	defer func() {
		if r := recover(); r != "other" || runs != 1 {
			t.Errorf("%v after %d runs", r, runs)
		}
	}()
	attempts(t, func(*attempt) { runs++; panic("other") })
}
