package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/test/moto"
)

// server is the moto that all tests share, and each of them resets.
var server *moto.Process

func TestMain(m *testing.M) {
	code := m.Run()
	if server != nil {
		server.Stop()
	}
	os.Exit(code)
}

const home = "eu-central-1"

// newFront returns an AWS of its own, and an environment in which a client finds
// nothing else.
func newFront(t *testing.T) *moto.Front {
	t.Helper()
	if server == nil {
		var err error
		if server, err = moto.Start("../../.cache/moto"); err != nil {
			t.Fatal(err)
		}
	}
	moto.Setenv(t)
	return moto.NewFront(t, server)
}

// options are the least that an upload needs, with times that suit a test.
func options(f *moto.Front) Options {
	return Options{Name: "test image", Region: home, Endpoint: f.URL,
		tuning: tuning{answerTime: time.Minute, backoff: 20 * time.Millisecond, poll: 10 * time.Millisecond}}
}

// messages is a Progress that keeps what it is told.
type messages struct {
	mu          sync.Mutex
	stages      []string
	notes       []string
	total, done int64
}

func (m *messages) Stage(name string, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stages = append(m.stages, name)
	m.total += total
}

func (m *messages) Advance(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.done += n
}

func (m *messages) Note(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notes = append(m.notes, text)
}

func (m *messages) Warn(text string) { m.Note("warning: " + text) }

// upload checks and uploads.
func upload(t *testing.T, opt Options, d Disk) (*Result, error) {
	t.Helper()
	return uploadIn(t.Context(), opt, d, &messages{})
}

func uploadIn(ctx context.Context, opt Options, d Disk, p Progress) (*Result, error) {
	u, err := New(ctx, opt)
	if err != nil {
		return nil, err
	}
	if err := u.Check(ctx, d.Arch); err != nil {
		return nil, err
	}
	return u.Upload(ctx, d, p)
}

// newDisk is a disk of two GiB and a bit: data at both ends and between, blocks
// that hold a little, zeros that are written out, and a cut last block.
func newDisk(t *testing.T) Disk {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{7})
	noise := func(n int) content.Ref {
		b := make([]byte, n)
		_, _ = rng.Read(b)
		return content.Bytes(b)
	}
	const size = 2<<30 + 700<<10
	img, err := disk.New(size, []disk.Extent{
		{Off: 0, Data: noise(1 << 20)},
		{Off: 5 << 20, Data: content.Bytes(make([]byte, 3<<20))},
		{Off: 9<<20 + 5000, Data: noise(100)},
		{Off: 20<<20 - 10, Data: noise(20)},
		{Off: 1 << 30, Data: noise(30<<20 + 17)},
		{Off: size - 300, Data: noise(300)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Disk{Image: img, Arch: "amd64", UEFI: true, BIOS: true}
}

// smallDisk is one for tests that are not about content.
func smallDisk(t *testing.T) Disk {
	t.Helper()
	b := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(b)
	img, err := disk.New(20<<20, []disk.Extent{{Off: 1 << 20, Data: content.Bytes(b)}})
	if err != nil {
		t.Fatal(err)
	}
	return Disk{Image: img, Arch: "amd64", UEFI: true, BIOS: true}
}

// client returns clients of a region, to look at the account with.
func client(t *testing.T, f *moto.Front, region string) *Uploader {
	t.Helper()
	opt := options(f)
	opt.Region = region
	u, err := New(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// readBack compares the snapshot with the disk, through the API.
func readBack(t *testing.T, f *moto.Front, id string, img Image) {
	t.Helper()
	c := client(t, f, home).ebs
	list, err := c.ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	if err != nil {
		t.Fatal(err)
	}
	if want := (img.Size()-1)>>30 + 1; aws.ToInt64(list.VolumeSize) != want {
		t.Errorf("volume of %d GiB, want %d", aws.ToInt64(list.VolumeSize), want)
	}
	there := map[int64]bool{}
	got, want := make([]byte, blockSize), make([]byte, blockSize)
	for _, b := range list.Blocks {
		index := int64(*b.BlockIndex)
		there[index] = true
		block, err := c.GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: b.BlockIndex, BlockToken: b.BlockToken})
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadFull(block.BlockData, got)
		block.BlockData.Close()
		if err != nil {
			t.Fatalf("block %d: %v", index, err)
		}
		clear(want)
		if _, err := img.ReadAt(want, index*blockSize); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("block %d differs", index)
		}
		if isZero(want) {
			t.Errorf("block %d is zero, and was sent", index)
		}
	}
	// What is not there is zero.
	for off, n := range img.Data(blockSize) {
		for end := off + n; off < end; off += blockSize {
			clear(want)
			if _, err := img.ReadAt(want, off); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !there[off/blockSize] && !isZero(want) {
				t.Fatalf("block %d is missing", off/blockSize)
			}
		}
	}
}

func describe(t *testing.T, f *moto.Front, region, id string) types.Image {
	t.Helper()
	out, err := client(t, f, region).ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err != nil || len(out.Images) != 1 {
		t.Fatalf("image %s: %d, %v", id, len(out.Images), err)
	}
	return out.Images[0]
}

// left lists what is in the account in the regions: AMIs, snapshots, objects,
// unfinished objects and import tasks.
func left(t *testing.T, f *moto.Front, regions ...string) []string {
	t.Helper()
	list := f.Tasks()
	for _, region := range append([]string{home}, regions...) {
		u := client(t, f, region)
		images, err := u.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images.Images {
			list = append(list, *i.ImageId)
		}
		snapshots, err := u.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range snapshots.Snapshots {
			list = append(list, *s.SnapshotId)
		}
	}
	u := client(t, f, home)
	buckets, err := u.s3.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets.Buckets {
		objects, err := u.s3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: b.Name})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects.Contents {
			list = append(list, *o.Key)
		}
		uploads, err := u.s3.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: b.Name})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range uploads.Uploads {
			list = append(list, "parts of "+*o.Key)
		}
	}
	return list
}

