package installer

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"imgbuild/kmod"
)

// loader loads the modules for the devices of a machine.
type loader struct {
	index *kmod.Index
	sys   string // mount point of sysfs
	// load loads the module in a file below lib/modules/VERSION.
	load func(e *kmod.Entry) error
	warn func(text string)

	mu   sync.Mutex
	seen map[string]bool       // modaliases
	once map[string]*sync.Once // by name of module
}

// workers is how many modules are loaded at a time: one may wait for its device for
// many seconds, and others have nothing to do with it.
const workers = 8

func newLoader(x *kmod.Index, sys string, load func(*kmod.Entry) error, warn func(string)) *loader {
	return &loader{index: x, sys: sys, load: load, warn: warn, seen: map[string]bool{}, once: map[string]*sync.Once{}}
}

// always loads the modules that no device asks for.
func (l *loader) always(ctx context.Context) { l.all(ctx, l.index.Always) }

// coldplug loads the modules for all devices that have appeared since the last call,
// and says how many devices these were.
func (l *loader) coldplug(ctx context.Context) int {
	var names []string
	fresh := 0
	for _, a := range l.modaliases() {
		if l.seen[a] {
			continue
		}
		l.seen[a] = true
		fresh++
		for _, name := range l.index.Match(a) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	l.all(ctx, names)
	return fresh
}

// modaliases lists those of all devices there are.
func (l *loader) modaliases() (list []string) {
	_ = filepath.WalkDir(filepath.Join(l.sys, "devices"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "modalias" {
			return nil // devices come and go
		}
		if b, err := os.ReadFile(path); err == nil {
			if a := strings.TrimSpace(string(b)); a != "" {
				list = append(list, a)
			}
		}
		return nil
	})
	slices.Sort(list)
	return slices.Compact(list)
}

// all loads modules with what they need, several at a time.
func (l *loader) all(ctx context.Context, names []string) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for _, e := range l.index.Order(name) {
				l.one(e)
			}
			<-slots
		}()
	}
	wg.Wait()
}

// one loads a module once; who needs it at the same time waits.
func (l *loader) one(e *kmod.Entry) {
	l.mu.Lock()
	once := l.once[e.Name]
	if once == nil {
		once = &sync.Once{}
		l.once[e.Name] = once
	}
	l.mu.Unlock()
	once.Do(func() {
		if err := l.load(e); err != nil {
			l.warn(fmt.Sprintf("kernel module %s: %v", e.Name, err))
		}
	})
}
