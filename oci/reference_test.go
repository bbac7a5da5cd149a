package oci

import (
	"strings"
	"testing"

	"imgbuild/fault"
)

var hexDigest = "sha256:" + strings.Repeat("0123456789abcdef", 4)

func TestParseReference(t *testing.T) {
	for _, c := range []struct{ in, transport, str string }{
		{"quay.io/org/os:1", "registry", "docker://quay.io/org/os:1"},
		{"docker://quay.io/org/os:1", "registry", "docker://quay.io/org/os:1"},
		{"quay.io/org/os", "registry", "docker://quay.io/org/os:latest"},
		{"fedora", "registry", "docker://docker.io/library/fedora:latest"},
		{"library/fedora:42", "registry", "docker://docker.io/library/fedora:42"},
		{"index.docker.io/fedora", "registry", "docker://docker.io/library/fedora:latest"},
		{"user/os", "registry", "docker://docker.io/user/os:latest"},
		{"localhost/os", "registry", "docker://localhost/os:latest"},
		{"localhost:5000/os:x", "registry", "docker://localhost:5000/os:x"},
		{"[::1]:5000/os", "registry", "docker://[::1]:5000/os:latest"},
		{"Reg/os", "registry", "docker://Reg/os:latest"},
		{"reg.example/a__b/c-d.e@" + hexDigest, "registry", "docker://reg.example/a__b/c-d.e@" + hexDigest},
		{"reg.example/a:t@" + hexDigest, "registry", "docker://reg.example/a:t@" + hexDigest},
		{"oci:dir", "oci", "oci:dir"},
		{"oci:/abs/dir:tag", "oci", "oci:/abs/dir:tag"},
		{"oci:dir:quay.io/org/os:1", "oci", "oci:dir:quay.io/org/os:1"},
		{"oci:dir@" + hexDigest, "oci", "oci:dir@" + hexDigest},
		{"oci:dir:@" + hexDigest, "oci", "oci:dir@" + hexDigest},
		{"oci:dir:tag@" + hexDigest, "oci", "oci:dir:tag@" + hexDigest},
		{"oci:a@b", "oci", "oci:a@b"},
		{`oci:C:\dir:tag`, "oci", `oci:C:\dir:tag`},
		{"oci-archive:a/b.tar", "oci-archive", "oci-archive:a/b.tar"},
		{"oci-archive:b.tar:tag", "oci-archive", "oci-archive:b.tar:tag"},
		{"docker-archive:a/b.tar", "docker-archive", "docker-archive:a/b.tar"},
		{"docker-archive:b.tar:os", "docker-archive", "docker-archive:b.tar:docker.io/library/os:latest"},
		{"docker-archive:b.tar:quay.io/org/os:1", "docker-archive", "docker-archive:b.tar:quay.io/org/os:1"},
		{"docker-archive:b.tar:@2", "docker-archive", "docker-archive:b.tar:@2"},
		{`docker-archive:C:\b.tar`, "docker-archive", `docker-archive:C:\b.tar`},
		{"dir:a:b", "dir", "dir:a:b"},
		{"containers-storage:localhost/os", "containers-storage", "containers-storage:localhost/os:latest"},
		{"containers-storage:os:1@" + hexDigest, "containers-storage", "containers-storage:docker.io/library/os:1@" + hexDigest},
		{"containers-storage:@0123456789ab", "containers-storage", "containers-storage:@0123456789ab"},
		{"containers-storage:localhost/os:1@0123456789ab", "containers-storage", "containers-storage:localhost/os:1@0123456789ab"},
	} {
		ref, err := ParseReference(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if ref.Transport() != c.transport || ref.String() != c.str || ref.ImageRef() != c.str {
			t.Errorf("%s: %s %s, want %s %s", c.in, ref.Transport(), ref, c.transport, c.str)
		}
		if again, err := ParseReference(ref.String()); err != nil || again != ref {
			t.Errorf("%s: parses as %v, %v the second time", c.in, again, err)
		}
	}
	ref := mustParse(t, "oci:dir:tag")
	if ref.Name() != "dir:tag" || ref.Path() != "dir" || ref.Tag() != "tag" || ref.Registry() != "" {
		t.Errorf("parts of %v", ref)
	}
	// Where the store was is no part of what the installed system follows.
	ref = mustParse(t, "containers-storage:[vfs@/x+/y:a=b]localhost/os:1")
	if ref.ImageRef() != "containers-storage:localhost/os:1" || ref.String() != "containers-storage:[vfs@/x+/y:a=b]localhost/os:1" || ref.Registry() != "" {
		t.Errorf("parts of %v", ref)
	}
	ref = mustParse(t, "quay.io/org/os@"+hexDigest)
	if ref.Name() != "quay.io/org/os@"+hexDigest || ref.Path() != "org/os" || ref.Digest() != hexDigest || ref.Registry() != "quay.io" {
		t.Errorf("parts of %v", ref)
	}
}

func TestParseReferenceErrors(t *testing.T) {
	for _, in := range []string{
		"", ":", "UPPER", "a b", "quay.io/Org/os", "quay.io/os:", "quay.io/os:-x", "quay.io//os", "quay.io/os/",
		"docker:quay.io/os", "https://quay.io/os", "oci:", "oci::tag", "oci:dir:", "oci:dir:@0", "oci-archive:",
		"quay.io/os@sha256:1234", "quay.io/os@sha512:" + strings.Repeat("0", 128), "oci:dir@sha256:12", "-/os", "a..b/os",
		"docker://", "quay.io/" + strings.Repeat("a", 300), "os\x00", "quay.io/os:" + strings.Repeat("t", 129), strings.Repeat("a", 9000),
		"host:port/os", "ostree-unverified-registry:quay.io/os:1:2",
		"docker-archive:", "docker-archive:a:", "docker-archive:a:@", "docker-archive:a:@01", "docker-archive:a:@-1", "docker-archive:a:os@" + hexDigest,
		"dir:", "containers-storage:", "containers-storage:[vfs@/x]", "containers-storage:[]os", "containers-storage:[/x", "containers-storage:@xyz", "containers-storage:os@01",
	} {
		_, err := ParseReference(in)
		if fault.ClassOf(err) != fault.Usage {
			t.Errorf("%.60q: %v", in, err)
		}
	}
	for _, in := range []string{"docker-daemon:os:1", "ostree:x", "sif:x"} {
		_, err := ParseReference(in)
		name, _, _ := strings.Cut(in, ":")
		wantFault(t, err, fault.Unsupported, "transport "+name)
		if fault.HintOf(err) == "" {
			t.Errorf("%s: no hint", in)
		}
	}
}

func TestParseArch(t *testing.T) {
	for in, want := range map[string]string{
		"amd64": "amd64", "x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64", "ppc64le": "ppc64le",
		"powerpc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "riscv64gc": "riscv64",
	} {
		if got, err := ParseArch(in); got != want || err != nil {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	_, err := ParseArch("sparc")
	wantFault(t, err, fault.Usage, "sparc")
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"quay.io/org/os:1", "oci:dir:tag@" + hexDigest, "oci-archive:x", "[::1]:5000/os", `oci:C:\x:y`, "docker://a/b@" + hexDigest} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if c := fault.ClassOf(err); c != fault.Usage && c != fault.Unsupported {
				t.Fatalf("class %d: %v", c, err)
			}
			return
		}
		again, err := ParseReference(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q gives %q, which gives %+v, %v", s, ref.String(), again, err)
		}
	})
}
