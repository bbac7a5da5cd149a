package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"imgbuild/ostree"
)

// The documents of the OCI image specification, v1.1, as far as they are used.
type (
	descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      digest.Digest     `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
		Platform    *ociPlatform      `json:"platform,omitempty"`
	}
	ociPlatform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	manifest struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        *descriptor  `json:"config,omitempty"`
		Layers        []descriptor `json:"layers,omitempty"`
		Manifests     []descriptor `json:"manifests,omitempty"`
	}
	imageConfig struct {
		Created string `json:"created"`
		ociPlatform
		Config struct {
			Env        []string          `json:"Env"`
			Cmd        []string          `json:"Cmd"`
			Labels     map[string]string `json:"Labels"`
			StopSignal string            `json:"StopSignal"`
		} `json:"config"`
		RootFS struct {
			Type    string          `json:"type"`
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
		History []history `json:"history"`
	}
	history struct {
		Created   string `json:"created"`
		CreatedBy string `json:"created_by"`
		Empty     bool   `json:"empty_layer,omitempty"`
	}
)

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// writeLayout writes the image to dir, in place of a layout that is there, and
// returns the digest of its manifest and the size of all blobs in bytes.
func writeLayout(ctx context.Context, dir string, p platform, epoch int64, layers []layer) (digest.Digest, int64, error) {
	if err := replaceable(dir, "oci-layout"); err != nil {
		return "", 0, err
	}
	part := filepath.Clean(dir) + ".part"
	if err := os.RemoveAll(part); err != nil {
		return "", 0, err
	}
	defer os.RemoveAll(part)
	blobs := filepath.Join(part, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return "", 0, err
	}
	descriptors, diffIDs := make([]descriptor, len(layers)), make([]digest.Digest, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	for i, l := range layers {
		g.Go(func() (err error) {
			descriptors[i], diffIDs[i], err = l.writeBlob(ctx, blobs)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", 0, err
	}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Layers: descriptors}
	config, err := writeJSON(blobs, typeConfig, newConfig(p, epoch, layers, diffIDs))
	if err != nil {
		return "", 0, err
	}
	m.Config = &config
	d, err := writeJSON(blobs, typeManifest, m)
	if err != nil {
		return "", 0, err
	}
	d.Annotations = map[string]string{"org.opencontainers.image.ref.name": "latest"}
	d.Platform = &ociPlatform{Architecture: p.arch, OS: "linux"}
	index, err := json.Marshal(manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{d}})
	if err != nil {
		return "", 0, err
	}
	for name, data := range map[string][]byte{"index.json": index, "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)} {
		if err := os.WriteFile(filepath.Join(part, name), data, 0o644); err != nil {
			return "", 0, err
		}
	}
	size := config.Size + d.Size
	for _, l := range descriptors {
		size += l.Size
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", 0, err
	}
	return d.Digest, size, os.Rename(part, dir)
}

func newConfig(p platform, epoch int64, layers []layer, diffIDs []digest.Digest) imageConfig {
	created := time.Unix(epoch, 0).UTC().Format(time.RFC3339)
	c := imageConfig{Created: created, ociPlatform: ociPlatform{Architecture: p.arch, OS: "linux"}}
	c.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	c.Config.Cmd = []string{"/sbin/init"}
	c.Config.StopSignal = "SIGRTMIN+3"
	c.Config.Labels = map[string]string{"containers.bootc": "1", "ostree.bootable": "1",
		"org.opencontainers.image.title":   "imgbuild sample",
		"org.opencontainers.image.version": time.Unix(epoch, 0).UTC().Format("20060102")}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", diffIDs
	for i, l := range layers {
		if l.commit != "" {
			c.Config.Labels[ostree.LabelCommit] = l.commit
			c.Config.Labels[ostree.LabelFinalDiffID] = diffIDs[i].String()
		}
		if i == len(layers)-1 {
			// An entry without a layer, as instructions like LABEL leave them.
			c.History = append(c.History, history{Created: created, CreatedBy: "LABEL containers.bootc=1", Empty: true})
		}
		c.History = append(c.History, history{Created: created, CreatedBy: l.createdBy})
	}
	return c
}

// writeBlob packs the layer into a file of dir that is named by its digest.
func (l layer) writeBlob(ctx context.Context, dir string) (d descriptor, diffID digest.Digest, err error) {
	f, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return d, "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	blob, plain := sha256.New(), sha256.New()
	var packed io.WriteCloser
	suffix := ""
	switch out := io.MultiWriter(buf, blob); l.compression {
	case "gzip":
		suffix = "+gzip"
		packed, err = gzip.NewWriterLevel(out, gzip.DefaultCompression)
	case "zstd":
		suffix = "+zstd"
		packed, err = zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
	default:
		packed = nopCloser{out}
	}
	if err != nil {
		return d, "", err
	}
	if err := l.writeTar(&cancellable{ctx, io.MultiWriter(packed, plain)}); err != nil {
		return d, "", err
	}
	if err := errors.Join(packed.Close(), buf.Flush(), f.Chmod(0o644)); err != nil {
		return d, "", err
	}
	st, err := f.Stat()
	if err != nil {
		return d, "", err
	}
	d = descriptor{MediaType: typeLayer + suffix, Digest: digest.NewDigest(digest.SHA256, blob), Size: st.Size()}
	return d, digest.NewDigest(digest.SHA256, plain), errors.Join(f.Close(), os.Rename(f.Name(), filepath.Join(dir, d.Digest.Encoded())))
}

// cancellable is a writer that fails when its context is done.
type cancellable struct {
	ctx context.Context
	w   io.Writer
}

func (c *cancellable) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func writeJSON(dir, mediaType string, v any) (descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	return d, os.WriteFile(filepath.Join(dir, d.Digest.Encoded()), b, 0o644)
}

// replaceable tells whether dir may be removed: it does not exist, is empty, or
// has the file that this program puts into such a directory.
func replaceable(dir, mark string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(dir, mark)); err != nil {
		return fmt.Errorf("%s is in the way: it has no %s", dir, mark)
	}
	return nil
}
