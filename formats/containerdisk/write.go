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
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
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
	if err := opt.check(); err != nil {
		return nil, err
	}
	image, err := writeLayer(ctx, img, f, ArchiveOffset, opt)
	if err != nil {
		return nil, err
	}
	header := func(name string, size int64) []byte {
		h := output.TarHeader{Name: name, Size: size, Modified: opt.Time.Unix()}
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

	out := output.NewFile(f)
	defer out.Stop()
	if _, err := out.WriteAt(rest, at); err != nil {
		return nil, err
	}
	// Without entries of their own, skopeo would give the directories to root,
	// which only root can.
	var head []byte
	for _, name := range []string{"blobs/", "blobs/sha256/"} {
		h := output.TarHeader{Name: name, Modified: opt.Time.Unix(), Mode: 0o755, Directory: true}
		head = append(head, h.Encode()...)
	}
	head = append(head, header(BlobPath(image.Layer.Digest), image.Layer.Size)...)
	if _, err := out.WriteAt(head, 0); err != nil {
		return nil, err
	}
	return image, out.Sync()
}

// WriteLayout writes img as an image layout to dir, an empty directory, and makes
// its files durable. The bytes are those of WriteArchive.
//
// An error of a file carries a class of package fault; dir is then in no defined
// state, and has no index.
func WriteLayout(ctx context.Context, img *disk.Image, dir string, opt Options) (*Image, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		return nil, fault.OfWrite(err)
	}
	image, err := writeLayerFile(ctx, img, blobs, opt)
	if err != nil {
		return nil, err
	}
	for _, m := range image.files() {
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(m.name)), m.content); err != nil {
			return nil, fault.OfWrite(err)
		}
	}
	return image, nil
}

func (opt Options) check() error {
	if opt.Arch == "" {
		return fault.New(fault.Usage, errors.New("container disk: no architecture"), "")
	}
	return nil
}

// writeLayerFile writes the layer to the directory of the blobs.
func writeLayerFile(ctx context.Context, img *disk.Image, blobs string, opt Options) (*Image, error) {
	temp := filepath.Join(blobs, ".layer.part")
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fault.OfWrite(err)
	}
	defer f.Close()
	image, err := writeLayer(ctx, img, f, 0, opt)
	if err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, fault.OfWrite(err)
	}
	if err := f.Close(); err != nil {
		return nil, fault.OfWrite(err)
	}
	return image, fault.OfWrite(os.Rename(temp, filepath.Join(blobs, filepath.Base(BlobPath(image.Layer.Digest)))))
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

// writeLayer writes the layer to f at the offset base, and describes it.
func writeLayer(ctx context.Context, img *disk.Image, f *os.File, base int64, opt Options) (*Image, error) {
	out := output.NewFileAt(f, base+sizeHeads)
	defer out.Stop()
	n, err := qcow2.WriteTo(ctx, img, out, qcow2.Options{Compression: opt.Compression, Level: opt.Level, Progress: opt.Progress})
	if err != nil {
		return nil, err
	}
	modified := opt.Time.Unix()
	dir := output.TarHeader{Name: dirName, Modified: modified, Mode: dirMode, Owner: qemuID, Directory: true}
	file := output.TarHeader{Name: diskName, Size: n, Modified: modified, Mode: diskMode, Owner: qemuID}
	if _, err := out.WriteAt(append(dir.Encode(), file.Encode()...), -sizeHeads); err != nil {
		return nil, err
	}
	size := output.TarEnd(sizeHeads + n)
	if err := out.Truncate(size - sizeHeads); err != nil {
		return nil, err
	}
	digest, err := sum(ctx, io.NewSectionReader(f, base, size))
	if err != nil {
		return nil, fault.OfWrite(fmt.Errorf("read back: %w", err))
	}
	return describe(Blob{digest, size}, opt), nil
}

// sum returns the digest of what r has.
func sum(ctx context.Context, r io.Reader) (string, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
