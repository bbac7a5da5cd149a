package containerdisk

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/formats/output"
	"imgbuild/formats/output/disktest"
	"imgbuild/formats/qcow2"
)

var testTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func encodeArchive(ctx context.Context, img *disk.Image, f *os.File, progress func(int64)) error {
	_, err := WriteArchive(ctx, img, f, Options{Arch: "amd64", Time: testTime, Progress: progress})
	return err
}

// pull copies an image by skopeo, which verifies all digests, to a directory, and
// returns the path of the layer.
func pull(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	disktest.Tool(t, "skopeo", "copy", "--insecure-policy", from, "dir:"+dir)
	var m struct {
		Layers []struct{ Digest, MediaType string }
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 1 {
		t.Fatalf("%d layers", len(m.Layers))
	}
	return filepath.Join(dir, strings.TrimPrefix(m.Layers[0].Digest, "sha256:"))
}

// checkLayer lets GNU tar list and unpack the layer, and compares its disk.
func checkLayer(t *testing.T, layer string, img *disk.Image) {
	t.Helper()
	dir := t.TempDir()
	out := disktest.Tool(t, "tar", "--numeric-owner", "-xvvf", layer, "-C", dir, "--no-same-permissions", "--mode", "u+rwX")
	var list [][]string
	for line := range strings.Lines(out) {
		list = append(list, strings.Fields(line))
	}
	if len(list) != 2 || list[0][0] != "dr-xr-xr-x" || list[0][5] != "disk/" || list[1][0] != "-r--r-----" || list[1][5] != "disk/disk.qcow2" {
		t.Fatalf("members: %q", list)
	}
	for _, m := range list {
		if m[1] != "107/107" || m[3] != "2024-05-06" || m[4] != "07:08" {
			t.Errorf("member %q", m)
		}
	}
	file := filepath.Join(dir, "disk/disk.qcow2")
	disktest.Tool(t, "chmod", "-R", "u+rwX", dir)
	disktest.Tool(t, "qemu-img", "check", "-f", "qcow2", file)
	disktest.Compare(t, disktest.Raw(t, img, 512), "qcow2", file)
}

func TestWrite(t *testing.T) {
	images := disktest.Images(t, 64<<10)
	for _, name := range []string{"one sector", "hole", "noise, odd", "1 GiB", "mixed"} {
		t.Run(name, func(t *testing.T) {
			archive := disktest.File(t, encodeArchive, images[name], "image.tar")
			checkLayer(t, pull(t, "oci-archive:"+archive), images[name])

			dir := t.TempDir()
			layout, err := WriteLayout(t.Context(), images[name], dir, Options{Arch: "arm64", Time: testTime, Compression: qcow2.Zstd})
			if err != nil {
				t.Fatal(err)
			}
			checkLayer(t, pull(t, "oci:"+dir), images[name])
			var config struct {
				Architecture, OS string
				Created          time.Time
				Config           struct{ Entrypoint, Labels any }
			}
			if err := json.Unmarshal([]byte(disktest.Tool(t, "skopeo", "inspect", "--config", "oci:"+dir)), &config); err != nil {
				t.Fatal(err)
			}
			if config.Architecture != "arm64" || config.OS != "linux" || !config.Created.Equal(testTime) {
				t.Errorf("config %+v", config)
			}
			if got := strings.TrimSpace(disktest.Tool(t, "skopeo", "inspect", "--format", "{{.Digest}}", "oci:"+dir)); got != digestOf(layout.Manifest) {
				t.Errorf("manifest %s, skopeo sees %s", digestOf(layout.Manifest), got)
			}
		})
	}
}

// TestLayoutIsArchive checks that both forms hold the same files.
func TestLayoutIsArchive(t *testing.T) {
	img := disktest.Mixed(t, 8, 3<<20)
	f := disktest.Create(t, "image.tar")
	opt := Options{Arch: "s390x", Time: testTime}
	a, err := WriteArchive(t.Context(), img, f, opt)
	if err != nil {
		t.Fatal(err)
	}
	dir, unpacked := t.TempDir(), t.TempDir()
	b, err := WriteLayout(t.Context(), img, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Manifest, b.Manifest) || !bytes.Equal(a.Config, b.Config) || a.Layer != b.Layer {
		t.Errorf("%+v\n%+v", a, b)
	}
	disktest.Tool(t, "tar", "-xf", f.Name(), "-C", unpacked)
	disktest.Tool(t, "diff", "-r", dir, unpacked)

	layer := make([]byte, a.Layer.Size)
	if _, err := f.ReadAt(layer, ArchiveOffset); err != nil {
		t.Fatal(err)
	}
	if digestOf(layer) != a.Layer.Digest {
		t.Error("the layer is not at ArchiveOffset")
	}
	if info, err := f.Stat(); err != nil || info.Size()%output.TarRecord != 0 {
		t.Errorf("archive of %d bytes, %v", info.Size(), err)
	}
}

func TestOptions(t *testing.T) {
	img := disktest.Image(t, 512)
	if _, err := WriteArchive(t.Context(), img, disktest.Create(t, "a"), Options{}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("no architecture: %v", err)
	}
	if _, err := WriteLayout(t.Context(), img, t.TempDir(), Options{}); fault.ClassOf(err) != fault.Usage {
		t.Errorf("no architecture: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "blobs"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := WriteLayout(t.Context(), img, full, Options{Arch: "amd64"}); fault.ClassOf(err) != fault.Output {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestContract(t *testing.T) {
	disktest.CheckDeterminism(t, encodeArchive)
	disktest.CheckProgress(t, encodeArchive, 64<<10)
	disktest.CheckErrors(t, encodeArchive)
	disktest.CheckCancel(t, encodeArchive, func(f *os.File) bool {
		return !output.IsZero(disktest.Head(t, f.Name(), output.TarBlock))
	})
	disktest.CheckRefused(t, encodeArchive, 1<<60)
}

func FuzzWrite(f *testing.F) {
	f.Add([]byte{1, 10, 2, 255, 4, 0, 0, 4, 255, 200}, uint16(100))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		img := disktest.FromInput(t, in, cut, 8<<16)
		checkLayer(t, pull(t, "oci-archive:"+disktest.File(t, encodeArchive, img, "image.tar")), img)
	})
}
