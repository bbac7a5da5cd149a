package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"imgbuild/fault"
	"imgbuild/oci/internal/storage"
)

// storageSource is an image in the local store of Podman, Buildah and CRI-O.
type storageSource struct {
	ref   Reference
	store *storage.Store
	image *storage.Image
}

var _ plainSource = (*storageSource)(nil)

// openStorage opens an image by its name, in the store that the reference or the
// user's configuration names. The error is of the class NotFound when there is no
// such image or no store.
func openStorage(_ context.Context, ref Reference, opt Options) (source, error) {
	store, err := openStore(ref, opt)
	if err != nil {
		return nil, err
	}
	q := storage.Query{ID: ref.id, Digest: ref.digest}
	if ref.place != "" {
		repo := ref.registry + "/" + ref.place
		switch {
		case ref.tag != "":
			q.Name = repo + ":" + ref.tag
		default:
			q.Repo = repo
		}
	}
	image, err := store.Find(q)
	if errors.Is(err, storage.ErrNoImage) {
		// What has no more than an id was parsed as a name of Docker Hub.
		if id, ok := strings.CutPrefix(ref.place, "library/"); ok && ref.transport == TransportStorage &&
			ref.registry == defaultRegistry && ref.tag == "latest" && ref.digest == "" && reImageID.MatchString(id) {
			if byID, iderr := store.Find(storage.Query{ID: id}); iderr == nil {
				image, err = byID, nil
			}
		}
	}
	if err != nil {
		hint := "podman images lists what there is"
		if ref.transport == TransportStorage && ref.store == "" && !isRoot() {
			hint += "; images of root are in another store, which sudo podman images lists"
		}
		return nil, fault.New(fault.NotFound, fmt.Errorf("local store %s: %s: %w", strings.Join(store.Roots(), ", "), ref.Name(), err), hint)
	}
	return &storageSource{ref: ref, store: store, image: image}, nil
}

// inStorage tells whether the local store has an image.
func inStorage(ctx context.Context, ref Reference, opt Options) bool {
	src, err := openStorage(ctx, ref, opt)
	if err == nil {
		src.Close()
	}
	return err == nil
}

func openStore(ref Reference, opt Options) (*storage.Store, error) {
	var config storage.Config
	var err error
	if ref.store != "" {
		if config, err = storage.ParseSpec(strings.Trim(ref.store, "[]")); err != nil {
			return nil, fault.New(fault.Usage, fmt.Errorf("image reference %s: store: %w", clip(ref.String()), err), "containers-storage:[overlay@/var/lib/containers/storage]NAME")
		}
	} else {
		config, err = storage.Locate(storage.Env{Getenv: opt.Getenv, Home: opt.Home, UID: storeUID(opt), Root: opt.root})
		if err != nil && !errors.Is(err, storage.ErrNoStore) {
			return nil, fault.New(fault.Config, fmt.Errorf("storage.conf: %w", err), "")
		}
	}
	var store *storage.Store
	if err == nil {
		store, err = storage.Open(config)
	}
	switch {
	case errors.Is(err, storage.ErrNoStore):
		return nil, fault.New(fault.NotFound, fmt.Errorf("local store: %w", err), "a store elsewhere is named as in containers-storage:[/var/lib/containers/storage]NAME")
	case errors.Is(err, storage.ErrDriver):
		return nil, fault.New(fault.Unsupported, fmt.Errorf("local store %s: %w", config.GraphRoot, err), saveHint)
	case errors.Is(err, fs.ErrPermission):
		return nil, fault.New(fault.NotFound, fmt.Errorf("local store: %w", err), "the store of another user is for that user to read: run imgbuild as that user")
	case err != nil:
		return nil, fault.New(fault.BadImage, fmt.Errorf("local store: %w", err), "podman system check may tell more")
	}
	return store, nil
}

// storeUID returns whose store it is: that of the user, who is root in the user
// namespace of "podman unshare" and "buildah unshare".
func storeUID(opt Options) int {
	if opt.Getenv != nil {
		if uid, err := strconv.Atoi(opt.Getenv("_CONTAINERS_ROOTLESS_UID")); err == nil && uid > 0 {
			return uid
		}
	}
	return os.Geteuid()
}

// saveHint is what helps with everything that cannot be read natively.
const saveHint = "export the image with: podman save --format oci-archive -o image.tar IMAGE, then use oci-archive:image.tar"

