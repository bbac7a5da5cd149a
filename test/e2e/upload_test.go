package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"imgbuild/test/moto"
)

// region is where the AMIs go.
const region = "eu-central-1"

// cloud starts an AWS, in an environment in which nothing else is found.
func cloud(t *testing.T) *moto.Front {
	t.Helper()
	p, err := moto.Start("../../.cache/moto")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	moto.Setenv(t)
	return moto.NewFront(t, p)
}

// uploads are the results in JSON.
type uploads struct {
	Artefacts []struct{ Type, Path string }
	Uploads   []struct {
		Provider, Region string
		ImageID          string `json:"image_id"`
		SnapshotID       string `json:"snapshot_id"`
	}
}

func readUploads(t *testing.T, stdout string) uploads {
	t.Helper()
	var u uploads
	if err := json.Unmarshal([]byte(stdout), &u); err != nil || len(u.Uploads) != 1 || u.Uploads[0].Provider != "aws" || u.Uploads[0].Region != region {
		t.Fatalf("%v: %s", err, stdout)
	}
	return u
}

// sameSnapshot compares a snapshot with a raw disk, through the API.
func sameSnapshot(t *testing.T, f *moto.Front, id, raw string) {
	t.Helper()
	const blockSize = 512 << 10
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(region), config.WithBaseEndpoint(f.URL))
	if err != nil {
		t.Fatal(err)
	}
	c := ebs.NewFromConfig(cfg)
	list, err := c.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if size := aws.ToInt64(list.VolumeSize) << 30; size != info.Size() {
		t.Fatalf("a volume of %d bytes, and a disk of %d", size, info.Size())
	}
	blocks := map[int64]*string{}
	for _, b := range list.Blocks {
		blocks[int64(*b.BlockIndex)] = b.BlockToken
	}
	want, got, zero := make([]byte, blockSize), make([]byte, blockSize), make([]byte, blockSize)
	for index := range info.Size() / blockSize {
		if _, err := file.ReadAt(want, index*blockSize); err != nil {
			t.Fatal(err)
		}
		token, ok := blocks[index]
		if ok == bytes.Equal(want, zero) {
			t.Fatalf("block %d: in the snapshot %v", index, ok)
		}
		if !ok {
			continue
		}
		block, err := c.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: aws.Int32(int32(index)), BlockToken: token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadFull(block.BlockData, got)
		block.BlockData.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("block %d differs: %v", index, err)
		}
	}
}

