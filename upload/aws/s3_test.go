package aws

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/test/moto"
)

func viaS3(f *moto.Front) Options {
	opt := options(f)
	opt.Bucket = "images"
	return opt
}

// partDisk has more than two parts.
func partDisk(t *testing.T) Disk {
	t.Helper()
	d := smallDisk(t)
	img, err := disk.New(2*partSize+partSize/2, append(d.Image.(*disk.Image).Extents(), disk.Extent{Off: 2*partSize + 100, Data: content.String("end")}))
	if err != nil {
		t.Fatal(err)
	}
	d.Image = img
	return d
}

// The disk goes to the bucket in parts, is imported, and leaves the bucket.
// ImportSnapshot, DescribeImportSnapshotTasks and EnableImageDeprecation are those
// of the front, which makes moto's snapshot of moto's object.
func TestS3(t *testing.T) {
	f := newFront(t)
	f.Polls, f.Roles = 3, "importer"
	makeBucket(t, f, "images", home)
	d := partDisk(t)
	opt := viaS3(f)
	opt.Role, opt.KMSKey, opt.Tags = "importer", "alias/images", []Tag{{"team", "os"}}
	p := &messages{}
	result, err := uploadIn(t.Context(), opt, d, p)
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, f, result.SnapshotID, d.Image)
	if n := len(f.Requests("s3:UploadPart")); n != 3 {
		t.Errorf("%d parts", n)
	}
	if p.done != p.total || p.total != 2*d.Image.Size() {
		t.Errorf("progress: %d of %d bytes", p.done, p.total)
	}
	if len(p.notes) == 0 || !strings.Contains(strings.Join(p.notes, "\n"), "downloading/converting") {
		t.Errorf("notes %q", p.notes)
	}
	in := f.Requests("ec2:ImportSnapshot")[0].Form
	if key := in.Get("DiskContainer.UserBucket.S3Key"); !strings.HasSuffix(key, "-"+opt.Name) || in.Get("DiskContainer.UserBucket.S3Bucket") != "images" ||
		in.Get("DiskContainer.Format") != "raw" || in.Get("RoleName") != "importer" || in.Get("Encrypted") != "true" || in.Get("KmsKeyId") != "alias/images" {
		t.Errorf("import %v", in)
	}
	s, err := client(t, f, home).ec2.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{result.SnapshotID}})
	if err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(s.Snapshots[0].Tags); !maps.Equal(got, map[string]string{"Name": opt.Name, "team": "os"}) {
		t.Errorf("tags %v", got)
	}
	// No object, no unfinished one, no task: only the snapshot and the AMI.
	if l := left(t, f); len(l) != 2 {
		t.Errorf("left: %v", l)
	}
}

