//go:build linux

package installed

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The SBOM of a real image lists what dpkg says is on the disk that was made of it.
func TestSBOM(t *testing.T) {
	needRoot(t)
	if os.Getenv("IMGBUILD_FIXTURES") == "" {
		t.Skip("the images are not part of this checkout; IMGBUILD_FIXTURES names their directory. test/e2e tests SBOMs of synthetic ones")
	}
	disk := rawDisk(t, filepath.Join(path(t, "IMGBUILD_FIXTURES", "."), "tiny"), "--sbom", "cyclonedx", "--target-imgref", "registry.example.com/tiny:1")
	m := mount(t, disk, 4, 3, "ro")
	deployments, err := filepath.Glob(filepath.Join(m.root, "ostree/deploy/default/deploy/*.0"))
	if err != nil || len(deployments) != 1 {
		t.Fatalf("deployments %v: %v", deployments, err)
	}
	admin := filepath.Join(deployments[0], "usr/lib/sysimage/dpkg")
	out := run(t, "dpkg-query", "--admindir", admin, "-W", "-f", "${db:Status-Status} ${Package} ${Version} ${Architecture}\n")
	var want []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "installed "); ok {
			want = append(want, rest)
		}
	}
	var bom struct {
		Components []struct {
			Name, Version, PURL string
			Properties          []struct{ Name, Value string }
		}
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(disk)), "sbom-raw.cdx.json"))
	if err == nil {
		err = json.Unmarshal(text, &bom)
	}
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range bom.Components {
		if c.PURL != "" {
			got = append(got, c.Name+" "+c.Version+" "+c.Properties[0].Value)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 50 || !slices.Equal(got, want) {
		t.Errorf("%d packages, and dpkg-query has %d:\n%s\nwant\n%s", len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
