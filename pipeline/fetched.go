package pipeline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"imgbuild/blueprints"
	"imgbuild/content"
	"imgbuild/customize/fetch"
)

// fetched gets what files of the configuration have as their content, each once.
type fetched struct {
	source fetch.Source
	done   map[string]answer
}

// answer is what came of a URI.
type answer struct {
	ref  content.Ref
	mode uint32
	err  error
}

// Fetch implements files.Source.
func (f *fetched) Fetch(ctx context.Context, uri, sum string) (content.Ref, uint32, error) {
	key := uri + "\x00" + sum
	a, ok := f.done[key]
	if !ok {
		a.ref, a.mode, a.err = f.source.Fetch(ctx, uri, sum)
		if f.done == nil {
			f.done = map[string]answer{}
		}
		f.done[key] = a
	}
	return a.ref, a.mode, a.err
}

// digest identifies a configuration with all that it fetches. What cannot be
// fetched is left to those who need it.
func (f *fetched) digest(ctx context.Context, c *blueprints.Config) (string, error) {
	sum, err := c.Digest()
	if err != nil || sum == "" {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, sum)
	local := false
	for _, file := range c.Blueprint.Customizations.Files {
		if file.URI == "" || file.SHA256 != "" {
			continue
		}
		ref, _, err := f.Fetch(ctx, file.URI, "")
		if err != nil {
			continue
		}
		local = true
		if _, err := io.Copy(h, ref.Reader()); err != nil {
			return "", err
		}
	}
	if !local {
		return sum, nil
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil)), nil
}
