package pipeline

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"imgbuild/fault"
	"imgbuild/formats/containerdisk"
	"imgbuild/oci"
)

// registry returns the options of everything that is asked of a registry.
func (o *Options) registry() oci.Options {
	return oci.Options{
		Insecure: o.Insecure, AuthFile: o.AuthFile, Getenv: o.Getenv, Home: o.Home, UserAgent: "imgbuild/" + Version(),
		Access: o.Access, IdleTimeout: o.StallTimeout,
	}
}

// checkPush asks the registry, before a disk is made, whether it would take it.
func (o *Options) checkPush(ctx context.Context) error {
	if o.Push == nil {
		return nil
	}
	if err := oci.CheckPushAccess(ctx, *o.Push, o.registry()); err != nil {
		return fmt.Errorf("push to %s: %w", o.Push.Name(), err)
	}
	return nil
}

// push pushes the container disk, which is complete, where the options say so. It
// returns the reference and digest.
func (e *emission) push(ctx context.Context, o *Options, p Progress) (string, error) {
	if o.Push == nil {
		return "", nil
	}
	c := e.container
	path := filepath.Join(e.output, e.formats.path(ContainerDisk))
	name, offset := path, int64(containerdisk.ArchiveOffset)
	if e.formats.ContainerLayout {
		name, offset = filepath.Join(path, filepath.FromSlash(containerdisk.BlobPath(c.Layer.Digest))), 0
	}
	f, err := os.Open(name)
	if err != nil {
		return "", fault.New(fault.Output, err, "")
	}
	defer f.Close()
	p.Stage("push "+o.Push.Name(), c.Layer.Size)
	err = oci.Push(ctx, *o.Push, oci.PushImage{
		Manifest: c.Manifest, MediaType: containerdisk.MediaManifest, Config: c.Config,
		Layers: []oci.PushLayer{{Digest: c.Layer.Digest, Size: c.Layer.Size, MediaType: containerdisk.MediaLayer, Content: offsetReader{f, offset}}},
	}, o.registry(), p.Advance)
	if err != nil {
		kept := fmt.Sprintf("%s is complete: push it by itself with skopeo copy", path)
		if ctx.Err() != nil {
			return "", fault.New(fault.Interrupted, fmt.Errorf("interrupted: push to %s", o.Push.Name()), kept)
		}
		hint := fault.HintOf(err)
		if hint == "" {
			hint = kept
		}
		return "", fault.New(fault.ClassOf(err), fmt.Errorf("push to %s: %w", o.Push.Name(), err), hint)
	}
	return fmt.Sprintf("%s@sha256:%x", o.Push.Name(), sha256.Sum256(c.Manifest)), nil
}

// offsetReader reads a file from an offset on.
type offsetReader struct {
	f    *os.File
	base int64
}

func (r offsetReader) ReadAt(p []byte, off int64) (int, error) { return r.f.ReadAt(p, r.base+off) }
