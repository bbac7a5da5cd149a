package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"imgbuild/bootc"
	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/fsverity"
	"imgbuild/tree"
)

// needsVerity tells whether the boot demands fs-verity, as bootc asks it
// (ostree_prepareroot.rs, requires_fsverity).
func needsVerity(facts *bootc.Image) bool {
	return facts.Composefs == bootc.ComposefsVerity || facts.Composefs == bootc.ComposefsSigned
}

// verityRoots are the root file systems that can hold fs-verity metadata.
func verityRoots() []string { return []string{"ext4", "btrfs"} }

// verityRefusals are the reasons why an image that demands fs-verity cannot get
// it, as far as they are known before anything is measured.
func (sys *system) verityRefusals(o *Options) []error {
	var list []error
	fs := o.RootFS
	if fs == "" {
		fs = sys.facts.Install.RootFSType
	}
	if fs == "" {
		fs = defaultRootFS
	}
	if slices.Contains(writableRoots(), fs) {
		if err := checkVerityRoot(fs, sys.facts.Composefs); err != nil {
			list = append(list, err)
		}
	}
	if sys.facts.Composefs == bootc.ComposefsSigned {
		if _, err := sys.signedDigest(); err != nil {
			list = append(list, err)
		}
	}
	return list
}

// checkVerityRoot returns an error where a root file system cannot hold fs-verity
// metadata, which a boot by composefs in that mode demands.
func checkVerityRoot(fs string, mode bootc.ComposefsMode) error {
	roots := verityRoots()
	if slices.Contains(roots, fs) {
		return nil
	}
	return fault.New(fault.Unsupported,
		fmt.Errorf("prepare-root.conf asks for composefs with fs-verity (enabled = %s), which a root file system %s cannot hold: Linux has it on ext4, btrfs and f2fs", mode, fs),
		"build with --rootfs "+strings.Join(roots, " or --rootfs "))
}

// verityObjects are the fs-verity metadata of the regular file objects of a
// repository, by checksum of the object.
type verityObjects map[tree.Sum]*fsverity.Metadata

// digest returns what the composefs image asks for digests, nil without any.
func (v verityObjects) digest() func(*tree.Inode) ([32]byte, bool) {
	if v == nil {
		return nil
	}
	return func(i *tree.Inode) ([32]byte, bool) {
		m := v[i.Object]
		if m == nil {
			return [32]byte{}, false
		}
		return m.Digest(), true
	}
}

// measureObjects computes the metadata of all regular file objects, or finds
// them in the cache.
//
// It reads content a second time: what an image demands is known when its last
// layer is unpacked, and hashing all files of all images once more on the way,
// in case they do, costs more than reading back what is still in memory.
func measureObjects(ctx context.Context, s *source, sys *system, o *Options, p Progress) (verityObjects, error) {
	files := sys.repo.RegularFiles()
	contents := make([]content.Ref, len(files))
	total := int64(0)
	key := sha256.New()
	io.WriteString(key, verityCacheID)
	for k, i := range files {
		contents[k] = i.Content
		total += i.Content.Size()
		key.Write(i.Object[:])
	}
	p.Stage("measure fs-verity", total)
	list, err := verityOf(ctx, s, contents, [32]byte(key.Sum(nil)), o, p)
	if err != nil {
		return nil, fmt.Errorf("fs-verity: %w", err)
	}
	objects := make(verityObjects, len(files))
	for k, i := range files {
		objects[i.Object] = &list[k]
	}
	return objects, nil
}

// verityCacheID names what a cached file holds: the Merkle trees in the order of
// the objects, their root hashes, and the SHA-256 of both.
const verityCacheID = "fs-verity sha256 4096, version 1"

