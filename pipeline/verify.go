package pipeline

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"imgbuild/attest"
	"imgbuild/fault"
	"imgbuild/sbom"
)

// Record is what is known of a build from its record.
type Record struct {
	Path      string
	Statement *attest.Statement
	Signed    bool // by the key that was asked for
}

// ReadRecord reads a record: a statement, or an envelope with one, which must be
// signed by the key unless that is nil.
func ReadRecord(path string, key *attest.PublicKey) (*Record, error) {
	text, err := readSmall(path, attest.MaxSize)
	if err != nil {
		return nil, fault.New(fault.NotFound, fmt.Errorf("record: %w", err), "")
	}
	r := &Record{Path: path}
	switch {
	case attest.IsEnvelope(text):
		e, payload, err := attest.ParseEnvelope(text)
		if err == nil && key != nil {
			if payload, err = e.Verify(key); errors.Is(err, attest.ErrNotSigned) {
				return nil, fault.New(fault.BadImage, fmt.Errorf("record %s: %w", path, err), "the key is another one, or the record was changed")
			}
			r.Signed = err == nil
		}
		if err == nil && e.PayloadType != attest.PayloadType {
			err = fmt.Errorf("envelope of the type %.80q, not %s", e.PayloadType, attest.PayloadType)
		}
		if err != nil {
			return nil, fault.New(fault.BadImage, fmt.Errorf("record %s: %w", path, err), "")
		}
		text = payload
	case key != nil:
		return nil, fault.New(fault.BadImage, fmt.Errorf("record %s: is not signed", path), "builds with --sign-key FILE sign their records")
	}
	if r.Statement, err = attest.ParseStatement(text); err != nil {
		return nil, fault.New(fault.BadImage, fmt.Errorf("record %s: %w", path, err), "")
	}
	return r, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return text, err
}

// Verified is a file that is what its record says.
type Verified struct {
	Path   string `json:"path"`
	Name   string `json:"name"` // in the record
	Digest string `json:"digest"`
}

