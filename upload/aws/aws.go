// Package aws makes an AMI of a disk: client code for Amazon EC2, on the AWS SDK
// for Go v2.
//
// The disk becomes a snapshot in one of two ways. EBS direct APIs (2019-11-02)
// take the blocks that hold data straight from the virtual disk and need neither
// a bucket nor a role: StartSnapshot, PutSnapshotBlock, CompleteSnapshot. The way
// of bootc-image-builder uploads the whole raw disk to S3 in parts and has it
// imported by VM Import (ImportSnapshot), which acts in a role of the account.
// RegisterImage then makes the AMI; copies in other regions, launch permissions
// and deprecation follow.
//
// [Uploader.Check] asks beforehand for what would make the upload fail: the
// credentials, the regions, the name, the bucket, and by dry runs the permissions
// of those actions that have one. An upload that fails, or whose context ends,
// removes from the account what it made there, in the opposite order.
//
// Not written: instance-store AMIs, public sharing, organizations.
package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"imgbuild/fault"
)

// Image is a disk as an upload reads it, several ranges at once.
type Image interface {
	io.ReaderAt
	// Size returns the size of the disk in bytes.
	Size() int64
	// Data yields the ranges (offset, length) that may hold anything but zeros,
	// ascending, in multiples of grain but for the end of the disk.
	Data(grain int64) iter.Seq2[int64, int64]
}

// Disk is a disk and what is to be known of it to register it.
type Disk struct {
	Image Image
	Arch  string // GOARCH name
	UEFI  bool   // boots by UEFI
	BIOS  bool   // boots by BIOS
}

// Progress is told what an upload is doing, by several goroutines.
type Progress interface {
	// Stage begins a stage of total bytes, 0 where it is not known.
	Stage(name string, total int64)
	// Advance adds n bytes to the stage's count.
	Advance(n int64)
	// Note is a line that a user may want to read.
	Note(text string)
	// Warn is a line that a user should read.
	Warn(text string)
}

// Result is what an upload made.
type Result struct {
	Provider   string `json:"provider"` // "aws"
	Account    string `json:"account"`
	Region     string `json:"region"`
	Name       string `json:"name"`
	ImageID    string `json:"image_id"`
	SnapshotID string `json:"snapshot_id"`
	Copies     []Copy `json:"copies,omitempty"`
}

// Copy is the AMI in another region.
type Copy struct {
	Region     string `json:"region"`
	ImageID    string `json:"image_id"`
	SnapshotID string `json:"snapshot_id"`
}

const (
	// Attempts of one request, and the longest pause between two: a new snapshot
	// may be unknown to the block API for two minutes, says the EBS team.
	maxAttempts = 16
	maxBackoff  = 20 * time.Second
	// answerTime is how long an answer may take to begin once a request is sent.
	// At 1 Mbit/s the data in flight takes two minutes more to leave the host's
	// buffers.
	answerTime = 5 * time.Minute
	// pollEvery is the pause between two questions about what takes minutes.
	pollEvery = 5 * time.Second
	// cleanTime bounds the removal of what a failed upload made.
	cleanTime = 2 * time.Minute
	// settleTime is how long an interrupted upload waits for the name of what is
	// being made, so that it can be removed.
	settleTime = 10 * time.Second
)

// Uploader makes AMIs by one set of options. It belongs to one account.
type Uploader struct {
	opt       Options
	cfg       aws.Config
	ebs       *ebs.Client
	ec2       *ec2.Client
	s3        *s3.Client
	sts       *sts.Client
	account   string // 12 digits
	partition string // of ARNs: aws, aws-cn, aws-us-gov
	caller    string // ARN of who asks
}

