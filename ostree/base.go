package ostree

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"imgbuild/fault"
	"imgbuild/tree"
)

// Labels of the config of an image that holds an encapsulated commit, and of
// everything built on top of one.
const (
	LabelFinalDiffID = "ostree.final-diffid" // diff_id of the last layer of the base
	LabelCommit      = "ostree.commit"       // checksum of the commit
)

// BaseLayers returns how many of an image's layers, from the lowest on, are its
// encapsulated base: 0 where the labels speak of none. diffIDs and digests are
// those of all layers.
func BaseLayers(labels map[string]string, diffIDs, digests []string) (int, error) {
	final, ok := labels[LabelFinalDiffID]
	if !ok {
		return 0, nil
	}
	last := slices.Index(diffIDs, final)
	if last < 0 || last >= len(digests) {
		return 0, fault.New(fault.BadImage, fmt.Errorf("label %s: the image has no layer %q", LabelFinalDiffID, final),
			"the layers of its base are not in the image as they were, as after squashing; build it without that, or remove the label")
	}
	// ostree-ext finds the last layer by its descriptor and cannot tell two
	// equal ones apart.
	if slices.Contains(digests[last+1:], digests[last]) {
		return 0, badImage("label %s: more than one layer is %s", LabelFinalDiffID, digests[last])
	}
	return last + 1, nil
}

// Base is the encapsulated base of an image, imported into a repository.
type Base struct {
	Commit tree.Sum
	// Tree is the tree of the commit. Its directories are new, its files are the
	// objects of the repository.
	Tree *tree.Inode
	// Layers holds the commits that the refs of the layers point at: the commit
	// itself for the first one, for each of the others one that keeps its
	// objects.
	Layers []tree.Sum
}

// AddBase imports an encapsulated commit (ostree-ext's export of format version
// 0 or 1) from the layers it is made of, as they are in their tars, the layer
// with the commit first. commit is the value of the label [LabelCommit], or
// empty where there is none.
//
// Every object is verified by its checksum, and the objects must be exactly
// those that the commit refers to; anything else is an error of the class
// fault.BadImage that names the object. Content is read once at most, with all
// cores and a buffer of fixed size for each.
func (r *Repo) AddBase(ctx context.Context, layers []*tree.Inode, commit string) (*Base, error) {
	base, err := r.addBase(ctx, layers, commit)
	if err != nil {
		return nil, fmt.Errorf("encapsulated base: %w", err)
	}
	return base, nil
}

func (r *Repo) addBase(ctx context.Context, layers []*tree.Inode, commit string) (*Base, error) {
	if len(layers) == 0 {
		return nil, errors.New("no layers")
	}
	im := &baseImporter{repo: r, sidecars: make(map[string][]tree.Xattr), sidecarOf: make(map[*tree.Inode][]tree.Xattr), budget: maxBaseMetadata}
	if err := im.index(layers); err != nil {
		return nil, err
	}
	if err := im.commit(commit); err != nil {
		return nil, err
	}
	if err := im.metadata(); err != nil {
		return nil, err
	}
	if err := im.content(); err != nil {
		return nil, err
	}
	if err := im.verify(ctx); err != nil {
		return nil, err
	}
	return im.finish()
}

// maxBaseMetadata bounds the bytes of dirtree and dirmeta objects and of xattrs
// that are kept of a base. That of a large system has some 50 MB.
const maxBaseMetadata = 512 << 20

// baseImporter is the import of one base. It adds to the repository in the end
// only.
type baseImporter struct {
	repo      *Repo
	layers    []*baseLayer // one for each; those with the same tree are the same
	base      tree.Sum
	parsed    *Commit
	sidecars  map[string][]tree.Xattr      // by their bytes, of which there are few
	sidecarOf map[*tree.Inode][]tree.Xattr // those that several files may share
	budget    int64

	objects map[objectName][]byte // verified metadata
	trees   map[tree.Sum]*baseDir
	metas   map[tree.Sum]*DirMeta
	needed  map[tree.Sum]string // file objects of the commit, with one path of each
	files   map[tree.Sum]*tree.Inode
	todo    []baseFile // files whose checksum has to be computed
}

// index takes stock of the layers' objects.
func (im *baseImporter) index(layers []*tree.Inode) error {
	done := make(map[*tree.Inode]*baseLayer)
	for k, root := range layers {
		l := done[root]
		if l == nil {
			var err error
			if l, err = indexLayer(root, k == 0); err != nil {
				return fmt.Errorf("layer %d: %w", k+1, err)
			}
			done[root] = l
		}
		im.layers = append(im.layers, l)
	}
	return nil
}

// commit reads the commit object, and compares its checksum with the label.
func (im *baseImporter) commit(label string) error {
	first := im.layers[0]
	if len(first.commits) == 0 {
		return badImage("layer 1 holds no commit object")
	}
	if len(first.commits) > 1 {
		return badImage("layer 1 holds %d commit objects, %s and others", len(first.commits), Hex(first.commits[0]))
	}
	im.base = first.commits[0]
	name := objectName{im.base, typeCommit}
	if label != "" && label != Hex(im.base) {
		return badImage("label %s is %q, and the layers hold commit %s", LabelCommit, label, Hex(im.base))
	}
	im.objects = make(map[objectName][]byte)
	b, err := im.load(name)
	if err != nil {
		return err
	}
	if im.parsed, err = ParseCommit(b); err != nil {
		return objectError(name, err)
	}
	// Detached metadata, such as signatures, has the name of its commit.
	name.typ = typeCommitMeta
	for other := range first.objects {
		if other.typ == typeCommitMeta && other != name {
			return objectError(other, errors.New("belongs to no commit of the base"))
		}
	}
	detached := first.objects[name]
	if detached == nil {
		return nil
	}
	if b, err = im.read(name, detached); err != nil {
		return err
	}
	if err := checkDetached(b); err != nil {
		return objectError(name, err)
	}
	im.objects[name] = b
	return nil
}

