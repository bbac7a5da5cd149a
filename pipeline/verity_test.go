package pipeline

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/fsverity"
	"imgbuild/test/image"
	"imgbuild/tree"
)

// veritySpec is an image whose boot demands fs-verity.
func veritySpec(mode string) *image.Spec {
	s := image.New()
	s.Remove("usr/lib/ostree")
	s.File(0, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = "+mode+"\n")
	s.File(0, "usr/share/large", strings.Repeat("large", 1_000_000))
	s.File(0, "usr/share/empty", "")
	return s
}

// deployed runs the stages up to the disk trees.
func deployed(t *testing.T, layout string, change func(*Options)) (*disks, error) {
	t.Helper()
	o := &Options{Image: reference(t, "oci:"+layout), Arch: "amd64", NoCache: true, TempDir: t.TempDir(), Target: "registry.example.com/os:1"}
	change(o)
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	s, err := pull(context.Background(), o, Silent{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	sys, err := flatten(context.Background(), s, o, Silent{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := newIdentity("x", identityInput{})
	if err != nil {
		t.Fatal(err)
	}
	return deploy(context.Background(), s, sys, o, id, Silent{})
}

func written(t *testing.T, s *image.Spec) string {
	t.Helper()
	layout := filepath.Join(t.TempDir(), "image")
	if err := s.Write(layout); err != nil {
		t.Fatal(err)
	}
	return layout
}

// checkVerity compares the metadata of everything that bootc protects with what
// is computed anew, and finds none anywhere else.
func checkVerity(t *testing.T, d *disks) {
	t.Helper()
	want := map[*tree.Inode]bool{}
	protects := func(p string, i *tree.Inode) error {
		if i.IsFile() && !strings.HasSuffix(p, ".commitmeta") {
			want[i] = true
		}
		return nil
	}
	_ = tree.Walk(d.sysroot.Repo.Child("objects"), protects)
	_ = protects("config", d.sysroot.Repo.Child("config"))
	_ = protects("image", d.sysroot.Deployment.Child(".ostree.cfs"))
	seen := 0
	for _, root := range []*tree.Inode{d.sysroot.Root, d.sysroot.Boot} {
		_ = tree.Walk(root, func(p string, i *tree.Inode) error {
			if (i.Verity != nil) != want[i] {
				t.Errorf("%s: fs-verity is %v, want %v", p, i.Verity != nil, want[i])
			}
			if i.Verity == nil {
				return nil
			}
			seen++
			m, err := fsverity.Of(context.Background(), i.Content)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := m.Tree.ReadAll(1 << 30)
			if b, err := i.Verity.Tree.ReadAll(1 << 30); err != nil || !bytes.Equal(a, b) || m.Digest() != i.Verity.Digest() {
				t.Errorf("%s: the metadata are of something else, %v", p, err)
			}
			return nil
		})
	}
	if seen < 40 {
		t.Errorf("%d files with fs-verity", seen)
	}
	text, err := d.sysroot.Repo.Child("config").Content.ReadAll(1 << 20)
	if err != nil || !strings.HasSuffix(string(text), "\n[ex-integrity]\nfsverity=true\n") {
		t.Errorf("config of the repository: %q, %v", text, err)
	}
	if len(d.composefsDigest) != 64 {
		t.Errorf("digest %q", d.composefsDigest)
	}
	// The image names the digest of each object.
	cfs, err := d.sysroot.Deployment.Child(".ostree.cfs").Content.ReadAll(1 << 30)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"usr/share/large", "usr/lib/os-release"} {
		digest := tree.Lookup(d.sysroot.Deployment, p).Verity.Digest()
		if !bytes.Contains(cfs, digest[:]) {
			t.Errorf("the composefs image has no digest of %s", p)
		}
	}
}

// With a cache the trees are kept, and a damaged file is made again.
func TestVerityObjects(t *testing.T) {
	layout := written(t, veritySpec("verity"))
	d, err := deployed(t, layout, func(*Options) {})
	if err != nil {
		t.Fatal(err)
	}
	checkVerity(t, d)
	first := d.composefsDigest
	cache := t.TempDir()
	kept := func() string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(cache, "spools", "*.dat"))
		if err != nil || len(found) != 1 {
			t.Fatalf("kept in the cache: %v, %v", found, err)
		}
		return found[0]
	}
	for _, damage := range []func(string){
		func(string) {}, // cold
		func(string) {}, // warm
		func(name string) { os.Truncate(name, 100) },
		func(name string) { os.WriteFile(name, nil, 0o644) },
		func(name string) { change(t, name, 10) },
		func(name string) { change(t, name, -40) },
		func(name string) { change(t, name, -1) },
		func(name string) {
			f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.Write([]byte("x"))
			f.Close()
		},
	} {
		if found, _ := filepath.Glob(filepath.Join(cache, "spools", "*.dat")); found != nil {
			damage(kept())
		}
		d, err := deployed(t, layout, func(o *Options) { o.NoCache, o.Cache = false, cache })
		if err != nil {
			t.Fatal(err)
		}
		checkVerity(t, d)
		if d.composefsDigest != first {
			t.Errorf("digest %s, and without a cache %s", d.composefsDigest, first)
		}
		kept()
	}
}

// change flips a bit of a file, from its end where at is negative.
func change(t *testing.T, name string, at int) {
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 1
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Without the demand nothing is protected.
func TestNoVerity(t *testing.T) {
	d, err := deployed(t, written(t, veritySpec("yes")), func(*Options) {})
	if err != nil {
		t.Fatal(err)
	}
	_ = tree.Walk(d.sysroot.Root, func(p string, i *tree.Inode) error {
		if i.Verity != nil {
			t.Errorf("%s has fs-verity", p)
		}
		return nil
	})
}

// A signed image needs a base that was signed for the very tree.
func TestSigned(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	public := func(k ed25519.PrivateKey) string {
		return base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey)) + "\n"
	}
	const keys = "etc/ostree/initramfs-root-binding.key"
	for _, tc := range []struct {
		name string
		make func(s *image.Spec) // before the base is made
		key  ed25519.PrivateKey
		base bool
		add  func(s *image.Spec) // on top of it
		want string
	}{
		{name: "signed", key: key, base: true},
		{name: "signed, with its key", key: key, base: true, make: func(s *image.Spec) { s.File(0, keys, public(other)+"\n"+public(key)) }},
		{name: "layer that changes nothing", key: key, base: true, add: func(s *image.Spec) { s.Dir(3, "usr") }},
		{name: "no base", want: "this image is not based on one"},
		{name: "not signed", base: true, want: "is not signed"},
		{name: "changed", key: key, base: true, add: func(s *image.Spec) { s.File(3, "usr/share/more", "x") }, want: "with the layers above it the image is"},
		{name: "another key", key: key, base: true, make: func(s *image.Spec) { s.File(0, keys, public(other)) }, want: "no key of /etc/ostree/initramfs-root-binding.key has signed the base"},
		{name: "no key", key: key, base: true, make: func(s *image.Spec) { s.File(0, keys, "key\n") }, want: "is not an ed25519 public key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := veritySpec("signed")
			if tc.make != nil {
				tc.make(s)
			}
			if tc.base {
				if _, err := s.Encapsulate(image.Encapsulation{Chunks: 2, Version: 1, Key: tc.key}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.add != nil {
				tc.add(s)
			}
			d, err := deployed(t, written(t, s), func(*Options) {})
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				checkVerity(t, d)
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want %q", err, tc.want)
			}
			if c := fault.ClassOf(err); c != fault.Unsupported && c != fault.BadImage {
				t.Errorf("class %v", c)
			}
		})
	}
}

// The temporary file of a build without a cache is gone after it.
func TestVerityLeavesNothing(t *testing.T) {
	layout, temp := written(t, veritySpec("verity")), t.TempDir()
	o := &Options{Image: reference(t, "oci:"+layout), Arch: "amd64", NoCache: true, TempDir: temp, Target: "registry.example.com/os:1", Output: t.TempDir()}
	if _, err := Build(context.Background(), *o, Silent{}); err != nil {
		t.Fatal(err)
	}
	if list, err := os.ReadDir(temp); err != nil || len(list) > 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := &source{}
	if _, err := verityOf(ctx, s, []content.Ref{content.String("x")}, [32]byte{}, o, Silent{}); err == nil {
		t.Error("a cancelled build goes on")
	}
	s.close()
	if list, err := os.ReadDir(temp); err != nil || len(list) > 0 {
		t.Errorf("left behind by a cancelled build: %v, %v", list, err)
	}
}
