// Package containerdisk writes a virtual disk as a container image that KubeVirt
// boots: /disk/disk.qcow2 and nothing else, readable by its user qemu.
//
// Specifications: KubeVirt user guide, "containerDisk"; OCI image format 1.1
// (image-layout.md, manifest.md, config.md, layer.md). The image has one layer, a
// tar that is not compressed, as the disk in it is. It is written as an image
// layout or as a tar of one, for one architecture and without a tag.
package containerdisk

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/pieces"
	"imgbuild/formats/qcow2"
)

// Paths in the layer, and who owns them: the user and group qemu of KubeVirt.
// The modes are those of its documentation and of its own images.
const (
	dirName   = "disk/"
	diskName  = "disk/disk.qcow2"
	qemuID    = 107
	dirMode   = 0o555
	diskMode  = 0o440
	sizeHeads = 2 * output.TarBlock // of directory and disk
)

// ArchiveOffset is where in an archive the layer begins, in bytes: behind the
// headers of its directories and its own.
const ArchiveOffset = 3 * output.TarBlock

// Options are the arguments of WriteArchive and WriteLayout. Arch is required.
type Options struct {
	// Arch is the architecture of the system on the disk, as GOARCH.
	Arch string
	// Compression and Level are those of the disk, see [qcow2.Options].
	Compression qcow2.Compression
	Level       int
	// Time is when the image was made and its files were modified, in whole
	// seconds. Times before 1970 become its beginning.
	Time time.Time
	// Progress is called now and then, from one goroutine at a time, with the
	// number of bytes done of all that img.Data(64 KiB) yields. It may be nil.
	Progress func(done int64)
}

// Image is an image that was written.
type Image struct {
	Manifest []byte
	Config   []byte
	Layer    Blob

	platform platform
}

// Blob is content by its digest.
type Blob struct {
	Digest string // "sha256:…"
	Size   int64  // in bytes
}

// BlobPath returns the path of a blob in a layout, with slashes.
func BlobPath(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }

// WriteArchive writes img to f, a new empty file that can be read, as a tar of an
// image layout, and makes it durable. The bytes are a function of the content of
// img and the options. The layer comes first, at ArchiveOffset.
//
// An error of the file carries a class of package fault; f is then in no
// defined state, and an empty archive.
func WriteArchive(ctx context.Context, img *disk.Image, f *os.File, opt Options) (*Image, error) {
	w, err := NewArchive(img.Size(), f, opt)
	if err != nil {
		return nil, err
	}
	return w.write(ctx, img)
}

// WriteLayout writes img as an image layout to dir, an empty directory, and makes
// its files durable. The bytes are those of WriteArchive.
//
// An error of a file carries a class of package fault; dir is then in no defined
// state, and has no index.
func WriteLayout(ctx context.Context, img *disk.Image, dir string, opt Options) (*Image, error) {
	w, err := NewLayout(img.Size(), dir, opt)
	if err != nil {
		return nil, err
	}
	return w.write(ctx, img)
}

// Writer writes an image. With compression Zlib, that can be from pieces that
// other formats are made of, too.
type Writer struct {
	opt   Options
	f     *os.File
	base  int64 // where in f the layer begins
	out   *output.File
	disk  *qcow2.Writer // with Zlib, else nil
	dir   string        // of a layout, else ""
	image *Image        // once it is finished
}

var _ pieces.Format = (*Writer)(nil)

// NewArchive returns the Writer of a disk of size bytes, which writes what
// [WriteArchive] does.
func NewArchive(size int64, f *os.File, opt Options) (*Writer, error) {
	return newWriter(size, &Writer{opt: opt, f: f, base: ArchiveOffset})
}

// NewLayout returns the Writer of a disk of size bytes, which writes what
// [WriteLayout] does.
func NewLayout(size int64, dir string, opt Options) (*Writer, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		return nil, fault.OfWrite(err)
	}
	f, err := os.OpenFile(filepath.Join(blobs, ".layer.part"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fault.OfWrite(err)
	}
	w, err := newWriter(size, &Writer{opt: opt, f: f, dir: dir})
	if err != nil {
		f.Close()
	}
	return w, err
}

