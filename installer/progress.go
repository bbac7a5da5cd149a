package installer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"

	"imgbuild/pipeline"
)

// progress shows how far an installation is: a line for each stage, which is
// rewritten at most once a second.
type progress struct {
	out   io.Writer // of people
	log   io.Writer
	clock func() float64

	mu    sync.Mutex
	name  string
	size  int64 // of the stage, bytes, 0 where it is not known
	done  int64
	begun float64
	shown float64
	open  bool // the line is not ended
	width int  // of what is on the line
}

var _ pipeline.Progress = (*progress)(nil)

func (in *Installer) newProgress() *progress {
	c := in.console.(*teed)
	return &progress{out: c.Console, log: c.log, clock: in.Clock}
}

// Stage implements pipeline.Progress.
func (p *progress) Stage(name string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	p.name, p.size, p.done = name, total, 0
	p.begun = p.clock()
	p.shown = p.begun
	p.show("")
	fmt.Fprintf(p.log, "%s\n", printable(name))
}

// Advance implements pipeline.Progress.
func (p *progress) Advance(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	now := p.clock()
	if now-p.shown < 1 || p.size <= 0 {
		return
	}
	p.shown = now
	p.show(p.state(now))
}

// total says how much there is, once it is known.
func (p *progress) total(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = n
}

// state returns how much is done, and how long the rest will take at this speed.
func (p *progress) state(now float64) string {
	part := float64(min(p.done, p.size)) / float64(p.size)
	text := fmt.Sprintf(" %3.0f %%", 100*part)
	if spent := now - p.begun; part > 0.01 && spent >= 2 {
		left := int(spent*(1-part)/part + 0.5)
		text += fmt.Sprintf(", %d:%02d left", left/60, left%60)
	}
	return text
}

// Note implements pipeline.Progress.
func (p *progress) Note(text string) { fmt.Fprintf(p.log, "%s\n", printable(text)) }

// Warn implements pipeline.Progress.
func (p *progress) Warn(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	text = "warning: " + printable(text) + "\n"
	fmt.Fprint(p.out, text)
	fmt.Fprint(p.log, text)
}

// show writes the line anew.
func (p *progress) show(state string) {
	text := printable(p.name) + " ..." + state
	pad := max(0, p.width-len(text))
	fmt.Fprint(p.out, "\r"+text+strings.Repeat(" ", pad))
	p.open, p.width = true, len(text)
}

// close ends the line.
func (p *progress) close() {
	if p.open {
		fmt.Fprint(p.out, "\n")
		p.open, p.width = false, 0
	}
}

// end ends the display.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// maxLog bounds the log, in bytes: its end is dropped, the beginning tells most.
const maxLog = 1 << 20

// log keeps in memory what was said.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len()+len(p) <= maxLog {
		l.b.Write(p)
	}
	return len(p), nil
}

func (l *log) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// teed is a console whose output is logged.
type teed struct {
	Console
	log *log
}

func (t *teed) Write(p []byte) (int, error) {
	_, _ = t.log.Write(p)
	return t.Console.Write(p)
}

// ReadLine logs what was answered, unless it is a secret.
func (t *teed) ReadLine(ctx context.Context, secret bool) (string, error) {
	text, err := t.Console.ReadLine(ctx, secret)
	if err == nil && !secret {
		fmt.Fprintf(t.log, "%s\n", printable(text))
	}
	return text, err
}

// printable keeps a text from controlling a terminal: names of disks and of image
// files are chosen by others.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