// New reads credentials and settings as the SDK's default chain finds them: flags
// of the options, environment, shared files, web identity, instance role. Nothing
// is asked of AWS yet.
func New(ctx context.Context, opt Options) (*Uploader, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(newHTTPClient(opt.tuning.answerTime)),
		config.WithLogger(logging.Nop{}), // that of the SDK writes to stderr
	}
	if opt.Region != "" {
		load = append(load, config.WithRegion(opt.Region))
	}
	if opt.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(opt.Profile))
	}
	if opt.Endpoint != "" {
		load = append(load, config.WithBaseEndpoint(opt.Endpoint))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fault.New(fault.Upload, fmt.Errorf("AWS settings: %w", err), "see ~/.aws/config and ~/.aws/credentials, AWS_PROFILE and --aws-profile")
	}
	if cfg.Region == "" {
		return nil, fault.New(fault.Usage, errors.New("no AWS region"), "name one with --aws-region, or set AWS_REGION")
	}
	opt.Region = cfg.Region
	if err := opt.validateRegions(); err != nil {
		return nil, err
	}
	// AWS_MAX_ATTEMPTS and max_attempts are the user's own word.
	attempts := cfg.RetryMaxAttempts
	if attempts == 0 {
		attempts = maxAttempts
	}
	cfg.Retryer = func() aws.Retryer { return newRetryer(attempts, opt.tuning.backoff) }
	cfg.RetryMaxAttempts = 0
	return &Uploader{
		opt: opt, cfg: cfg,
		ebs: ebs.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg), sts: sts.NewFromConfig(cfg),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) {
			// What is not S3 itself has no DNS name for each bucket.
			o.UsePathStyle = o.BaseEndpoint != nil
		}),
	}, nil
}

// newHTTPClient returns a client that keeps its connections and gives up on an
// answer that does not come, not on data that leaves slowly.
func newHTTPClient(answer time.Duration) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = blocksInFlight
		t.ResponseHeaderTimeout = answer
	})
}

// newRetryer returns the SDK's standard back-off without its budget of retries,
// which 64 throttled requests would use up at once.
func newRetryer(attempts int, backoff time.Duration) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = backoff
		o.RateLimiter = ratelimit.None
		o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			return aws.BoolTernary(errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || passes(err))
		}))
	})
}

// in returns the EC2 client of another region.
func (u *Uploader) in(region string) *ec2.Client {
	if region == u.opt.Region {
		return u.ec2
	}
	return ec2.NewFromConfig(u.cfg, func(o *ec2.Options) { o.Region = region })
}

// Upload makes an AMI of the disk. When it fails, what it made in the account is
// removed, or else named in the error.
func (u *Uploader) Upload(ctx context.Context, d Disk, p Progress) (*Result, error) {
	mode, err := u.opt.bootMode(d)
	if err != nil {
		return nil, err
	}
	size, err := u.opt.volumeSize(d.Image.Size())
	if err != nil {
		return nil, err
	}
	r := &run{Uploader: u, disk: d, mode: mode, gib: size, progress: p}
	result, err := r.do(ctx)
	if err == nil {
		return result, nil
	}
	return nil, r.cleanUp(ctx, err)
}

// run is one upload.
type run struct {
	*Uploader
	disk     Disk
	mode     BootMode
	gib      int64 // of the volume
	progress Progress
	token    string // names the disk

	snapshot string // that was made; "" once it is removed
	undo     []undo
}

// do makes the snapshot, then the AMI and its copies, and only then lets others
// see them.
func (r *run) do(ctx context.Context) (*Result, error) {
	var err error
	if r.token, err = diskToken(r.disk.Image); err != nil {
		return nil, err
	}
	if r.opt.Method == S3 {
		err = r.importSnapshot(ctx)
	} else {
		err = r.writeSnapshot(ctx)
	}
	if err != nil {
		return nil, err
	}
	result := &Result{Provider: "aws", Account: r.account, Region: r.opt.Region, Name: r.opt.Name, SnapshotID: r.snapshot}
	if result.ImageID, err = r.register(ctx); err != nil {
		return nil, err
	}
	if result.Copies, err = r.copyAll(ctx, result.ImageID); err != nil {
		return nil, err
	}
	return result, r.publish(ctx, result)
}
