package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/test/image"
)

// recorder keeps the warnings of a build.
type recorder struct {
	Silent
	warnings []string
}

func (r *recorder) Warn(text string) { r.warnings = append(r.warnings, text) }

// planOf returns the plan of an image with a config file.
func planOf(t *testing.T, s *image.Spec, config string, co blueprints.Options) (*Plan, []string, error) {
	t.Helper()
	o := Options{Image: reference(t, "oci:"+written(t, s)), Arch: "amd64", NoCache: true, TempDir: t.TempDir(), Target: "registry.example.com/os:1"}
	if config != "" {
		c, err := blueprints.Load([]blueprints.Source{{Name: "c.toml", Text: []byte(config)}}, co)
		if err != nil {
			t.Fatal(err)
		}
		o.Config = c
	}
	r := &recorder{}
	p, err := MakePlan(context.Background(), o, r)
	return p, r.warnings, err
}

// withAccounts is an image that users can be added to.
func withAccounts() *image.Spec {
	s := image.New()
	s.File(0, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	s.File(0, "etc/group", "root:x:0:\n")
	s.File(0, "etc/shadow", "root:*:19000:0:99999:7:::\n")
	s.File(0, "etc/gshadow", "root:*::\n")
	return s
}

func TestSameDistro(t *testing.T) {
	for _, tc := range []struct {
		name, id, version string
		want              bool
	}{
		{"fedora-43", "fedora", "43", true}, {"fedora-42", "fedora", "43", false}, {"fedora", "fedora", "43", true},
		{"rhel-9.6", "rhel", "9.6", true}, {"rhel-96", "rhel", "9.6", true}, {"rhel-9", "rhel", "9.6", true}, {"rhel-9.4", "rhel", "9.6", false},
		{"centos-10", "centos", "10", true}, {"centos-1", "centos", "10", false}, {"debian", "debian", "", true},
		{"opensuse-leap-16.0", "opensuse-leap", "16.0", true}, {"CentOS-10", "centos", "10", true},
	} {
		if got := sameDistro(tc.name, tc.id, tc.version); got != tc.want {
			t.Errorf("%s for %s %s: %v", tc.name, tc.id, tc.version, got)
		}
	}
}

// What the image cannot do is left out on demand, and the rest is done.
func TestIgnoreUnsupported(t *testing.T) {
	const config = "distro='fedora-43'\n[customizations.timezone]\ntimezone='Europe/Berlin'\n[customizations.firewall]\nports=['80:tcp']\n[customizations]\nhostname='h'\n[customizations.kernel]\nappend='x=1'"
	_, _, err := planOf(t, withAccounts(), config, blueprints.Options{})
	var r *blueprints.Report
	if !errors.As(err, &r) || fault.ClassOf(err) != fault.Unsupported {
		t.Fatal(err)
	}
	p, warnings, err := planOf(t, withAccounts(), config, blueprints.Options{IgnoreUnsupported: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range p.Config.Ignored {
		path, _, _ := strings.Cut(strings.TrimPrefix(w, "ignored: c.toml:"), ": not")
		got = append(got, path)
		if !slices.Contains(warnings, w) {
			t.Errorf("no warning at once: %s", w)
		}
	}
	if len(got) != 3 || !slices.Equal(p.Config.Applied, []string{"customizations.hostname", "customizations.kernel"}) || !slices.Contains(p.Kargs, "x=1") {
		t.Errorf("ignored %q, applied %q, %q", got, p.Config.Applied, p.Kargs)
	}
}

// Where /etc of the deployment is not seen, what would be in it is refused by name.
func TestTransientEtc(t *testing.T) {
	s := withAccounts()
	s.Remove("usr/lib/ostree")
	s.File(0, "usr/lib/ostree/prepare-root.conf", "[composefs]\nenabled = true\n[etc]\ntransient = true\n")
	_, _, err := planOf(t, s, "[customizations]\nhostname='h'\n[[customizations.group]]\nname='g'\n[customizations.kernel]\nappend='x'", blueprints.Options{})
	details := strings.Join(fault.DetailsOf(err), "\n")
	if fault.ClassOf(err) != fault.Unsupported || !strings.Contains(details, "c.toml:2:1: customizations.hostname: cannot take effect") ||
		!strings.Contains(details, "customizations.group: cannot take effect") || strings.Contains(details, "kernel") {
		t.Errorf("%v\n%s", err, details)
	}
	if _, _, err := planOf(t, s, "[customizations.kernel]\nappend='x'", blueprints.Options{}); err != nil {
		t.Error(err)
	}
}

// An image with a unified kernel image is refused; what of the config could not take
// effect is named.
func TestUnifiedKernel(t *testing.T) {
	s := withAccounts()
	s.Dir(0, "boot/EFI")
	s.Dir(0, "boot/EFI/Linux")
	s.File(0, "boot/EFI/Linux/os.efi", "MZ")
	_, _, err := planOf(t, s, "[customizations]\nhostname='h'\n[customizations.kernel]\nappend='x'", blueprints.Options{})
	if err == nil || !strings.Contains(err.Error(), "customizations.hostname, customizations.kernel could not take effect") || fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("%v", err)
	}
	if _, _, err := planOf(t, s, "", blueprints.Options{}); err == nil || strings.Contains(err.Error(), "take effect") {
		t.Errorf("%v", err)
	}
}

// A config file in the image counts for the file systems only, and only where the
// user says nothing of them; the first place wins.
func TestEmbeddedConfig(t *testing.T) {
	s := withAccounts()
	s.Dir(0, "usr/lib/bootc-image-builder")
	s.File(0, "usr/lib/bootc-image-builder/config.toml", "[customizations]\nhostname='h'\n[[customizations.filesystem]]\nmountpoint='/'\nminsize='12 GiB'\n")
	size := func(p *Plan) int64 {
		last := p.Disk.Partitions[len(p.Disk.Partitions)-1]
		return last.Size
	}
	p, _, err := planOf(t, s, "", blueprints.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if size(p) < 12<<30 || len(p.Config.Warnings) != 1 || !strings.Contains(p.Config.Warnings[0], "/usr/lib/bootc-image-builder/config.toml: of a config file in the image only filesystem and disk are applied, not customizations.hostname") {
		t.Errorf("root of %d bytes, warnings %q", size(p), p.Config.Warnings)
	}
	own, _, err := planOf(t, s, "[[customizations.filesystem]]\nmountpoint='/'\nminsize='11 GiB'", blueprints.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := size(own); n < 11<<30 || n >= 12<<30 {
		t.Errorf("root of %d bytes in spite of the user's config", n)
	}
	s.Dir(0, "usr/lib/image-builder")
	s.Dir(0, "usr/lib/image-builder/bootc")
	s.File(0, "usr/lib/image-builder/bootc/config.json", `{"customizations":{"filesystem":[{"mountpoint":"/","minsize":"13 GiB"}]}}`)
	p, _, err = planOf(t, s, "", blueprints.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if size(p) < 13<<30 || !slices.Equal(p.Config.Files, []string{"/usr/lib/image-builder/bootc/config.json"}) {
		t.Errorf("root of %d bytes, by %q", size(p), p.Config.Files)
	}
}

// inspect says what a config would be refused for.
func TestInspectConfig(t *testing.T) {
	c, err := blueprints.Load([]blueprints.Source{{Name: "c.toml", Text: []byte("architecture='s390x'")}}, blueprints.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Image: reference(t, "oci:"+written(t, image.New())), Arch: "amd64", NoCache: true, TempDir: t.TempDir(), Config: c}
	in, err := Inspect(context.Background(), o, true, Silent{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(in.Refused, func(r Refusal) bool {
		return r.Code == int(fault.Config) && r.Reason == "c.toml:1:1: architecture: s390x, and the image is for amd64"
	}) {
		t.Errorf("%+v", in.Refused)
	}
}