// A build that writes no file, and the upload of a qcow2 file, make the snapshot of the
// disk that a build of a raw one writes; nothing is written to disk, and memory
// does not grow with it.
func TestUpload(t *testing.T) {
	f := cloud(t)
	cache := t.TempDir()
	dir, plain := build(t, "--type", "raw", "--type", "qcow2", "--size", "3 GiB", "--cache", cache, "oci:"+sample(t))
	raw, qcow2 := filepath.Join(dir, "image/disk.raw"), filepath.Join(dir, "qcow2/disk.qcow2")

	flags := []string{"--aws-endpoint-url", f.URL, "--aws-region", region, "--format", "json"}
	dir, r := build(t, append([]string{"--type", "ami", "--size", "3 GiB", "--cache", cache, "--no-output", "--aws-ami-name", "built", "oci:" + sample(t)}, flags...)...)
	u := readUploads(t, r.stdout)
	if left := files(t, dir); len(left) > 0 || len(u.Artefacts) > 0 {
		t.Errorf("written: %v, %v", left, u.Artefacts)
	}
	sameSnapshot(t, f, u.Uploads[0].SnapshotID, raw)
	// 64 blocks of 512 KiB, the buffers of as many connections, and the SDK.
	if more := r.maxRSS - plain.maxRSS; more > 150<<10 {
		t.Errorf("%d MiB more than a build takes", more>>10)
	}

	r = run(t, command(t, append([]string{"upload", qcow2, "--to", "aws", "--cache", cache, "--aws-ami-name", "uploaded"}, flags...)...))
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	sameSnapshot(t, f, readUploads(t, r.stdout).Uploads[0].SnapshotID, raw)
	images := f.Requests("ec2:RegisterImage")
	if len(images) != 2 || fmt.Sprint(images[0].Form["BootMode"], images[0].Form["Architecture"]) != "[uefi-preferred] [x86_64]" ||
		fmt.Sprint(images[1].Form["BootMode"], images[1].Form["Architecture"]) != "[uefi-preferred] [x86_64]" {
		t.Errorf("registered %+v", images)
	}
	if left := files(t, filepath.Join(cache, "aws")); len(left) > 0 {
		t.Errorf("journals: %v", left)
	}

	// bootc-image-builder's words, and a name that is taken.
	small := []string{"upload", raw, "--to", "aws", "--cache", cache, "--aws-endpoint-url", f.URL, "--aws-region", region, "--aws-ami-name", "uploaded"}
	if r = run(t, command(t, small...)); r.code != 10 || !strings.HasPrefix(r.stderr, `imgbuild: AMI name "uploaded": is taken by ami-`) {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// An upload that fails leaves the file, says where, and has an exit code of its
// own; what is known beforehand is said before the build.
func TestUploadFails(t *testing.T) {
	f := cloud(t)
	args := []string{"--type", "ami", "--size", "3 GiB", "--no-cache", "--aws-endpoint-url", f.URL, "--aws-region", region, "--aws-ami-name", "os-1", "oci:" + sample(t)}
	f.Break(moto.Fault{Action: "ec2:RegisterImage", When: func(r moto.Request) bool { return !r.DryRun }, Times: 1, Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized to perform this operation."})
	dir := t.TempDir()
	r := run(t, command(t, append([]string{"--output", dir}, args...)...))
	raw := filepath.Join(dir, "image/disk.raw")
	if r.code != 10 || !strings.Contains(r.stderr, "imgbuild: register image os-1: UnauthorizedOperation: You are not authorized") ||
		!strings.Contains(r.stderr, "allow ec2:RegisterImage to ") || !strings.Contains(r.stderr, raw+" is complete, and stays") || r.stdout != "" {
		t.Errorf("exit %d, stdout %q: %s", r.code, r.stdout, r.stderr)
	}
	check(t, "sgdisk", "gdisk", "-v", raw)
	if n := len(f.Requests("ec2:DeleteSnapshot")); n != 1 {
		t.Errorf("%d snapshots deleted", n)
	}

	f.Deny("sts:GetCallerIdentity")
	dir = t.TempDir()
	r = run(t, command(t, append([]string{"--output", dir}, args...)...))
	if left := files(t, dir); r.code != 10 || len(left) > 0 {
		t.Errorf("exit %d, %v: %s", r.code, left, r.stderr)
	}
}

// Ctrl-C in the middle of an upload removes the snapshot and keeps the file.
func TestUploadInterrupted(t *testing.T) {
	f := cloud(t)
	dir := t.TempDir()
	cmd := command(t, "--output", dir, "--type", "ami", "--size", "3 GiB", "--no-cache", "--aws-endpoint-url", f.URL, "--aws-region", region, "--aws-ami-name", "os-1", "oci:"+sample(t))
	// Once: many blocks are on their way, and a second Ctrl-C kills the program.
	var interrupt sync.Once
	f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", When: func(moto.Request) bool {
		interrupt.Do(func() { _ = cmd.Process.Signal(syscall.SIGINT) })
		return true
	}, Delay: time.Second})
	r := run(t, cmd)
	if r.code != 130 || !strings.Contains(r.stderr, "imgbuild: upload interrupted\n") || !strings.Contains(r.stderr, "image/disk.raw is complete, and stays") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if n := len(f.Requests("ec2:DeleteSnapshot")); n != 1 {
		t.Errorf("%d snapshots deleted", n)
	}
	if _, err := os.Stat(filepath.Join(dir, "image/disk.raw")); err != nil {
		t.Error(err)
	}
}

// With a bucket the disk goes by S3, as scripts for bootc-image-builder want it;
// the tests of upload/aws go all the way.
func TestUploadS3(t *testing.T) {
	f := cloud(t)
	makeBucket(t, f, "images")
	f.Break(moto.Fault{Action: "s3:CreateMultipartUpload", When: func(r moto.Request) bool { return !strings.Contains(r.Path, "imgbuild-check") },
		Code: "AccessDenied", Status: 403, Text: "Access Denied"})
	dir := t.TempDir()
	r := run(t, command(t, "--output", dir, "--type", "ami", "--size", "3 GiB", "--no-cache", "--aws-endpoint-url", f.URL,
		"--aws-ami-name", "os-1", "--aws-bucket", "images", "--aws-region", region, "oci:"+sample(t)))
	if r.code != 10 || !strings.Contains(r.stderr, "imgbuild: upload to s3://images/") || !strings.Contains(r.stderr, "-os-1: AccessDenied: Access Denied\nhint: allow s3:PutObject to ") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if len(f.Requests("ebs:StartSnapshot")) > 0 || len(files(t, dir)) != 2 {
		t.Errorf("%v, %v", f.Log(), files(t, dir))
	}
}

// makeBucket makes a bucket in the region.
func makeBucket(t *testing.T, f *moto.Front, name string) {
	t.Helper()
	req, err := http.NewRequest("PUT", f.URL+"/"+name, strings.NewReader("<CreateBucketConfiguration><LocationConstraint>"+region+"</LocationConstraint></CreateBucketConfiguration>"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/"+region+"/s3/aws4_request, SignedHeaders=host, Signature=x")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

// The program stays small while no part of it asks for methods by name: the AWS
// SDK has thousands.
func TestSize(t *testing.T) {
	info, err := os.Stat(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if size := info.Size(); size > 32<<20 {
		t.Errorf("%d MiB: go build -ldflags=-dumpdep ./cmd/imgbuild 2>&1 | grep ReflectMethod tells why", size>>20)
	}
}
