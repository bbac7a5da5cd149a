package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"imgbuild/attest"
	"imgbuild/disk"
	"imgbuild/formats/diskfile"
	"imgbuild/formats/vhd"
)

// diskSums hashes the disk while it is written, for the files that begin with the
// disk as it is: of those that is nearly all, most of it zeros, and reading them
// back would take as long again. Nil hashes nothing.
type diskSums struct {
	size  int64
	state []byte // of a SHA-256 that has seen the whole disk, once done is closed
	err   error
	done  chan struct{}
	stop  context.CancelFunc
}

// plainDisk tells whether the file of a type begins with the disk as it is.
func (f *Formats) plainDisk(t Type) bool {
	switch t {
	case Raw, AMI:
		return f.Compress == nil
	case VHD:
		return f.VHD == vhd.Fixed
	}
	return false
}

// hashDisk starts hashing the disk where a record of such a file is asked for.
func hashDisk(ctx context.Context, image *disk.Image, o *Options) *diskSums {
	if !o.Records.Record || !slices.ContainsFunc(o.Types, o.plainDisk) {
		return nil
	}
	s := &diskSums{size: image.Size(), done: make(chan struct{})}
	ctx, s.stop = context.WithCancel(ctx)
	go func() {
		defer close(s.done)
		h := sha256.New()
		if s.err = hashImage(ctx, h, image); s.err == nil {
			s.state, s.err = h.(encoding.BinaryMarshaler).MarshalBinary()
		}
	}()
	return s
}

// close stops hashing and waits for its end: what is hashed may be closed then.
func (s *diskSums) close() {
	if s != nil {
		s.stop()
		<-s.done
	}
}

// resume returns a hash that has seen the disk.
func (s *diskSums) resume() (hash.Hash, error) {
	<-s.done
	if s.err != nil {
		return nil, s.err
	}
	h := sha256.New()
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.state)
}

// hashBuffer is how much is hashed at once.
const hashBuffer = 1 << 20

// hashImage hashes a disk, whose holes are not read.
func hashImage(ctx context.Context, h hash.Hash, image *disk.Image) error {
	w := &hashWriter{ctx: ctx, h: h, buf: make([]byte, hashBuffer), zeros: make([]byte, hashBuffer)}
	for off, n := range image.Data(1) {
		if err := w.skip(off); err != nil {
			return err
		}
		if err := w.data(image, off+n); err != nil {
			return err
		}
	}
	return w.skip(image.Size())
}

// hashJob is a file to be hashed, and where its digest goes.
type hashJob struct {
	path string
	name string // in the record
	sums *diskSums
	to   *attest.Resource

	attached string // as that of the artefact
}

// hash returns the digests of all files: of those of the types, and of those about
// them. All cores are kept busy.
func (a *artefacts) hash(ctx context.Context, sums *diskSums, o *Options, p Progress) (subjects, byproducts []attest.Resource, err error) {
	var jobs []*hashJob
	for i, file := range a.files {
		var of *diskSums
		if i < len(o.Types) && o.plainDisk(o.Types[i]) {
			of = sums
		}
		list, err := file.hashJobs(o.Output, of)
		if err != nil {
			return nil, nil, outputError(err)
		}
		jobs = append(jobs, list...)
	}
	n := len(jobs)
	for _, file := range a.about() {
		list, err := file.hashJobs(o.Output, nil)
		if err != nil {
			return nil, nil, outputError(err)
		}
		jobs = append(jobs, list...)
	}
	all := make([]attest.Resource, len(jobs))
	p.Stage("hash results", 0)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, j := range jobs {
		j.to = &all[i]
		g.Go(func() error {
			if err := j.run(gctx); err != nil {
				return fmt.Errorf("%s: %w", j.name, outputError(err))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	return all[:n], all[n:], nil
}

// hashJobs lists the files of the artefact, which are several where it is a
// directory.
func (a *artefact) hashJobs(output string, sums *diskSums) (list []*hashJob, err error) {
	name, err := filepath.Rel(output, a.path)
	if err != nil {
		return nil, err
	}
	name = filepath.ToSlash(name)
	if a.file != nil {
		return []*hashJob{{path: a.temp, name: name, sums: sums, attached: a.attached}}, nil
	}
	err = filepath.WalkDir(a.temp, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(a.temp, path)
		list = append(list, &hashJob{path: path, name: name + "/" + filepath.ToSlash(rel)})
		return err
	})
	return list, err
}

// run hashes the file, without what was hashed already.
func (j *hashJob) run(ctx context.Context) error {
	f, err := os.Open(j.path)
	if err != nil {
		return err
	}
	defer f.Close()
	h, from := sha256.New(), int64(0)
	if j.sums != nil {
		if h, err = j.sums.resume(); err != nil {
			return err
		}
		from = j.sums.size
	}
	if err := hashFile(ctx, h, f, from, nil); err != nil {
		return err
	}
	*j.to = attest.Resource{Name: j.name, Digest: attest.SHA256([32]byte(h.Sum(nil)))}
	if j.attached != "" {
		j.to.Annotations = map[string]string{attachedTo: j.attached}
	}
	return nil
}

// hashFile hashes a file from an offset on. Where the host knows holes they are not
// read: that of two disks of 10 GiB, nearly all holes, took 20 s of 31 on two cores.
// Progress, which may be nil, gets the bytes that are done.
func hashFile(ctx context.Context, h hash.Hash, f *os.File, from int64, progress func(n int64)) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	w := &hashWriter{ctx: ctx, h: h, pos: from, progress: progress, buf: make([]byte, hashBuffer), zeros: make([]byte, hashBuffer)}
	for w.pos < size {
		start, end := diskfile.NextData(f, w.pos, size)
		if err := w.skip(start); err != nil {
			return err
		}
		if err := w.data(f, end); err != nil {
			return err
		}
	}
	return nil
}

// hashWriter hashes ranges in ascending order, and zeros between them.
type hashWriter struct {
	ctx        context.Context
	h          hash.Hash
	pos        int64
	progress   func(n int64) // may be nil
	buf, zeros []byte
}

// skip hashes zeros up to an offset.
func (w *hashWriter) skip(to int64) error {
	for w.pos < to {
		if err := w.add(w.zeros[:min(to-w.pos, hashBuffer)]); err != nil {
			return err
		}
	}
	return nil
}

// data hashes what r has up to an offset.
func (w *hashWriter) data(r io.ReaderAt, to int64) error {
	for w.pos < to {
		b := w.buf[:min(to-w.pos, hashBuffer)]
		if n, err := r.ReadAt(b, w.pos); n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := w.add(b); err != nil {
			return err
		}
	}
	return nil
}

func (w *hashWriter) add(b []byte) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.h.Write(b)
	w.pos += int64(len(b))
	if w.progress != nil {
		w.progress(int64(len(b)))
	}
	return nil
}
