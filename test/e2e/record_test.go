package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"imgbuild/test/image"
)

// statement is a record as its specifications have it.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string
	Subject       []resource
	Predicate     struct {
		BuildDefinition struct {
			ExternalParameters struct {
				Image string
				Flags []string
			}
			ResolvedDependencies []resource
		}
		RunDetails struct{ Byproducts []resource }
	}
}

type resource struct {
	Name, URI   string
	Digest      map[string]string
	Annotations map[string]string
}

func readStatement(t *testing.T, path string) (s statement) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// verify runs imgbuild verify and returns what became of it.
func verify(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, command(t, append([]string{"verify"}, args...)...))
}

// keyPair makes a key with OpenSSL.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	dir := t.TempDir()
	private, public = filepath.Join(dir, "key"), filepath.Join(dir, "key.pub")
	check(t, "openssl", "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
	check(t, "openssl", "openssl", "pkey", "-in", private, "-pubout", "-out", public)
	return private, public
}

// A record has the digests of all files of a build, those of the image, and is the
// same for the same build.
func TestRecord(t *testing.T) {
	layout := strings.TrimPrefix(writeImage(t, image.New()), "oci:")
	args := []string{"--record", "--target-arch", "amd64", "--no-cache", "--size", "min", "--containerdisk-format", "layout"}
	for _, typ := range []string{"raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "gce", "ova", "containerdisk"} {
		args = append(args, "--type", typ)
	}
	args = append(args, "oci:"+layout)
	dir, r := build(t, args...)
	name := "record-raw-qcow2-vmdk-vhd-vhdx-vdi-gce-ova-containerdisk.intoto.json"
	s := readStatement(t, filepath.Join(dir, name))
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("%+v", s)
	}
	if strings.Contains(r.stdout, "record") {
		t.Errorf("the record is among the results: %s", r.stdout)
	}
	var got, want []string
	for _, f := range slices.Concat(s.Subject, s.Predicate.RunDetails.Byproducts) {
		got = append(got, f.Digest["sha256"]+" "+f.Name)
	}
	for _, path := range files(t, dir) {
		if rel, _ := filepath.Rel(dir, path); rel != name {
			want = append(want, sum(t, path)+" "+filepath.ToSlash(rel))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("record has\n%s\nand the files are\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	kinds := map[string]int{}
	for _, d := range s.Predicate.BuildDefinition.ResolvedDependencies {
		kinds[d.Name]++
		if blob := filepath.Join(layout, "blobs/sha256", d.Digest["sha256"]); d.Name != "file" && sum(t, blob) != d.Digest["sha256"] {
			t.Errorf("%s is no blob of the image", d.Name)
		}
	}
	if kinds["manifest"] != 1 || kinds["config"] != 1 || kinds["layer"] != 1 {
		t.Errorf("dependencies %v", kinds)
	}
	again, _ := build(t, args...)
	if a, b := filepath.Join(dir, name), filepath.Join(again, name); sum(t, a) != sum(t, b) {
		t.Error("another build has another record")
	}
	if r := verify(t, "--record", filepath.Join(dir, name)); r.code != 0 || strings.Count(r.stdout, "\n") != len(want) {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if r := verify(t, "--record", filepath.Join(dir, name), filepath.Join(dir, "containerdisk/image")); r.code != 0 {
		t.Errorf("verify of a layout: exit %d\n%s", r.code, r.stderr)
	}
	writeAt(t, filepath.Join(dir, "containerdisk/image/index.json"), 3)
	if r := verify(t, "--record", filepath.Join(dir, name), filepath.Join(dir, "containerdisk/image")); r.code != 5 {
		t.Errorf("verify of a changed layout: exit %d\n%s", r.code, r.stderr)
	}
	if err := os.Remove(filepath.Join(again, "containerdisk/image/index.json")); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, "--record", filepath.Join(dir, name), filepath.Join(again, "containerdisk/image")); r.code != 5 {
		t.Errorf("verify of a layout without its index: exit %d\n%s", r.code, r.stderr)
	}
}

// writeAt flips a bit of a byte of a file.
func writeAt(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// verify tells what was changed from what was not, and by whom a record is signed.
func TestVerify(t *testing.T) {
	layout := strings.TrimPrefix(writeImage(t, image.New()), "oci:")
	private, public := keyPair(t)
	_, other := keyPair(t)
	common := []string{"--record", "--target-arch", "amd64", "--no-cache", "--size", "min", "--type", "raw", "--type", "qcow2"}
	dir, _ := build(t, append(common, "--sign-key", private, "oci:"+layout)...)
	plain, _ := build(t, append(common, "--karg", "quiet", "oci:"+layout)...)
	signed := filepath.Join(dir, "record-raw-qcow2.intoto.jsonl")
	unsigned := filepath.Join(plain, "record-raw-qcow2.intoto.json")
	raw, qcow2 := filepath.Join(dir, "image/disk.raw"), filepath.Join(dir, "qcow2/disk.qcow2")
	moved := filepath.Join(t.TempDir(), "elsewhere.img")
	if err := os.Link(raw, moved); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{raw, "--record", signed, "--key", public},
		{raw, qcow2, "--record", signed},
		{moved, "--record", signed, "--key", public},
		{"--record", signed, "--key", public},
		{filepath.Join(plain, "image/disk.raw"), "--record", unsigned},
	} {
		r := verify(t, args...)
		if r.code != 0 || !strings.Contains(r.stdout, " of oci:"+layout+"@sha256:") {
			t.Errorf("%v: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
		if warned := strings.Contains(r.stderr, "signature of the record was not checked"); warned == slices.Contains(args, "--key") {
			t.Errorf("%v: %s", args, r.stderr)
		}
	}
	changed := filepath.Join(t.TempDir(), "record-raw-qcow2.intoto.jsonl")
	text, err := os.ReadFile(signed)
	if err != nil {
		t.Fatal(err)
	}
	// Another character of the payload, which is base64.
	i := bytes.Index(text, []byte(`"payload":"`)) + 2000
	text[i] = map[bool]byte{true: 'A', false: 'B'}[text[i] != 'A']
	if err := os.WriteFile(changed, text, 0o666); err != nil {
		t.Fatal(err)
	}
	flipped := filepath.Join(t.TempDir(), "disk.qcow2")
	copyFile(t, qcow2, flipped)
	writeAt(t, flipped, 70000)
	for _, c := range []struct {
		want string
		code int
		args []string
	}{
		{"and the record has sha256:" + sum(t, qcow2) + " for qcow2/disk.qcow2", 5, []string{flipped, "--record", signed, "--key", public}},
		{"and the record has", 5, []string{raw, "--record", unsigned}},
		{"which the record does not have", 5, []string{signed, "--record", signed}},
		{"no signature by this key", 5, []string{raw, "--record", signed, "--key", other}},
		{"no signature by this key", 5, []string{raw, "--record", changed, "--key", public}},
		{"is not signed", 5, []string{raw, "--record", unsigned, "--key", public}},
		{"no such file", 3, []string{raw, "--record", filepath.Join(dir, "none")}},
		{"invalid JSON", 5, []string{raw, "--record", qcow2}},
		{"not in PEM", 2, []string{raw, "--record", signed, "--key", signed}},
		{"holds a PRIVATE KEY", 2, []string{raw, "--record", signed, "--key", private}},
		{"no record given", 2, []string{raw}},
		{"is about building once more", 2, []string{raw, "--record", signed, "--no-cache"}},
	} {
		r := verify(t, c.args...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
			t.Errorf("%v: exit %d, want %d and %s\n%s%s", c.args, r.code, c.code, c.want, r.stdout, r.stderr)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// A record is enough to build the same disk once more, with the files that it was
// built with, and says so when they are others.
func TestRebuild(t *testing.T) {
	layout := strings.TrimPrefix(writeImage(t, image.New()), "oci:")
	config := writeFile(t, "config.toml", "[customizations]\nhostname = \"one\"\n")
	other := writeFile(t, "config.toml", "[customizations]\nhostname = \"two\"\n")
	dir, _ := build(t, "--record", "--target-arch", "amd64", "--no-cache", "--size", "min", "--type", "qcow2", "--qcow2-compression", "zstd",
		"--karg", "a=b", "--karg=c", "--config", config, "oci:"+layout)
	record := filepath.Join(dir, "record-qcow2.intoto.json")
	disk := filepath.Join(dir, "qcow2/disk.qcow2")
	flags := readStatement(t, record).Predicate.BuildDefinition.ExternalParameters.Flags
	if want := []string{"--type=qcow2", "--target-arch=amd64", "--size=min", "--karg=a=b", "--karg=c", "--config=" + config, "--qcow2-compression=zstd"}; !slices.Equal(flags, want) {
		t.Errorf("flags %q, want %q", flags, want)
	}
	temp := t.TempDir()
	rebuild := func(args ...string) result {
		cmd := command(t, append([]string{"verify", disk, "--rebuild", "--no-cache"}, args...)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		r := run(t, cmd)
		if left := files(t, temp); len(left) > 0 {
			t.Errorf("%v: left behind: %v", args, left)
		}
		return r
	}
	if r := rebuild("--record", record); r.code != 0 || !strings.Contains(r.stdout, "built once more: the same") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	moved := filepath.Join(t.TempDir(), "moved.toml")
	if err := os.Rename(config, moved); err != nil {
		t.Fatal(err)
	}
	if r := rebuild("--record", record); r.code != 2 || !strings.Contains(r.stderr, config) {
		t.Errorf("without its config: exit %d\n%s", r.code, r.stderr)
	}
	if r := rebuild("--record", record, "--config", moved); r.code != 0 {
		t.Errorf("with its config elsewhere: exit %d\n%s", r.code, r.stderr)
	}
	if r := rebuild("--record", record, "--config", other); r.code != 5 || !strings.Contains(r.stderr, ": is not the file of the record") {
		t.Errorf("another config: exit %d\n%s", r.code, r.stderr)
	}
	if r := rebuild("--record", record, "--config", moved, "--config", other); r.code != 2 {
		t.Errorf("two configs: exit %d\n%s", r.code, r.stderr)
	}

	// A record that lies of its flags, and one that wants more than a build.
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	lie := writeFile(t, "lie.json", strings.Replace(string(text), "--karg=c", "--karg=d", 1))
	copyFile(t, moved, config)
	if r := rebuild("--record", lie); r.code != 5 || !strings.Contains(r.stderr, "rebuild: qcow2/disk.qcow2 has sha256:") {
		t.Errorf("another flag: exit %d\n%s", r.code, r.stderr)
	}
	target := filepath.Join(t.TempDir(), "written")
	evil := writeFile(t, "evil.json", strings.Replace(string(text), "--karg=c", "--output="+target, 1))
	if r := rebuild("--record", evil); r.code != 5 || !strings.Contains(r.stderr, "no flag that shapes a build") {
		t.Errorf("a flag of its own: exit %d\n%s", r.code, r.stderr)
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("a record says where to write")
	}
}

// A medium is built once more with its kickstart, wherever that is by now.
func TestRebuildISO(t *testing.T) {
	kickstart := writeFile(t, "site.ks", "network --hostname=one\n")
	dir, _ := build(t, "--record", "--target-arch", "amd64", "--no-cache", "--type", "iso", "--kickstart", kickstart, "oci:"+sample(t))
	record := filepath.Join(dir, "record-iso.intoto.json")
	moved := filepath.Join(t.TempDir(), "moved.ks")
	if err := os.Rename(kickstart, moved); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, "--record", record, "--rebuild", "--no-cache", "--kickstart", moved); r.code != 0 {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
	if r := verify(t, "--record", record, "--rebuild", "--no-cache", "--layout", moved); r.code != 2 || !strings.Contains(r.stderr, "--layout: the build had none") {
		t.Errorf("exit %d\n%s", r.code, r.stderr)
	}
}

// The image of a record is found by its digest when the tag is another one's.
func TestRebuildPinned(t *testing.T) {
	first := image.New()
	second := image.New()
	second.File(0, "usr/share/second", "second")
	layouts := []string{strings.TrimPrefix(writeImage(t, first), "oci:"), strings.TrimPrefix(writeImage(t, second), "oci:")}
	current := 0
	var digests []string
	for _, layout := range layouts {
		var index struct{ Manifests []struct{ Digest string } }
		text, err := os.ReadFile(filepath.Join(layout, "index.json"))
		if err == nil {
			err = json.Unmarshal(text, &index)
		}
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, strings.TrimPrefix(index.Manifests[0].Digest, "sha256:"))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, digest, _ := strings.Cut(r.URL.Path, "sha256:")
		if strings.HasSuffix(r.URL.Path, "/manifests/1") {
			digest = digests[current]
		}
		if slices.Contains(digests, digest) {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
		for _, layout := range layouts {
			if path := filepath.Join(layout, "blobs/sha256", filepath.Base("/"+digest)); digest != "" {
				if _, err := os.Stat(path); err == nil {
					http.ServeFile(w, r, path)
					return
				}
			}
		}
		if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	ref := strings.TrimPrefix(server.URL, "http://") + "/os:1"
	dir, _ := build(t, "--record", "--target-arch", "amd64", "--no-cache", "--size", "min", ref)
	record := filepath.Join(dir, "record-qcow2.intoto.json")
	current = 1
	if r := verify(t, "--record", record, "--rebuild", "--no-cache"); r.code != 0 || !strings.Contains(r.stdout, "docker://"+ref+"@sha256:"+digests[0]) {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