// says checks an error: its class, and what the message and the hint say.
func says(t *testing.T, err error, class fault.Class, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error() + "\nhint: " + fault.HintOf(err)
	if fault.ClassOf(err) != class {
		t.Errorf("class %d, want %d: %s", fault.ClassOf(err), class, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in: %s", w, text)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(text, "RequestID") || strings.Contains(text, "operation error") || strings.Contains(text, "Encoded") {
		t.Errorf("not one clean line: %s", text)
	}
}

// refused checks an error, and that nothing is left in the account.
func refused(t *testing.T, f *moto.Front, err error, class fault.Class, words ...string) {
	t.Helper()
	says(t, err, class, words...)
	if l := left(t, f, "us-east-1", "us-west-2"); len(l) > 0 {
		t.Errorf("left behind: %s\nafter: %v", l, err)
	}
}

func tagsOf(list []types.Tag) map[string]string {
	m := map[string]string{}
	for _, t := range list {
		m[*t.Key] = *t.Value
	}
	return m
}

func makeBucket(t *testing.T, f *moto.Front, name, region string) {
	t.Helper()
	_, err := client(t, f, region).s3.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name,
		CreateBucketConfiguration: &s3types.CreateBucketConfiguration{LocationConstraint: s3types.BucketLocationConstraint(region)}})
	if err != nil {
		t.Fatal(err)
	}
}

// The blocks of the snapshot are those of the disk, and no more are sent.
func TestDirect(t *testing.T) {
	f := newFront(t)
	f.Polls = 3
	d := newDisk(t)
	p := &messages{}
	opt := options(f)
	result, err := uploadIn(t.Context(), opt, d, p)
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, f, result.SnapshotID, d.Image)
	if p.done != p.total || p.total == 0 {
		t.Errorf("progress: %d of %d bytes", p.done, p.total)
	}
	if n := len(f.Requests("ebs:PutSnapshotBlock")); n != 2+1+2+61+1 {
		t.Errorf("%d blocks sent", n)
	}
	image := describe(t, f, home, result.ImageID)
	if *image.Name != opt.Name || image.State != types.ImageStateAvailable && image.State != types.ImageStatePending ||
		image.BootMode != types.BootModeValuesUefiPreferred || image.Architecture != types.ArchitectureValuesX8664 ||
		!aws.ToBool(image.EnaSupport) || image.ImdsSupport != types.ImdsSupportValuesV20 || image.TpmSupport != "" ||
		aws.ToString(image.RootDeviceName) != "/dev/sda1" || image.VirtualizationType != types.VirtualizationTypeHvm {
		t.Errorf("%+v", image)
	}
	if m := image.BlockDeviceMappings; len(m) != 1 || *m[0].Ebs.SnapshotId != result.SnapshotID || m[0].Ebs.VolumeType != types.VolumeTypeGp3 ||
		!aws.ToBool(m[0].Ebs.DeleteOnTermination) || *m[0].DeviceName != "/dev/sda1" {
		t.Errorf("mappings %+v", m)
	}
	if got := tagsOf(image.Tags); !maps.Equal(got, map[string]string{"Name": opt.Name}) {
		t.Errorf("tags %v", got)
	}
	if got := f.Requests("sts:GetCallerIdentity"); len(got) != 1 {
		t.Errorf("%d questions about credentials", len(got))
	}
	if want := (Result{Provider: "aws", Account: "123456789012", Region: home, Name: opt.Name, ImageID: result.ImageID, SnapshotID: result.SnapshotID}); fmt.Sprint(*result) != fmt.Sprint(want) {
		t.Errorf("%+v", result)
	}
}