// Verify compares files, and directories of files, with the record. Without
// paths it is all files that the record names, which are looked for where they were
// written: below the directory of the record. An error of the class BadImage is
// about a file that is another one.
func (r *Record) Verify(ctx context.Context, paths []string, p Progress) ([]Verified, error) {
	jobs, err := r.jobs(paths)
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, j := range jobs {
		total += j.size
	}
	p.Stage("hash files", total)
	out := make([]Verified, len(jobs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, j := range jobs {
		g.Go(func() (err error) {
			out[i], err = j.verify(gctx, r, p)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// verifyJob is a file to be compared.
type verifyJob struct {
	path string
	want string // its name in the record where that is certain, else ""
	size int64
}

func (r *Record) jobs(paths []string) (jobs []verifyJob, err error) {
	add := func(path, want string) error {
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s: no regular file", path)
		}
		if err != nil {
			return fault.New(fault.NotFound, err, "")
		}
		jobs = append(jobs, verifyJob{path, want, info.Size()})
		return nil
	}
	if len(paths) == 0 {
		for _, f := range r.Statement.Files() {
			if !filepath.IsLocal(filepath.FromSlash(f.Name)) {
				return nil, fault.New(fault.BadImage, fmt.Errorf("record %s: names the file %.80q, which is not below it", r.Path, f.Name), "")
			}
			if err := add(filepath.Join(filepath.Dir(r.Path), filepath.FromSlash(f.Name)), f.Name); err != nil {
				return nil, err
			}
		}
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fault.New(fault.NotFound, err, "")
		}
		if !info.IsDir() {
			err = add(path, "")
		} else {
			err = r.directoryJobs(path, add)
		}
		if err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

// directoryJobs adds the files of a directory. The record must have one with exactly
// these files.
func (r *Record) directoryJobs(dir string, add func(path, want string) error) error {
	var inside []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		inside = append(inside, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return fault.New(fault.NotFound, err, "")
	}
	slices.Sort(inside)
	of := r.directory(inside)
	if of == nil {
		return fault.New(fault.BadImage, fmt.Errorf("%s: has not the files that the record has of a directory", dir), "")
	}
	for _, rel := range inside {
		if err := add(filepath.Join(dir, filepath.FromSlash(rel)), of[rel]); err != nil {
			return err
		}
	}
	return nil
}

// directory returns the names in the record of the files of a directory, by what they
// are called in it, where the record has one with exactly these files.
func (r *Record) directory(inside []string) map[string]string {
	all := map[string][]string{} // files by directory
	for _, f := range r.Statement.Subject {
		for d := path.Dir(f.Name); d != "." && d != "/"; d = path.Dir(d) {
			all[d] = append(all[d], f.Name)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(all)) {
		of := map[string]string{}
		for _, name := range all[d] {
			of[strings.TrimPrefix(name, d+"/")] = name
		}
		if slices.Equal(slices.Sorted(maps.Keys(of)), inside) {
			return of
		}
	}
	return nil
}

// verify hashes a file and looks it up in the record.
func (j verifyJob) verify(ctx context.Context, r *Record, p Progress) (v Verified, err error) {
	f, err := os.Open(j.path)
	if err != nil {
		return v, fault.New(fault.NotFound, err, "")
	}
	defer f.Close()
	h := sha256.New()
	if err := hashFile(ctx, h, f, 0, p.Advance); err != nil {
		return v, fmt.Errorf("%s: %w", j.path, err)
	}
	sum := [32]byte(h.Sum(nil))
	var expected string // what a file of this name should be
	for _, s := range r.Statement.Files() {
		is, err := s.Sum()
		if err != nil {
			return v, err
		}
		switch {
		case is == sum && (j.want == "" || j.want == s.Name):
			return Verified{j.path, s.Name, fmt.Sprintf("sha256:%x", sum)}, nil
		case j.want == s.Name, j.want == "" && path.Base(s.Name) == filepath.Base(j.path):
			expected = fmt.Sprintf(", and the record has sha256:%x for %s", is, s.Name)
		}
	}
	if expected == "" {
		expected = ", which the record does not have"
	}
	return v, fault.New(fault.BadImage, fmt.Errorf("%s: has sha256:%x%s", j.path, sum, expected), "the file was changed, or is of another build")
}

// Rebuild builds once more what the record says, with the options that its
// parameters stand for, and compares: the result must be the same to the last bit.
// The files are made in a new directory below o.TempDir, which is removed.
func (r *Record) Rebuild(ctx context.Context, o Options, p Progress) error {
	for _, d := range r.Statement.Dependencies(attest.DependencyManifest) {
		o.Pin = "sha256:" + d.Digest["sha256"]
	}
	for _, d := range r.Statement.Dependencies(attest.DependencyIndex) {
		o.PinRoot = "sha256:" + d.Digest["sha256"] // the last one is the outermost
	}
	for _, d := range r.Statement.Dependencies(attest.DependencyPayload) {
		o.PinPayload = "sha256:" + d.Digest["sha256"]
	}
	// What is attached to the image can be other things by now.
	o.Records.SBOMs = slices.DeleteFunc(o.Records.SBOMs, func(f sbom.Format) bool { return f == sbom.Attached })
	if err := r.sameInputs(&o); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.TempDir, "imgbuild-rebuild-")
	if err != nil {
		return outputError(err)
	}
	defer os.RemoveAll(dir)
	o.Output, o.Chown, o.Push, o.Upload, o.NoOutput = dir, nil, nil, nil, false
	o.Records.Record, o.Records.Signer = true, nil
	result, err := Build(ctx, o, p)
	if err != nil {
		return err
	}
	again, err := ReadRecord(result.Record, nil)
	if err != nil {
		return err
	}
	return r.compare(again)
}

// sameInputs compares the files that flags name with those of the record.
func (r *Record) sameInputs(o *Options) error {
	var want []attest.Resource
	for _, d := range r.Statement.Dependencies(attest.DependencyFile) {
		if d.URI == "" {
			want = append(want, d)
		}
	}
	if len(want) != len(o.Records.Inputs) {
		return fault.New(fault.BadImage, fmt.Errorf("record %s: is of %d files that flags name, and there are %d", r.Path, len(want), len(o.Records.Inputs)), "")
	}
	for i, in := range o.Records.Inputs {
		if in.Digest["sha256"] != want[i].Digest["sha256"] {
			return fault.New(fault.BadImage, fmt.Errorf("%s: is not the file of the record, which has sha256:%s", in.Annotations["path"], want[i].Digest["sha256"]),
				"name the file that was built with: "+want[i].Annotations["flag"]+" FILE")
		}
	}
	return nil
}

// compare tells where a second build differs. The manifest is compared like any
// file: it is a function of the build as well.
func (r *Record) compare(again *Record) error {
	sums := map[string]string{}
	for _, f := range again.Statement.Files() {
		sums[f.Name] = f.Digest["sha256"]
	}
	for _, f := range r.Statement.Files() {
		if f.Annotations[attachedTo] != "" {
			continue
		}
		got, ok := sums[f.Name]
		if !ok {
			return fault.New(fault.BadImage, fmt.Errorf("rebuild: makes no %s, which the record has", f.Name), r.otherVersion())
		}
		if got != f.Digest["sha256"] {
			return fault.New(fault.BadImage, fmt.Errorf("rebuild: %s has sha256:%s, and the record has sha256:%s", f.Name, got, f.Digest["sha256"]), r.otherVersion())
		}
	}
	return nil
}

// otherVersion is the hint where another version of imgbuild made the record.
func (r *Record) otherVersion() string {
	if v := r.Statement.Predicate.RunDetails.Builder.Version["imgbuild"]; v != Version() {
		return fmt.Sprintf("the record is of imgbuild %.40s, and this is %s: builds are the same for the same version", v, Version())
	}
	return ""
}