func (s *storageSource) local() bool  { return true }
func (s *storageSource) Close() error { return nil }

func (s *storageSource) root(context.Context) ([]byte, string, error) {
	raw, err := s.data("manifest", maxManifest)
	if d := s.ref.digest; d != "" {
		// The digest can be that of an index that the manifest came with.
		if raw, err = s.data("manifest-"+d, maxManifest); errors.Is(err, fs.ErrNotExist) {
			raw, err = s.data("manifest", maxManifest)
		}
		if err == nil && sum(raw) != d {
			return nil, "", badImage(fmt.Errorf("the manifest does not match its digest: the content has %s", sum(raw)))
		}
	}
	return raw, "", missing(err)
}

// data returns a document of the image, with the class of its error.
func (s *storageSource) data(key string, limit int64) ([]byte, error) {
	raw, err := s.image.Data(key, limit)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fault.New(fault.NotFound, fmt.Errorf("local store: %w", err), unshareHint())
	}
	return raw, fault.Default(fault.BadImage, err)
}

func (s *storageSource) document(_ context.Context, d descriptor, limit int64) ([]byte, error) {
	switch d.MediaType {
	case mediaIndex, mediaManifest, mediaDockerList, mediaDockerManifest:
		raw, err := s.data("manifest-"+d.Digest, limit)
		if !errors.Is(err, fs.ErrNotExist) {
			return raw, err
		}
		// The images of a list that was made here are images of their own.
		image, ferr := s.store.ByDigest(d.Digest)
		if ferr != nil {
			// An image that was pulled from an index has its own manifest only.
			return s.own(d.Digest, limit)
		}
		s.image = image
		if raw, err = s.data("manifest-"+d.Digest, limit); errors.Is(err, fs.ErrNotExist) {
			raw, err = s.own(d.Digest, limit)
		}
		return raw, err
	}
	raw, err := s.data(d.Digest, limit)
	return raw, missing(err)
}

// own returns the manifest of the image if it has the digest.
func (s *storageSource) own(digest string, limit int64) ([]byte, error) {
	raw, err := s.data("manifest", limit)
	if err == nil && sum(raw) != digest {
		return nil, fault.New(fault.NotFound, fmt.Errorf("the local store lacks the manifest %s", digest), "pull it with: podman pull --arch")
	}
	return raw, missing(err)
}

// blob is never called: layers are there in their plain form only.
func (s *storageSource) blob(context.Context, string, int64) (io.ReadCloser, error) {
	return nil, errors.New("the local store has no blobs")
}

func (s *storageSource) plain(ctx context.Context, k int, info LayerInfo) (io.ReadCloser, error) {
	layers, err := s.image.Layers()
	if err != nil {
		return nil, badImage(err)
	}
	var l *storage.Layer
	for i, candidate := range layers {
		// By its digest, or by its place where the store does not know that:
		// what is read is checked in any case.
		if candidate.DiffID() == info.DiffID || i == k && l == nil && candidate.DiffID() == "" {
			l = candidate
		}
	}
	if l == nil {
		return nil, badImage(fmt.Errorf("the local store lacks the layer with the diff_id %s", info.DiffID))
	}
	r, err := l.Open(ctx)
	if err != nil {
		return nil, classStored(l, err)
	}
	return &storedLayer{r, l}, nil
}

// storedLayer gives the errors of a layer their class.
type storedLayer struct {
	io.ReadCloser
	layer *storage.Layer
}

func (s *storedLayer) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = classStored(s.layer, err)
	}
	return n, err
}

func classStored(l *storage.Layer, err error) error {
	var unreadable *storage.UnreadableError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &unreadable), errors.Is(err, fs.ErrPermission):
		return fault.New(fault.NotFound, fmt.Errorf("local store: %w", err), unshareHint())
	case errors.Is(err, storage.ErrNoSplit), errors.Is(err, storage.ErrComposefs):
		return fault.New(fault.Unsupported, fmt.Errorf("local store: layer %s: %w", l.ID(), err), saveHint)
	}
	return fault.New(fault.BadImage, fmt.Errorf("local store: layer %s: %w", l.ID(), err), "pull or build the image again")
}

// unshareHint says how to read files that belong to the users of containers.
func unshareHint() string {
	if isRoot() {
		return saveHint
	}
	return "podman unshare imgbuild … reads them as the store's owner; or " + saveHint
}
