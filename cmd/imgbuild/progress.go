package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/pipeline"
)

// progress shows a build on stderr: a bar per stage on a terminal, a line per
// stage elsewhere, nothing at all but warnings when it is neither asked for.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	bars  bool
	lines bool
	level slog.Level

	bar   *progressbar.ProgressBar
	drawn bool // the name of a stage without a bar is on the line
	name  string
	done  int64
	start time.Time
}

var _ pipeline.Progress = (*progress)(nil)

// newProgress reads --progress, --log-level and -v.
func newProgress(cmd *cobra.Command, mode string) (*progress, error) {
	p := &progress{w: cmd.ErrOrStderr()}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "error": slog.LevelError}
	name, _ := cmd.Flags().GetString("log-level")
	level, ok := levels[name]
	if !ok {
		return nil, fault.New(fault.Usage, fmt.Errorf("--log-level %q: unknown", name), "debug, info or error")
	}
	p.level = level
	verbose, _ := cmd.Flags().GetBool("verbose")
	if verbose {
		p.level = min(p.level, slog.LevelInfo)
	}
	switch mode {
	case "auto":
		p.bars = !verbose && isTerminal(p.w)
		p.lines = !p.bars
	case "term":
		p.bars = true
	case "verbose":
		p.lines, p.level = true, min(p.level, slog.LevelInfo)
	case "debug":
		p.lines, p.level = true, slog.LevelDebug
	default:
		return nil, fault.New(fault.Usage, fmt.Errorf("--progress %q: unknown", mode), "auto, verbose, term or debug")
	}
	return p, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Stage implements pipeline.Progress.
func (p *progress) Stage(name string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	p.name, p.done, p.start = name, 0, time.Now()
	switch {
	case p.bars && total <= 0:
		// Short stages of unknown size have no bar, as its spinner would need
		// a goroutine that draws on its own.
		fmt.Fprintf(p.w, "\r\x1b[K%s ...", name)
		p.drawn = true
	case p.bars:
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(name),
			progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionUseIECUnits(true),
			progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
		_ = p.bar.RenderBlank()
	case p.lines:
		fmt.Fprintf(p.w, "%s ...\n", name)
	}
}

// end finishes the display of a stage.
func (p *progress) end() {
	p.clear()
	p.bar = nil
	if p.lines && p.level <= slog.LevelInfo && p.name != "" {
		took := time.Since(p.start)
		line := fmt.Sprintf("%s: %.3f s", p.name, took.Seconds())
		if p.done > 0 {
			rate := int64(float64(p.done) / max(took.Seconds(), 0.001))
			line += fmt.Sprintf(", %s, %s/s", blueprints.FormatSize(p.done), blueprints.FormatSize(rate))
		}
		fmt.Fprintln(p.w, line)
	}
	p.name = ""
}

// Advance implements pipeline.Progress.
func (p *progress) Advance(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.bar != nil {
		_ = p.bar.Add64(n)
	}
}

// Note implements pipeline.Progress.
func (p *progress) Note(text string) {
	if p.level <= slog.LevelInfo {
		p.say(text)
	}
}

// Warn implements pipeline.Progress.
func (p *progress) Warn(text string) { p.say("warning: " + text) }

func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, "imgbuild: %s\n", oneLine(text))
}

// clear wipes what is drawn of the stage, to be drawn again when it goes on.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// finish ends the display of the last stage.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}
