package aws

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/disk"
	"imgbuild/fault"
	"imgbuild/test/moto"
)

// real are requests that are no dry runs.
func real(r moto.Request) bool { return !r.DryRun }

// What AWS refuses is said with its own words and what to do, and leaves nothing
// in the account.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(t *testing.T, f *moto.Front, o *Options)
		words []string
		early bool // found out before the build
	}{
		{"name taken", func(t *testing.T, f *moto.Front, o *Options) {
			if _, err := upload(t, *o, smallDisk(t)); err != nil {
				t.Fatal(err)
			}
		}, []string{`AMI name "test image": is taken by ami-`, " in eu-central-1", "--aws-ami-name"}, true},
		{"name taken by a disabled AMI", func(t *testing.T, f *moto.Front, o *Options) {
			if _, err := upload(t, *o, smallDisk(t)); err != nil {
				t.Fatal(err)
			}
			f.DisableImages()
		}, []string{`AMI name "test image": is taken by ami-`}, true},
		{"name taken where it is copied to", func(t *testing.T, f *moto.Front, o *Options) {
			there := *o
			there.Region = "us-east-1"
			if _, err := upload(t, there, smallDisk(t)); err != nil {
				t.Fatal(err)
			}
			o.CopyTo = []string{"us-east-1"}
		}, []string{"is taken by ami-", " in us-east-1"}, true},
		{"name taken meanwhile", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ec2:RegisterImage", When: real, Code: "InvalidAMIName.Duplicate", Status: 400, Text: "AMI name test image is already in use by AMI ami-1"})
		}, []string{"register image test image: InvalidAMIName.Duplicate: AMI name test image is already in use", "choose another name"}, false},
		{"wrong region", func(t *testing.T, f *moto.Front, o *Options) { o.Region = "eu-centrall-1" },
			[]string{"region eu-centrall-1: AWS has none of that name", "in eu there are eu-central-1"}, true},
		{"wrong region of a copy", func(t *testing.T, f *moto.Front, o *Options) { o.CopyTo = []string{"us-east-7"} },
			[]string{"region us-east-7: AWS has none", "us-east-1"}, true},
		{"wrong region without DescribeRegions", func(t *testing.T, f *moto.Front, o *Options) {
			f.Deny("ec2:DescribeRegions")
			f.Deny("ebs:StartSnapshot")
		}, []string{"start snapshot: AccessDeniedException", "allow ebs:StartSnapshot to arn:aws:sts::123456789012:user/moto"}, false},
		{"no right to register", func(t *testing.T, f *moto.Front, o *Options) { f.Deny("ec2:RegisterImage") },
			[]string{"register image: UnauthorizedOperation: You are not authorized", "allow ec2:RegisterImage to"}, true},
		{"no right to register, said late", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ec2:RegisterImage", When: real, Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized."})
		}, []string{"register image test image: UnauthorizedOperation", "allow ec2:RegisterImage to"}, false},
		{"no right to look for names", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ec2:DescribeImages", When: func(r moto.Request) bool { return r.Form.Get("Filter.1.Name") == "name" }, Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized to perform this operation."})
		}, []string{"AMI name: UnauthorizedOperation", "allow ec2:DescribeImages to"}, true},
		{"no right to share", func(t *testing.T, f *moto.Front, o *Options) {
			o.Share = []string{"210987654321"}
			f.Deny("ec2:ModifyImageAttribute")
		}, []string{"share image", "allow ec2:ModifyImageAttribute to"}, true},
		{"no right to share the snapshot", func(t *testing.T, f *moto.Front, o *Options) {
			o.Share = []string{"210987654321"}
			f.Deny("ec2:ModifySnapshotAttribute")
		}, []string{"share snapshot", "allow ec2:ModifySnapshotAttribute to"}, true},
		{"no right to share, said late", func(t *testing.T, f *moto.Front, o *Options) {
			o.Share, o.CopyTo = []string{"210987654321"}, []string{"us-east-1"}
			f.Break(moto.Fault{Action: "ec2:ModifySnapshotAttribute", When: func(r moto.Request) bool { return !r.DryRun && r.Region == "us-east-1" }, Code: "UnauthorizedOperation", Status: 403})
		}, []string{"share snap-", "allow ec2:ModifySnapshotAttribute to"}, false},
		{"no right to copy", func(t *testing.T, f *moto.Front, o *Options) {
			o.CopyTo = []string{"us-east-1"}
			f.Deny("ec2:CopyImage")
		}, []string{"copy to us-east-1", "allow ec2:CopyImage to"}, true},
		{"second copy fails", func(t *testing.T, f *moto.Front, o *Options) {
			o.CopyTo = []string{"us-east-1", "us-west-2"}
			f.Break(moto.Fault{Action: "ec2:CopyImage", When: func(r moto.Request) bool { return !r.DryRun && r.Region == "us-west-2" }, Code: "ResourceLimitExceeded", Status: 400, Text: "Too many."})
		}, []string{"copy to us-west-2: ResourceLimitExceeded: Too many", "quota"}, false},
		{"copy ends in an error", func(t *testing.T, f *moto.Front, o *Options) {
			o.CopyTo = []string{"us-east-1"}
			f.FailImage("us-east-1", "Client.InvalidKMSKey")
		}, []string{"copy to us-east-1: AMI ami-", "Client.InvalidKMSKey"}, false},
		{"no right to deprecate", func(t *testing.T, f *moto.Front, o *Options) {
			o.DeprecateAt = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
			f.Deny("ec2:EnableImageDeprecation")
		}, []string{"deprecation", "allow ec2:EnableImageDeprecation to"}, true},
		{"expired credentials", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "sts:GetCallerIdentity", Code: "ExpiredToken", Status: 403, Text: "The security token included in the request is expired"})
		}, []string{"credentials: ExpiredToken: The security token included in the request is expired", "sign in again"}, true},
		{"wrong secret", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "sts:GetCallerIdentity", Code: "SignatureDoesNotMatch", Status: 403, Text: "The request signature we calculated does not match"})
		}, []string{"SignatureDoesNotMatch", "check the access key"}, true},
		{"credentials expire on the way", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:CompleteSnapshot", Code: "ExpiredTokenException", Status: 403, Text: "The security token included in the request is expired."})
		}, []string{"complete snapshot snap-", "ExpiredTokenException", "sign in again"}, false},
		{"throttled for good", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", Code: "RequestThrottledException", Status: 400, Text: "Rate exceeded"})
		}, []string{"of snap-", "RequestThrottledException: Rate exceeded (after 3 attempts)", "try again later"}, false},
		{"block rejected", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", Times: 1, Code: "ValidationException", Status: 400, Text: "The checksum does not match."})
		}, []string{"block ", "of snap-", "ValidationException: The checksum does not match"}, false},
		{"block rejected without a word", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", Times: 1, Code: "ValidationException", Status: 400, Reason: "INVALID_BLOCK"})
		}, []string{"of snap-", ": ValidationException (INVALID_BLOCK)", "start again"}, false},
		{"key that may not be used, said at once", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:StartSnapshot", Code: "AccessDeniedException", Status: 403, Text: "Access denied.", Reason: "DEPENDENCY_ACCESS_DENIED"})
		}, []string{"start snapshot: AccessDeniedException: Access denied (DEPENDENCY_ACCESS_DENIED)", "KMS key exists"}, false},
		{"no right to look at snapshots", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ec2:DescribeSnapshots", When: func(r moto.Request) bool { return r.DryRun }, Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized to perform this operation."})
		}, []string{"describe snapshots: UnauthorizedOperation", "allow ec2:DescribeSnapshots to"}, true},
		{"service out of order", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:CompleteSnapshot", Code: "InternalServerException", Status: 500})
		}, []string{"complete snapshot snap-", "InternalServerException (after 3 attempts)", "try again later"}, false},
		{"checksum of all rejected", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:CompleteSnapshot", Code: "ValidationException", Status: 400, Text: "wrong sum"})
		}, []string{"complete snapshot snap-", "ValidationException: wrong sum"}, false},
		{"connection always cut", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", Cut: true})
		}, []string{"of snap-", "the connection was cut (after 3 attempts)", "check the network"}, false},
		{"no answer", func(t *testing.T, f *moto.Front, o *Options) {
			o.tuning.answerTime = 5 * time.Second
			f.Break(moto.Fault{Action: "ebs:PutSnapshotBlock", Delay: time.Minute})
		}, []string{"timeout awaiting response headers (after 3 attempts)", "check the network"}, false},
		{"snapshot whose start is never heard of", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:StartSnapshot", Times: 3, Cut: true, After: true})
		}, []string{"start snapshot: the connection was cut"}, false},
		{"AMI that is never heard of", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ec2:RegisterImage", When: real, Times: 1, Cut: true, After: true})
			f.Break(moto.Fault{Action: "ec2:RegisterImage", When: real, Times: 2, Cut: true})
		}, []string{"register image test image: the connection was cut"}, false},
		{"copy that is never heard of", func(t *testing.T, f *moto.Front, o *Options) {
			o.CopyTo = []string{"us-east-1"}
			f.Break(moto.Fault{Action: "ec2:CopyImage", When: real, Times: 3, Cut: true, After: true})
		}, []string{"copy to us-east-1: the connection was cut"}, false},
		{"snapshot in use for a while after its AMI", func(t *testing.T, f *moto.Front, o *Options) {
			o.CopyTo = []string{"us-east-1", "us-west-2"}
			f.Break(moto.Fault{Action: "ec2:CopyImage", When: func(r moto.Request) bool { return !r.DryRun && r.Region == "us-west-2" }, Code: "ResourceLimitExceeded", Status: 400, Text: "Too many."})
			f.Break(moto.Fault{Action: "ec2:DeleteSnapshot", When: real, Times: 4, Code: "InvalidSnapshot.InUse", Status: 400, Text: "The snapshot is currently in use."})
		}, []string{"copy to us-west-2: ResourceLimitExceeded"}, false},
		{"too many snapshots", func(t *testing.T, f *moto.Front, o *Options) {
			f.Break(moto.Fault{Action: "ebs:StartSnapshot", Code: "ServiceQuotaExceededException", Status: 402, Text: "Your current service quotas do not allow you to perform this action."})
		}, []string{"start snapshot: ServiceQuotaExceededException: Your current service quotas", "quota raised"}, false},
		{"key that may not be used", func(t *testing.T, f *moto.Front, o *Options) {
			o.KMSKey = "arn:aws:kms:eu-central-1:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
			f.Break(moto.Fault{Action: "ebs:CompleteSnapshot", When: func(r moto.Request) bool {
				id := strings.Split(r.Path, "/")
				go f.Fail(id[len(id)-1], "Given key ID is not accessible")
				time.Sleep(20 * time.Millisecond)
				return false
			}})
			f.Polls = 3
		}, []string{"snapshot snap-", "Given key ID is not accessible", "kms:CreateGrant"}, false},
		{"nobody there", func(t *testing.T, f *moto.Front, o *Options) { o.Endpoint = "http://127.0.0.1:1" },
			[]string{"credentials: dial tcp 127.0.0.1:1: connect: connection refused (after 3 attempts)", "check the network"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFront(t)
			t.Setenv("AWS_MAX_ATTEMPTS", "3")
			opt := options(f)
			c.set(t, f, &opt)
			before := len(f.Requests("ebs:StartSnapshot"))
			has := left(t, f, "us-east-1", "us-west-2")
			_, err := upload(t, opt, smallDisk(t))
			if now := left(t, f, "us-east-1", "us-west-2"); fmt.Sprint(now) != fmt.Sprint(has) {
				t.Errorf("left behind: %s, before %s", now, has)
			}
			if len(has) == 0 {
				refused(t, f, err, fault.Upload, c.words...)
			} else {
				says(t, err, fault.Upload, c.words...)
			}
			if got := len(f.Requests("ebs:StartSnapshot")) == before; got != c.early {
				t.Errorf("before the build: %v", got)
			}
		})
	}
}