// What S3 and VM Import refuse or break is said, and removed.
func TestS3Failures(t *testing.T) {
	const import2 = "ec2:ImportSnapshot"
	for _, c := range []struct {
		name  string
		set   func(f *moto.Front, o *Options)
		words []string
		early bool // found out before the build
	}{
		{"no bucket", func(f *moto.Front, o *Options) { o.Bucket = "nowhere" }, []string{"bucket nowhere: there is none"}, true},
		{"bucket of another region", func(f *moto.Front, o *Options) { o.Bucket = "far" }, []string{"bucket far: is in us-west-2", "--aws-region us-west-2"}, true},
		{"bucket that cannot be written to", func(f *moto.Front, o *Options) { f.Deny("s3:CreateMultipartUpload") },
			[]string{"bucket images: AccessDenied", "allow s3:PutObject to arn:aws:"}, true},
		{"no bucket, and no right to ask", func(f *moto.Front, o *Options) {
			o.Bucket = "nowhere"
			f.Deny("s3:HeadBucket")
		}, []string{"bucket nowhere: there is none", "create it"}, true},
		{"no right to ask about imports", func(f *moto.Front, o *Options) { f.Deny("ec2:DescribeImportSnapshotTasks") },
			[]string{"describe import tasks: UnauthorizedOperation", "allow ec2:DescribeImportSnapshotTasks to"}, true},
		{"bucket that cannot be listed", func(f *moto.Front, o *Options) {
			f.Deny("s3:HeadBucket")
			f.Deny("s3:UploadPart")
		}, []string{"part ", "of s3://images/", "AccessDenied", "allow s3:PutObject"}, false},
		{"no import", func(f *moto.Front, o *Options) { f.Deny(import2) }, []string{"import snapshot: UnauthorizedOperation", "allow ec2:ImportSnapshot to"}, true},
		{"no such role", func(f *moto.Front, o *Options) { o.Role = "nobody" }, []string{"import snapshot: InvalidParameter", "service role nobody", "vmimport"}, false},
		{"import fails", func(f *moto.Front, o *Options) { f.FailImport("ClientError: Unsupported file system") },
			[]string{"import task import-snap-", "ClientError: Unsupported file system", "--aws-upload ebs"}, false},
		{"import loses its role", func(f *moto.Front, o *Options) { f.FailImport("The service role vmimport lacks permissions") },
			[]string{"vmimport", "--aws-role-name"}, false},
		{"tags denied late", func(f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ec2:CreateTags", When: func(r moto.Request) bool { return !r.DryRun }, Code: "UnauthorizedOperation", Status: 403,
				Text: "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/u is not authorized to perform: ec2:CreateTags on resource: x. Encoded authorization failure message: " + strings.Repeat("A", 500)})
		}, []string{"tag snapshot snap-", "allow ec2:CreateTags to"}, false},
		{"parts break", func(f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "s3:UploadPart", Code: "InternalError", Status: 500, Text: "We encountered an internal error."})
		}, []string{"part ", "InternalError", "after "}, false},
		{"end of object breaks", func(f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "s3:CompleteMultipartUpload", Cut: true, After: true})
		}, []string{"upload to s3://images/", "the connection was cut (after 3 attempts)", "check the network"}, false},
		{"task vanishes", func(f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: import2, When: func(r moto.Request) bool { return !r.DryRun }, Cut: true, After: true, Times: 3})
		}, []string{"import snapshot: the connection was cut"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFront(t)
			f.Polls = 2
			makeBucket(t, f, "images", home)
			makeBucket(t, f, "far", "us-west-2")
			opt := viaS3(f)
			t.Setenv("AWS_MAX_ATTEMPTS", "3")
			c.set(f, &opt)
			_, err := upload(t, opt, partDisk(t))
			refused(t, f, err, fault.Upload, c.words...)
			if got := len(f.Requests("s3:UploadPart")) == 0; got != c.early {
				t.Errorf("before the build: %v", got)
			}
		})
	}
}

// Broken requests are sent again, and nothing of it is seen.
func TestS3Retries(t *testing.T) {
	f := newFront(t)
	makeBucket(t, f, "images", home)
	f.Break(moto.Fault{Action: "s3:UploadPart", Times: 2, Code: "SlowDown", Status: 503, Text: "Please reduce your request rate."})
	f.Break(moto.Fault{Action: "s3:UploadPart", Times: 2, Cut: true})
	f.Break(moto.Fault{Action: "s3:UploadPart", Times: 1, Cut: true, After: true})
	f.Break(moto.Fault{Action: "s3:CreateMultipartUpload", When: func(r moto.Request) bool { return !strings.Contains(r.Path, "imgbuild-check") }, Times: 2, Cut: true, After: true})
	f.Break(moto.Fault{Action: "ec2:ImportSnapshot", Times: 1, When: func(r moto.Request) bool { return !r.DryRun }, Cut: true, After: true})
	f.Break(moto.Fault{Action: "ec2:DescribeImportSnapshotTasks", Times: 2, Code: "RequestLimitExceeded", Status: 503, Text: "Request limit exceeded."})
	d := partDisk(t)
	result, err := upload(t, viaS3(f), d)
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, f, result.SnapshotID, d.Image)
	if l := left(t, f); len(l) != 2 || len(f.Tasks()) > 0 {
		t.Errorf("left: %v", l)
	}
}

// An object that cannot be deleted is named.
func TestS3Undeleted(t *testing.T) {
	f := newFront(t)
	makeBucket(t, f, "images", home)
	f.Deny("s3:DeleteObject")
	p := &messages{}
	if _, err := uploadIn(t.Context(), viaS3(f), partDisk(t), p); err != nil {
		t.Fatal(err)
	}
	if notes := fmt.Sprint(p.notes); !strings.Contains(notes, "warning: left behind: s3://images/") || !strings.Contains(notes, "AccessDenied") {
		t.Errorf("notes %s", notes)
	}
}

// Parts of large disks are larger, and there are never too many.
func TestPartSize(t *testing.T) {
	for size, want := range map[int64]int64{1: partSize, 10 << 30: partSize, maxParts * partSize: partSize, maxParts*partSize + 1: partSize + 1<<20, maxObject: 525 << 20} {
		got := partSizeOf(size)
		if got != want || (size-1)/got+1 > maxParts {
			t.Errorf("%d bytes: parts of %d, want %d", size, got, want)
		}
	}
}