// Every option reaches AWS.
func TestOptions(t *testing.T) {
	f := newFront(t)
	f.Polls = 2
	opt := options(f)
	opt.Description, opt.TPM, opt.KMSKey = "what it is", true, "mrk-0123456789abcdef0123456789abcdef"
	opt.Tags = []Tag{{"team", "os"}, {"Name", "other name"}}
	opt.Share = []string{"210987654321", "111122223333"}
	opt.CopyTo = []string{"us-east-1", "ap-south-1"}
	opt.DeprecateAt = time.Date(2031, 2, 3, 4, 5, 0, 0, time.UTC)
	result, err := upload(t, opt, smallDisk(t))
	if err != nil {
		t.Fatal(err)
	}
	start := f.Requests("ebs:StartSnapshot")
	if len(start) != 1 || !strings.Contains(string(start[0].Body), `"KmsKeyArn":"arn:aws:kms:eu-central-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef"`) ||
		!strings.Contains(string(start[0].Body), `"Encrypted":true`) {
		t.Errorf("start %+v", start)
	}
	if len(result.Copies) != 2 {
		t.Fatalf("copies %+v", result.Copies)
	}
	tags := map[string]string{"Name": "other name", "team": "os"}
	all := append([]Copy{{home, result.ImageID, result.SnapshotID}}, result.Copies...)
	for _, c := range all {
		image := describe(t, f, c.Region, c.ImageID)
		if c.SnapshotID == "" || aws.ToString(image.Description) != "what it is" || image.State != types.ImageStateAvailable ||
			!strings.HasPrefix(aws.ToString(image.DeprecationTime), "2031-02-03T04:05:00") || *image.Name != opt.Name {
			t.Errorf("%s: %+v", c.Region, image)
		}
		if got := tagsOf(image.Tags); !maps.Equal(got, tags) {
			t.Errorf("%s: tags of the image %v", c.Region, got)
		}
		u := client(t, f, c.Region)
		s, err := u.ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{c.SnapshotID}})
		if err != nil {
			t.Fatal(err)
		}
		got := tagsOf(s.Snapshots[0].Tags)
		delete(got, diskTag)
		if !maps.Equal(got, tags) {
			t.Errorf("%s: tags of the snapshot %v", c.Region, got)
		}
		launch, err := u.ec2.DescribeImageAttribute(t.Context(), &ec2.DescribeImageAttributeInput{ImageId: &c.ImageID, Attribute: types.ImageAttributeNameLaunchPermission})
		if err != nil {
			t.Fatal(err)
		}
		var who []string
		for _, p := range launch.LaunchPermissions {
			who = append(who, aws.ToString(p.UserId))
		}
		if !slices.Equal(who, opt.Share) {
			t.Errorf("%s: image shared with %v", c.Region, who)
		}
		volume, err := u.ec2.DescribeSnapshotAttribute(t.Context(), &ec2.DescribeSnapshotAttributeInput{SnapshotId: &c.SnapshotID, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
		if err != nil {
			t.Fatal(err)
		}
		who = nil
		for _, p := range volume.CreateVolumePermissions {
			who = append(who, aws.ToString(p.UserId))
		}
		slices.Sort(who)
		if !slices.Equal(who, slices.Sorted(slices.Values(opt.Share))) {
			t.Errorf("%s: snapshot shared with %v", c.Region, who)
		}
	}
	if image := describe(t, f, home, result.ImageID); image.TpmSupport != types.TpmSupportValuesV20 || image.BootMode != types.BootModeValuesUefi {
		t.Errorf("TPM %q, boot mode %q", image.TpmSupport, image.BootMode)
	}
	for _, r := range f.Requests("ec2:CopyImage") {
		if r.Form.Get("Encrypted") != "true" || r.Form.Get("KmsKeyId") != opt.KMSKey {
			t.Errorf("copy %v", r.Form)
		}
	}
}

// The checksum of a snapshot, by hand.
func TestLinear(t *testing.T) {
	a, b := sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))
	if got := linear(sums{7: b, 3: a}); got != "5aAf7hTg7VxIcU8iGA8lrYNltT+XefedxKPX6Tlj+Uo=" {
		t.Error(got)
	}
}

// Every action that an upload asks for is in the documentation's list.
func TestPolicy(t *testing.T) {
	text, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(t)
	makeBucket(t, f, "images", home)
	setUp := len(f.Log())
	for _, bucket := range []string{"", "images"} {
		opt := options(f)
		opt.Name, opt.Bucket = "image "+bucket, bucket
		opt.Share, opt.CopyTo, opt.DeprecateAt = []string{"210987654321"}, []string{"us-east-1"}, time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
		if _, err := upload(t, opt, smallDisk(t)); err != nil {
			t.Fatal(err)
		}
		opt.Name += " again"
		f.Break(moto.Fault{Action: "ec2:EnableImageDeprecation", When: real, Times: 1, Code: "UnauthorizedOperation", Status: 403})
		if _, err := upload(t, opt, smallDisk(t)); err == nil {
			t.Fatal("no error")
		}
	}
	asked := map[string]bool{}
	for _, line := range f.Log()[setUp:] {
		asked[strings.Fields(line)[1]] = true
	}
	delete(asked, "sts:GetCallerIdentity") // needs no permission
	for name := range asked {
		if service, op, _ := strings.Cut(name, ":"); !strings.Contains(string(text), "`"+action(&smithy.OperationError{ServiceID: service, OperationName: op}, "")+"`") {
			t.Errorf("%s is not in docs/aws.md", name)
		}
	}
	if len(asked) < 20 {
		t.Errorf("asked %v", slices.Sorted(maps.Keys(asked)))
	}
}