// verityOf returns the metadata of contents. Their trees are in a file, which is
// in the cache where there is one.
func verityOf(ctx context.Context, s *source, contents []content.Ref, key [32]byte, o *Options, p Progress) ([]fsverity.Metadata, error) {
	end := int64(0) // of the trees
	for _, c := range contents {
		end += fsverity.TreeSize(c.Size())
	}
	if s.cache != nil {
		if f := s.cache.OpenDerived(key); f != nil {
			if roots := readRoots(ctx, f, end, len(contents)); roots != nil {
				s.closes = append(s.closes, func() { f.Close() })
				return fsverity.Restore(contents, roots, f), nil
			}
			f.Close()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	f, err := createTrees(s, o)
	if err != nil {
		return nil, err
	}
	discard := func() {
		f.Close()
		_ = os.Remove(f.Name())
	}
	list, err := fsverity.Measure(ctx, contents, f, p.Advance)
	if err != nil {
		discard()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, outputError(err)
	}
	if s.cache == nil {
		s.closes = append(s.closes, discard)
		return list, nil
	}
	roots := make([][32]byte, len(list))
	for k := range list {
		roots[k] = list[k].Root
	}
	if err := writeRoots(ctx, f, end, roots); err != nil {
		discard()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, outputError(err)
	}
	kept, err := s.cache.KeepDerived(f, key)
	if err != nil {
		return nil, outputError(err)
	}
	s.closes = append(s.closes, func() { kept.Close() })
	return fsverity.Restore(contents, roots, kept), nil
}

func createTrees(s *source, o *Options) (*os.File, error) {
	if s.cache != nil {
		return s.cache.CreateDerived()
	}
	f, err := os.CreateTemp(o.TempDir, "imgbuild-")
	if err != nil {
		return nil, outputError(err)
	}
	// Without a name not even a killed process leaves anything. Where open files
	// cannot be removed, close does it.
	_ = os.Remove(f.Name())
	return f, nil
}

// writeRoots writes the root hashes behind the trees, which end at an offset in
// bytes, and then the checksum of all.
func writeRoots(ctx context.Context, f *os.File, end int64, roots [][32]byte) error {
	b := make([]byte, 0, 32*len(roots))
	for _, r := range roots {
		b = append(b, r[:]...)
	}
	if _, err := f.WriteAt(b, end); err != nil {
		return err
	}
	sum, err := checksum(ctx, f, end+int64(len(b)))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(sum[:], end+int64(len(b)))
	return err
}

// readRoots returns the n root hashes of a file of the cache, or nil when it is
// not what writeRoots left.
func readRoots(ctx context.Context, f *os.File, end int64, n int) [][32]byte {
	sum, err := checksum(ctx, f, end+32*int64(n))
	if err != nil {
		return nil
	}
	b := make([]byte, 32*n+len(sum)+1) // one more, to see that there is none
	k, err := f.ReadAt(b, end)
	if k != len(b)-1 || err != io.EOF || [32]byte(b[32*n:]) != sum {
		return nil
	}
	roots := make([][32]byte, n)
	for i := range roots {
		roots[i] = [32]byte(b[32*i:])
	}
	return roots
}

// checksum returns the SHA-256 of the first n bytes of a file.
func checksum(ctx context.Context, f *os.File, n int64) (sum [32]byte, err error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < n; {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		k, err := f.ReadAt(buf[:min(int64(len(buf)), n-off)], off)
		h.Write(buf[:k])
		off += int64(k)
		if err != nil && !(err == io.EOF && off == n) {
			return sum, err
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

// protect gives fs-verity metadata to what bootc protects: every object of the
// repository that libostree writes under its checksum, the composefs image, and
// last the config of the repository, by which bootc knows that all others have
// it (ostree-ext, fsverity.rs). The kernel in /boot has none, as on a /boot
// whose file system lacks the feature.
func (d *disks) protect(ctx context.Context, objects verityObjects) error {
	list := []*tree.Inode{d.sysroot.Deployment.Child(".ostree.cfs"), d.sysroot.Repo.Child("config")}
	for _, dir := range d.sysroot.Repo.Child("objects").Entries() {
		for _, e := range dir.Inode.Entries() {
			switch {
			case !e.Inode.IsFile() || strings.HasSuffix(e.Name, ".commitmeta"):
			case !strings.HasSuffix(e.Name, ".file"):
				list = append(list, e.Inode)
			default:
				if e.Inode.Verity = objects[e.Inode.Object]; e.Inode.Verity == nil {
					return fmt.Errorf("fs-verity: object %s%s was not measured", dir.Name, e.Name)
				}
			}
		}
	}
	contents := make([]content.Ref, len(list))
	for k, i := range list {
		contents[k] = i.Content
	}
	// Metadata objects and the image are in memory, and so are their trees.
	metadata, err := fsverity.Measure(ctx, contents, fsverity.NewMemory(contents...), nil)
	if err != nil {
		return fmt.Errorf("fs-verity: %w", err)
	}
	for k, i := range list {
		i.Verity = &metadata[k]
	}
	digest := metadata[0].Digest()
	d.composefsDigest = hex.EncodeToString(digest[:])
	return nil
}

// checkSigned compares a composefs image with the one that was signed.
func (sys *system) checkSigned(image []byte) error {
	want, err := sys.signedDigest()
	if err != nil {
		return err
	}
	m, err := fsverity.Of(context.Background(), content.Bytes(image))
	if err != nil {
		return err
	}
	if got := m.Digest(); got != want {
		return signedRefusal(fmt.Errorf("the base was signed for the image %x, and with the layers above it the image is %x", want, got))
	}
	return nil
}

func signedRefusal(err error) error {
	return fault.New(fault.Unsupported, fmt.Errorf("prepare-root.conf asks for a signed composefs image (enabled = signed), which would not boot: %w", err),
		"sign the commit of the finished tree and encapsulate that, or use enabled = verity in prepare-root.conf, in the image and its initramfs")
}

// signedDigest returns the fs-verity digest of the composefs image that the
// image's base is signed for. ostree-prepare-root takes the signature from the
// detached metadata of the deployed commit, and of its parent where the commit
// is an imported container: only an encapsulated base can have one
// (ostree: src/libotcore/otcore-prepare-root.c, otcore_mount_rootfs).
func (sys *system) signedDigest() (digest [32]byte, err error) {
	if sys.base == nil {
		return digest, signedRefusal(errors.New("the signature is part of an encapsulated ostree commit, and this image is not based on one"))
	}
	digest, signatures, err := sys.repo.ComposefsSignatures(sys.base.Commit)
	if err != nil {
		return digest, signedRefusal(fmt.Errorf("the base: %w", err))
	}
	keys, err := publicKeys(sys.merged, sys.facts.ComposefsKeys)
	if err != nil {
		return digest, err
	}
	if len(keys) > 0 && !signedBy(sys.repo.Commit(sys.base.Commit), signatures, keys) {
		return digest, signedRefusal(fmt.Errorf("no key of %s has signed the base", sys.facts.ComposefsKeys))
	}
	return digest, nil
}