// load returns a metadata object of the first layer, verified.
func (im *baseImporter) load(name objectName) ([]byte, error) {
	i := im.layers[0].objects[name]
	if i == nil {
		return nil, objectError(name, errMissing)
	}
	b, err := im.read(name, i)
	if err != nil {
		return nil, err
	}
	if sum := sumOf(b); sum != name.sum {
		return nil, objectError(name, fmt.Errorf("has the checksum %s", Hex(sum)))
	}
	im.objects[name] = b
	return b, nil
}

// read returns the bytes of a metadata object.
func (im *baseImporter) read(name objectName, i *tree.Inode) ([]byte, error) {
	if size := i.Content.Size(); size > maxTarMetadata {
		return nil, objectError(name, fmt.Errorf("has %d bytes, more than %d", size, maxTarMetadata))
	}
	if im.budget -= i.Content.Size(); im.budget < 0 {
		return nil, objectError(name, fmt.Errorf("the metadata of the base has more than %d bytes", maxBaseMetadata))
	}
	b, err := i.Content.ReadAll(maxTarMetadata)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", name, err)
	}
	return b, nil
}

// content makes the file objects of the layers, and finds those that are missing
// or belong to something else.
func (im *baseImporter) content() error {
	im.files = make(map[tree.Sum]*tree.Inode, len(im.needed))
	seen := make(map[*baseLayer]bool)
	for k, l := range im.layers {
		if seen[l] {
			continue
		}
		seen[l] = true
		for _, f := range l.files {
			if err := im.addFile(l, f); err != nil {
				return fmt.Errorf("layer %d: %w", k+1, err)
			}
		}
	}
	if len(im.files) == len(im.needed) {
		return nil
	}
	missing, path := tree.Sum{}, ""
	for sum, p := range im.needed {
		if im.files[sum] == nil && (path == "" || p < path) {
			missing, path = sum, p
		}
	}
	return objectError(objectName{missing, typeFile}, fmt.Errorf("%w; it is %s", errMissing, path))
}

// addFile makes the object of a file. Where what unpacking the layer made of it
// already has the right checksum there is nothing left to verify.
func (im *baseImporter) addFile(l *baseLayer, f baseFile) error {
	name := objectName{f.sum, typeFile}
	if _, ok := im.needed[f.sum]; !ok {
		return objectError(name, errors.New("is not part of the commit"))
	}
	xattrs, err := im.xattrs(l, f)
	if err != nil {
		return objectError(name, err)
	}
	object := *f.inode
	object.Mtime, object.Flags = 0, 0
	if !slices.Equal(object.Xattrs, xattrs) {
		object.Object = tree.Sum{}
	}
	object.Xattrs = xattrs
	switch {
	case object.Object == f.sum:
	case object.Object != tree.Sum{}:
		return mismatch(f.sum, object.Object)
	default:
		im.todo = append(im.todo, baseFile{sum: f.sum, inode: &object})
	}
	if im.files[f.sum] == nil {
		im.files[f.sum] = &object
	}
	return nil
}

func mismatch(want, got tree.Sum) error {
	return objectError(objectName{want, typeFile}, fmt.Errorf("has the checksum %s", Hex(got)))
}

// verify computes the checksums of the files that have none, and compares them
// with the names.
func (im *baseImporter) verify(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan baseFile)
	g.Go(func() error {
		defer close(work)
		for _, f := range im.todo {
			select {
			case work <- f:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(runtime.GOMAXPROCS(0), len(im.todo)) {
		g.Go(func() error {
			buf := make([]byte, checksumBuffer)
			for f := range work {
				if err := checksumFile(ctx, f.inode, buf); err != nil {
					return fmt.Errorf("object %s.file: %w", Hex(f.sum), err)
				}
				if f.inode.Object != f.sum {
					return mismatch(f.sum, f.inode.Object)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// finish adds what was verified to the repository.
func (im *baseImporter) finish() (*Base, error) {
	r := im.repo
	for name, b := range im.objects {
		r.objects[name] = b
	}
	for sum, i := range im.files {
		if have := r.files[sum]; have != nil {
			im.files[sum] = have
		} else {
			r.files[sum] = i
		}
	}
	base := &Base{Commit: im.base, Tree: im.tree()}
	done := map[*baseLayer]tree.Sum{im.layers[0]: im.base}
	for k, l := range im.layers {
		commit, ok := done[l]
		if !ok {
			var err error
			if commit, err = r.addObjectSet(l.files); err != nil {
				return nil, fmt.Errorf("layer %d: %w", k+1, err)
			}
			done[l] = commit
		}
		base.Layers = append(base.Layers, commit)
	}
	return base, nil
}

// addObjectSet adds the commit that keeps the objects of a layer: a directory
// with a file for each, called by its checksum.
func (r *Repo) addObjectSet(files []baseFile) (tree.Sum, error) {
	d := DirTree{Files: make([]DirFile, len(files))}
	for k, f := range files { // ascending
		d.Files[k] = DirFile{Hex(f.sum), f.sum}
	}
	m := DirMeta{Mode: tree.TypeDir | 0o755}
	c := &Commit{}
	var err error
	if c.Contents, err = r.addObject(typeDirTree, d.Encode()); err != nil {
		return tree.Sum{}, err
	}
	if c.Meta, err = r.addObject(typeDirMeta, m.Encode()); err != nil {
		return tree.Sum{}, err
	}
	return r.AddCommit(c)
}