// Without credentials the message is not that of the last source that was tried.
func TestNoCredentials(t *testing.T) {
	f := newFront(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := upload(t, options(f), smallDisk(t))
	says(t, err, fault.Upload, "credentials: no AWS credentials", "AWS_ACCESS_KEY_ID", "--aws-profile")
	if len(f.Log()) > 0 {
		t.Errorf("asked %v", f.Log())
	}
}

// Of a machine whose metadata has no credentials nothing else is said than that.
func TestNoMetadata(t *testing.T) {
	f := newFront(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer metadata.Close()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	path := filepath.Join(t.TempDir(), "stderr")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old := os.Stderr
	os.Stderr = file
	_, err = upload(t, options(f), smallDisk(t))
	os.Stderr = old
	says(t, err, fault.Upload, "credentials: no AWS credentials", "--aws-profile")
	if said, err := os.ReadFile(path); err != nil || len(said) > 0 {
		t.Errorf("on stderr: %s, %v", said, err)
	}
}

// A profile that has credentials from elsewhere says where they were to come from.
func TestProfiles(t *testing.T) {
	f := newFront(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	config := filepath.Join(dir, "config")
	t.Setenv("AWS_CONFIG_FILE", config)
	if err := os.WriteFile(config, []byte(`[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = dev
[sso-session corp]
sso_region = eu-central-1
sso_start_url = https://corp.example.com/start
[profile process]
credential_process = false
`), 0o666); err != nil {
		t.Fatal(err)
	}
	opt := options(f)
	opt.Profile = "process"
	_, err := upload(t, opt, smallDisk(t))
	says(t, err, fault.Upload, "credentials: no AWS credentials: credential_process: exit status 1", "says by itself")
	opt.Profile = "sso"
	_, err = upload(t, opt, smallDisk(t))
	says(t, err, fault.Upload, "credentials: no AWS credentials: open "+dir, "no such file", "aws sso login")
	cached := filepath.Join(dir, ".aws", "sso", "cache", fmt.Sprintf("%x.json", sha1.Sum([]byte("corp"))))
	if err := os.MkdirAll(filepath.Dir(cached), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cached, []byte(`{"accessToken":"x","expiresAt":"2020-01-01T00:00:00Z"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = upload(t, opt, smallDisk(t))
	says(t, err, fault.Upload, "cached SSO token is expired", "aws sso login")
}

// The endpoint of a region that does not exist has no address.
func TestNoSuchHost(t *testing.T) {
	u := &Uploader{opt: Options{Region: "eu-centrall-1"}}
	err := u.explain("credentials", u.noSuchRegion(fmt.Errorf("x: %w", &net.DNSError{Err: "no such host", Name: "sts.eu-centrall-1.amazonaws.com", IsNotFound: true})))
	says(t, err, fault.Upload, "region eu-centrall-1: lookup sts.eu-centrall-1.amazonaws.com: no such host", "spelled right")
}

// Throttling, errors of the service, cut connections and slow answers are got
// over, at every kind of request, and the snapshot is what it should be.
func TestRetries(t *testing.T) {
	f := newFront(t)
	f.Polls = 1
	opt := options(f)
	opt.tuning.answerTime = 10 * time.Second
	opt.CopyTo, opt.Share = []string{"us-east-1"}, []string{"210987654321"}
	for _, fault := range []moto.Fault{
		{Action: "ebs:PutSnapshotBlock", Times: 20, Code: "RequestThrottledException", Status: 400, Text: "Rate exceeded"},
		{Action: "ebs:PutSnapshotBlock", Times: 10, Code: "InternalServerException", Status: 500},
		{Action: "ebs:PutSnapshotBlock", Times: 10, Code: "ResourceNotFoundException", Status: 404, Text: "The snapshot does not exist."},
		{Action: "ebs:PutSnapshotBlock", Times: 10, Cut: true},
		{Action: "ebs:PutSnapshotBlock", Times: 10, Cut: true, After: true},
		{Action: "ebs:PutSnapshotBlock", Times: 2, Delay: 20 * time.Second},
		{Action: "ebs:PutSnapshotBlock", Times: 5, Code: "ValidationException", Status: 400, Reason: "WRITE_REQUEST_TIMEOUT"},
		{Action: "ebs:PutSnapshotBlock", Times: 5, Code: "ValidationException", Status: 400, Reason: "CONFLICTING_BLOCK_UPDATE"},
		{Action: "ebs:StartSnapshot", Times: 1, Code: "ConcurrentLimitExceededException", Status: 400},
		{Action: "sts:GetCallerIdentity", Times: 1, Code: "Throttling", Status: 400},
		{Action: "ebs:StartSnapshot", Times: 1, Cut: true, After: true},
		{Action: "ebs:CompleteSnapshot", Times: 1, Code: "InternalServerException", Status: 500},
		{Action: "ec2:DescribeSnapshots", Times: 2, Code: "RequestLimitExceeded", Status: 503},
		{Action: "ec2:DescribeSnapshots", When: real, Times: 3, Code: "InvalidSnapshot.NotFound", Status: 400, Text: "The snapshot does not exist."},
		{Action: "ec2:DescribeImages", Times: 2, Code: "InternalError", Status: 500},
		{Action: "ec2:RegisterImage", When: real, Times: 1, Cut: true, After: true},
		{Action: "ec2:CopyImage", When: real, Times: 1, Cut: true, After: true},
		{Action: "ec2:ModifyImageAttribute", When: real, Times: 1, Code: "Unavailable", Status: 503},
	} {
		f.Break(fault)
	}
	d := newDisk(t)
	result, err := upload(t, opt, d)
	if err != nil {
		t.Fatal(err)
	}
	readBack(t, f, result.SnapshotID, d.Image)
	if l := left(t, f, "us-east-1"); len(l) != 4 {
		t.Errorf("%d things made, want two AMIs and two snapshots: %v", len(l), l)
	}
}

// An upload that is interrupted, at whatever request, leaves nothing.
func TestInterrupted(t *testing.T) {
	for _, action := range []string{"ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot", "ec2:DescribeSnapshots", "ec2:RegisterImage",
		"ec2:CopyImage", "ec2:ModifyImageAttribute", "s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload", "ec2:ImportSnapshot", "ec2:DescribeImportSnapshotTasks", "s3:DeleteObject"} {
		t.Run(action, func(t *testing.T) {
			f := newFront(t)
			f.Polls = 3
			opt := options(f)
			opt.CopyTo, opt.Share = []string{"us-east-1"}, []string{"210987654321"}
			if strings.HasPrefix(action, "s3:") || strings.Contains(action, "Import") {
				opt.Bucket = "images"
				makeBucket(t, f, "images", home)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			u, err := New(ctx, opt)
			if err == nil {
				err = u.Check(ctx, "amd64")
			}
			if err != nil {
				t.Fatal(err)
			}
			// The request arrives and does its work; the answer is not heard.
			f.Break(moto.Fault{Action: action, When: real, Times: 1, After: true, Cut: true, Do: func(moto.Request) {
				cancel()
				time.Sleep(50 * time.Millisecond)
			}})
			_, err = u.Upload(ctx, partDisk(t), &messages{})
			says(t, err, fault.Interrupted, "upload interrupted")
			if !errors.Is(err, context.Canceled) {
				t.Error("is not a cancellation")
			}
			if l := left(t, f, "us-east-1"); len(l) > 0 {
				t.Errorf("left behind: %v", l)
			}
		})
	}
}

// What cannot be removed is named.
func TestLeftBehind(t *testing.T) {
	f := newFront(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	f.Break(moto.Fault{Action: "ec2:RegisterImage", When: real, Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized."})
	f.Break(moto.Fault{Action: "ec2:DeleteSnapshot", When: real, Cut: true})
	_, err := upload(t, options(f), smallDisk(t))
	says(t, err, fault.Upload, "register image", "; left behind in eu-central-1: snapshot snap-", "not removed: the connection was cut", "--aws-resume snap-")
}

// So is the permission that removing it takes.
func TestLeftBehindDenied(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.Share = []string{"210987654321"}
	f.Break(moto.Fault{Action: "ec2:ModifyImageAttribute", When: real, Code: "InvalidParameterValue", Status: 400, Text: "no"})
	f.Break(moto.Fault{Action: "ec2:DeregisterImage", When: real, Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized to perform this operation."})
	_, err := upload(t, opt, smallDisk(t))
	says(t, err, fault.Upload, "InvalidParameterValue: no; left behind in eu-central-1: AMI ami-", "allow ec2:DeregisterImage to arn:")
}

// A snapshot that is removed is not said to be kept, whatever else is left.
func TestLeftBehindElsewhere(t *testing.T) {
	f := newFront(t)
	opt := options(f)
	opt.CopyTo = []string{"us-east-1", "us-west-2"}
	denied := moto.Fault{Code: "UnauthorizedOperation", Status: 403, Text: "You are not authorized to perform this operation."}
	denied.Action, denied.When = "ec2:CopyImage", func(r moto.Request) bool { return !r.DryRun && r.Region == "us-west-2" }
	f.Break(denied)
	denied.Action, denied.When = "ec2:DeregisterImage", func(r moto.Request) bool { return r.Region == "us-east-1" }
	f.Break(denied)
	_, err := upload(t, opt, smallDisk(t))
	says(t, err, fault.Upload, "copy to us-west-2: UnauthorizedOperation", "AMI ami-", " in us-east-1 (not removed", "allow ec2:CopyImage to", "allow ec2:DeregisterImage to")
	if text := err.Error() + fault.HintOf(err); strings.Contains(text, "kept") || strings.Contains(text, "resume") {
		t.Error(text)
	}
	if l := left(t, f); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

// Disks that no volume or object can hold are refused before anything is made.
func TestTooLarge(t *testing.T) {
	f := newFront(t)
	makeBucket(t, f, "images", home)
	for _, c := range []struct {
		bucket string
		size   int64
		words  []string
	}{
		{"", maxVolume<<30 + 1, []string{"the disk has 65537 GiB: a volume of EBS has 65536 GiB at most", "--size"}},
		{"images", maxObject + 1, []string{"an object of S3 has 5120 GiB at most", "--aws-upload ebs"}},
	} {
		img, err := disk.New(c.size, nil)
		if err != nil {
			t.Fatal(err)
		}
		opt := options(f)
		opt.Bucket = c.bucket
		_, err = upload(t, opt, Disk{Image: img, Arch: "amd64", UEFI: true, BIOS: true})
		refused(t, f, err, fault.Upload, c.words...)
	}
}