func newWriter(size int64, w *Writer) (_ *Writer, err error) {
	if err := w.opt.check(); err != nil {
		return nil, err
	}
	w.out = output.NewFileAt(w.f, w.base+sizeHeads)
	if w.opt.Compression == qcow2.Zlib {
		if w.disk, err = qcow2.NewWriterTo(size, w.out, qcow2.Options{}); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// write writes all of the image.
func (w *Writer) write(ctx context.Context, img *disk.Image) (*Image, error) {
	if w.disk != nil {
		err := pieces.Write(ctx, img, []pieces.Format{w}, w.opt.Progress)
		return w.image, err
	}
	defer w.Stop()
	n, err := qcow2.WriteTo(ctx, img, w.out, qcow2.Options{Compression: w.opt.Compression, Level: w.opt.Level, Progress: w.opt.Progress})
	if err != nil {
		return nil, err
	}
	err = w.finish(ctx, n)
	return w.image, err
}

// Want implements pieces.Format.
func (*Writer) Want() pieces.Want { return pieces.Want{Stream: true} }

// Add implements pieces.Format.
func (w *Writer) Add(ctx context.Context, b *pieces.Batch) error { return w.disk.Add(ctx, b) }

// Finish implements pieces.Format.
func (w *Writer) Finish(ctx context.Context) error {
	if err := w.disk.Finish(ctx); err != nil {
		return err
	}
	return w.finish(ctx, w.disk.Size())
}

// Stop implements pieces.Format.
func (w *Writer) Stop() {
	w.out.Stop()
	if w.dir != "" {
		w.f.Close()
	}
}

// Image returns the image that was written.
func (w *Writer) Image() *Image { return w.image }

// finish writes what is around the disk, whose image has n bytes.
func (w *Writer) finish(ctx context.Context, n int64) error {
	layer, err := w.finishLayer(ctx, n)
	if err != nil {
		return err
	}
	image := describe(layer, w.opt)
	finish := w.finishArchive
	if w.dir != "" {
		finish = w.finishLayout
	}
	if err := finish(image); err != nil {
		return err
	}
	w.image = image
	return nil
}

// finishLayer writes what the layer has around the disk, and returns its digest.
func (w *Writer) finishLayer(ctx context.Context, n int64) (Blob, error) {
	modified := w.opt.Time.Unix()
	dir := output.TarHeader{Name: dirName, Modified: modified, Mode: dirMode, Owner: qemuID, Directory: true}
	file := output.TarHeader{Name: diskName, Size: n, Modified: modified, Mode: diskMode, Owner: qemuID}
	if _, err := w.out.WriteAt(append(dir.Encode(), file.Encode()...), -sizeHeads); err != nil {
		return Blob{}, err
	}
	size := output.TarEnd(sizeHeads + n)
	if err := w.out.Truncate(size - sizeHeads); err != nil {
		return Blob{}, err
	}
	digest, err := output.SHA256(ctx, w.f, w.base, size)
	if err != nil {
		return Blob{}, err
	}
	return Blob{"sha256:" + hex.EncodeToString(digest), size}, nil
}

// finishArchive writes what the archive has around the layer.
func (w *Writer) finishArchive(image *Image) error {
	modified := w.opt.Time.Unix()
	header := func(name string, size int64) []byte {
		h := output.TarHeader{Name: name, Size: size, Modified: modified}
		return h.Encode()
	}
	var rest []byte
	for _, m := range image.files() {
		rest = append(rest, header(m.name, int64(len(m.content)))...)
		rest = append(rest, m.content...)
		rest = append(rest, make([]byte, -len(m.content)&(output.TarBlock-1))...)
	}
	at := ArchiveOffset + image.Layer.Size // whole blocks
	end := output.TarEnd(at + int64(len(rest)))
	rest = append(rest, make([]byte, end-at-int64(len(rest)))...)
	if _, err := w.out.WriteAt(rest, at-w.base-sizeHeads); err != nil {
		return err
	}
	// Without entries of their own, skopeo would give the directories to root,
	// which only root can.
	var head []byte
	for _, name := range []string{"blobs/", "blobs/sha256/"} {
		h := output.TarHeader{Name: name, Modified: modified, Mode: 0o755, Directory: true}
		head = append(head, h.Encode()...)
	}
	head = append(head, header(BlobPath(image.Layer.Digest), image.Layer.Size)...)
	if _, err := w.out.WriteAt(head, -w.base-sizeHeads); err != nil {
		return err
	}
	return w.out.Sync()
}

// finishLayout gives the layer its name in the layout, and writes the other files.
func (w *Writer) finishLayout(image *Image) error {
	if err := w.out.Sync(); err != nil {
		return err
	}
	if err := w.f.Close(); err != nil {
		return fault.OfWrite(err)
	}
	path := func(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }
	if err := os.Rename(w.f.Name(), path(BlobPath(image.Layer.Digest))); err != nil {
		return fault.OfWrite(err)
	}
	for _, m := range image.files() {
		if err := writeFile(path(m.name), m.content); err != nil {
			return fault.OfWrite(err)
		}
	}
	return nil
}

func (opt Options) check() error {
	if opt.Arch == "" {
		return fault.New(fault.Usage, errors.New("container disk: no architecture"), "")
	}
	return nil
}

func writeFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
