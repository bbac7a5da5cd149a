package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"imgbuild/blueprints"
	"imgbuild/pipeline"
	"imgbuild/test/image"
	"imgbuild/upload/aws"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"imgbuild": main})
}

// The promises of the command line. A script starts with a synthetic image in
// the directory image; what it builds has no boot sector that would start.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "home", "cache"))
			return image.New().Write(filepath.Join(e.WorkDir, "image"))
		},
	})
}

func TestWithBuild(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "",
		"os:1":                        "build os:1",
		"build os:1":                  "build os:1",
		"plan os:1":                   "plan os:1",
		"--type raw os:1":             "build --type raw os:1",
		"--type=raw os:1":             "build --type=raw os:1",
		"--output plan os:1":          "build --output plan os:1",
		"-v plan os:1":                "-v plan os:1",
		"--log-level debug plan os:1": "--log-level debug plan os:1",
		"--no-cache os:1":             "build --no-cache os:1",
		"--tls-verify=false os:1":     "build --tls-verify=false os:1",
		"--local os:1":                "build --local os:1",
		"version":                     "version",
		"--version":                   "--version",
		"--help":                      "--help",
		"help build":                  "help build",
		"completion bash":             "completion bash",
		"--nonsense os:1":             "build --nonsense os:1",
		"-- os:1":                     "build -- os:1",
		"os:1 --type raw":             "build os:1 --type raw",
	} {
		root := newRoot(strings.NewReader(""), io.Discard, io.Discard)
		got := withBuild(root, strings.Fields(args))
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

// Every flag of bootc-image-builder is known, and every flag says what it does
// in the help or why it is not needed.
func TestFlags(t *testing.T) {
	f := &flags{}
	s := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.register(s)
	for _, name := range []string{"type", "rootfs", "target-arch", "build-container", "installer-payload-ref", "config",
		"use-librepo", "rpmmd", "local", "tls-verify", "seed", "in-vm", "no-default-kernel-args", "output", "store",
		"chown", "progress", "aws-ami-name", "aws-bucket", "aws-region"} {
		if s.Lookup(name) == nil {
			t.Errorf("no flag --%s", name)
		}
	}
	var silent []string
	for _, n := range needless() {
		silent = append(silent, n[0])
	}
	s.VisitAll(func(flag *pflag.Flag) {
		refused := flag.Name == "installer-payload-ref"
		if flag.Usage == "" && !slices.Contains(silent, flag.Name) && !refused {
			t.Errorf("--%s is accepted without a word", flag.Name)
		}
	})
}

// Of every flag of build it is decided whether it shapes the result, and so whether
// it is in the record of a build.
func TestFlagsOfRecords(t *testing.T) {
	build := newBuild()
	var all []string
	build.Flags().VisitAll(func(flag *pflag.Flag) {
		all = append(all, flag.Name)
		s, i := slices.Contains(shaping(), flag.Name), slices.Contains(incidental(), flag.Name) || strings.HasPrefix(flag.Name, "aws-")
		if s == i {
			t.Errorf("--%s must be in one of shaping and incidental (record.go): does it change a byte of the result?", flag.Name)
		}
	})
	for _, name := range shaping() {
		if !slices.Contains(all, name) {
			t.Errorf("build has no --%s", name)
		}
	}
}

// A config is read the same whatever the order of the types.
func TestMediumOf(t *testing.T) {
	for _, c := range []struct {
		types []pipeline.Type
		want  blueprints.Media
	}{
		{nil, ""},
		{[]pipeline.Type{pipeline.Raw}, ""},
		{[]pipeline.Type{pipeline.Raw, pipeline.LiveISO}, blueprints.Live},
		{[]pipeline.Type{pipeline.LiveISO, pipeline.PXE}, blueprints.OwnInstaller},
		{[]pipeline.Type{pipeline.PXE, pipeline.LiveISO}, blueprints.OwnInstaller},
	} {
		if got := mediumOf(c.types); got != c.want {
			t.Errorf("%v: %q, want %q", c.types, got, c.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine("a\nb\x1b[31m\tc"); got != "a b?[31m c" {
		t.Errorf("%q", got)
	}
}

// An interrupted build says so, whatever stage it was in.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	layout := filepath.Join(t.TempDir(), "image")
	if err := image.New().Write(layout); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	dir := t.TempDir()
	code := run(ctx, []string{"--no-cache", "--output", dir, "oci:" + layout}, strings.NewReader(""), io.Discard, &stderr)
	if code != 130 || !strings.Contains(stderr.String(), "imgbuild: interrupted") {
		t.Errorf("exit %d: %s", code, stderr.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Results of uploads, in the words that scripts for bootc-image-builder look for.
func TestResults(t *testing.T) {
	r := &results{
		Artefacts: []artefact{{"ami", "image/disk.raw"}},
		Uploads: []*aws.Result{{Provider: "aws", Account: "1", Region: "r", Name: "n", ImageID: "ami-1", SnapshotID: "snap-1",
			Copies: []aws.Copy{{Region: "q", ImageID: "ami-2", SnapshotID: "snap-2"}}}},
	}
	for format, want := range map[string]string{
		"text": "image/disk.raw\nAMI registered: ami-1\nSnapshot ID: snap-1\nAMI copied to q: ami-2\n",
		"json": `{"artefacts":[{"type":"ami","path":"image/disk.raw"}],"uploads":[{"provider":"aws","account":"1","region":"r","name":"n","image_id":"ami-1","snapshot_id":"snap-1","copies":[{"region":"q","image_id":"ami-2","snapshot_id":"snap-2"}]}]}`,
	} {
		var out strings.Builder
		if err := (&resultFlags{format: format}).print(&out, r); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		if format == "json" {
			var b bytes.Buffer
			if err := json.Compact(&b, []byte(got)); err != nil {
				t.Fatal(err)
			}
			got = strings.TrimSpace(b.String())
		}
		if got != want {
			t.Errorf("%s: %s", format, got)
		}
	}
}
