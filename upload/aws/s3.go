package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/sync/errgroup"

	"imgbuild/fault"
)

const (
	// partSize is that of the parts of an object, where maxParts of them suffice.
	partSize = 16 << 20
	maxParts = 10000 // of S3
	// partsInFlight are read from the disk as they are sent, not held in memory.
	partsInFlight = 8
)

// importSnapshot uploads the disk to S3, has it imported, and removes it there.
func (r *run) importSnapshot(ctx context.Context) error {
	token, err := r.newToken()
	if err != nil {
		return err
	}
	// The name that bootc-image-builder gives it.
	key := *token + "-" + r.opt.Name
	if err := r.putObject(ctx, key); err != nil {
		return err
	}
	task, err := r.startImport(ctx, key)
	if err != nil {
		return err
	}
	if err := r.awaitImport(ctx, task); err != nil {
		return err
	}
	if err := r.deleteObject(ctx, key); err != nil {
		r.progress.Warn(fmt.Sprintf("left behind: s3://%s/%s: %v", r.opt.Bucket, key, r.explain("delete", err)))
	}
	tags := &ec2.CreateTagsInput{Resources: []string{r.snapshot}, Tags: ec2Tags(r.tags())}
	_, err = r.ec2.CreateTags(ctx, tags)
	return r.explain("tag snapshot "+r.snapshot, err)
}

// putObject uploads the whole disk, zeros included.
func (r *run) putObject(ctx context.Context, key string) error {
	size := r.disk.Image.Size()
	part := partSizeOf(size)
	what := fmt.Sprintf("s3://%s/%s", r.opt.Bucket, key)
	making, made := settle(ctx)
	defer made()
	up, err := r.s3.CreateMultipartUpload(making, &s3.CreateMultipartUploadInput{Bucket: &r.opt.Bucket, Key: &key, ContentType: aws.String("application/octet-stream")})
	if lost(err) {
		r.onFailure("perhaps the parts of "+what, func(ctx context.Context) error { return r.abortUploads(ctx, key) })
	}
	if err != nil {
		return r.explain("upload to "+what, err)
	}
	done := false
	r.onFailure("the parts of "+what, func(ctx context.Context) error {
		if done {
			return nil
		}
		return r.abortUpload(ctx, key, up.UploadId)
	})
	if a, ok := retry.GetAttemptResults(up.ResultMetadata); ok && len(a.Results) > 1 {
		// Each attempt may have begun an upload, and only one is named.
		r.onFailure("perhaps the parts of "+what, func(ctx context.Context) error { return r.abortUploads(ctx, key) })
		defer func() {
			if done {
				_ = r.abortUploads(ctx, key)
			}
		}()
	}
	// The object is there as soon as the last request has arrived, whether or not
	// the answer comes.
	r.onFailure(what, func(ctx context.Context) error { return r.deleteObject(ctx, key) })

	r.progress.Stage("upload to "+what, size)
	var mu sync.Mutex
	var parts []s3types.CompletedPart
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partsInFlight)
	for off, n := int64(0), int32(1); off < size && gctx.Err() == nil; off, n = off+part, n+1 {
		g.Go(func() error {
			length := min(part, size-off)
			out, err := r.s3.UploadPart(gctx, &s3.UploadPartInput{
				Bucket: &r.opt.Bucket, Key: &key, UploadId: up.UploadId, PartNumber: &n, ContentLength: &length,
				Body: io.NewSectionReader(r.disk.Image, off, length),
			})
			if err != nil {
				return r.explain(fmt.Sprintf("part %d of %s", n, what), err)
			}
			mu.Lock()
			parts = append(parts, s3types.CompletedPart{ETag: out.ETag, PartNumber: &n, ChecksumCRC32: out.ChecksumCRC32})
			mu.Unlock()
			r.progress.Advance(length)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	slices.SortFunc(parts, func(a, b s3types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	_, err = r.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &r.opt.Bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &s3types.CompletedMultipartUpload{Parts: parts},
	})
	if err != nil {
		return r.explain("upload to "+what, err)
	}
	done = true
	return nil
}

// abortUploads gives up all uploads of an object.
func (u *Uploader) abortUploads(ctx context.Context, key string) error {
	out, err := u.s3.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &u.opt.Bucket, Prefix: &key})
	if err != nil {
		return err
	}
	for _, up := range out.Uploads {
		if err := u.abortUpload(ctx, key, up.UploadId); err != nil {
			return err
		}
	}
	return nil
}

func (u *Uploader) abortUpload(ctx context.Context, key string, id *string) error {
	_, err := u.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.opt.Bucket, Key: &key, UploadId: id})
	return ignore(err, "NoSuchUpload")
}

// partSizeOf returns the size of the parts of an object.
func partSizeOf(size int64) int64 {
	least := (size-1)/maxParts + 1
	return max(partSize, (least+1<<20-1)&^(1<<20-1))
}

func (r *run) deleteObject(ctx context.Context, key string) error {
	_, err := r.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &r.opt.Bucket, Key: &key})
	return ignore(err, "NoSuchKey")
}

// startImport asks VM Import for a snapshot of the object, and returns the task.
func (r *run) startImport(ctx context.Context, key string) (task string, err error) {
	in := &ec2.ImportSnapshotInput{
		Description: r.description(),
		DiskContainer: &types.SnapshotDiskContainer{
			Description: r.description(), Format: aws.String("raw"),
			UserBucket: &types.UserBucket{S3Bucket: &r.opt.Bucket, S3Key: &key},
		},
	}
	r.importSettings(in)
	if in.ClientToken, err = r.newToken(); err != nil {
		return "", err
	}
	making, done := settle(ctx)
	defer done()
	out, err := r.ec2.ImportSnapshot(making, in)
	switch {
	case lost(err):
		r.onFailure("perhaps an import task of "+key, func(ctx context.Context) error {
			out, err := r.ec2.ImportSnapshot(ctx, in)
			if err != nil || out.ImportTaskId == nil {
				return err
			}
			return r.cancelImport(ctx, *out.ImportTaskId)
		})
	case err == nil && out.ImportTaskId == nil:
		return "", fault.New(fault.Upload, errors.New("import snapshot: the answer names no task"), "")
	case err == nil:
		task = *out.ImportTaskId
		r.onFailure("import task "+task, func(ctx context.Context) error { return r.cancelImport(ctx, task) })
	}
	return task, r.explain("import snapshot", err)
}

// importSettings are those that a dry run has too.
func (u *Uploader) importSettings(in *ec2.ImportSnapshotInput) {
	if u.opt.Role != "" {
		in.RoleName = &u.opt.Role
	}
	if u.opt.Encrypt {
		in.Encrypted = aws.Bool(true)
		if u.opt.KMSKey != "" {
			in.KmsKeyId = &u.opt.KMSKey
		}
	}
}

// cancelImport ends a task, and removes what it made before it ended.
func (r *run) cancelImport(ctx context.Context, task string) error {
	_, err := r.ec2.CancelImportTask(ctx, &ec2.CancelImportTaskInput{ImportTaskId: &task})
	detail, err2 := r.describeImport(ctx, task)
	if err2 != nil {
		return err2
	}
	switch status := aws.ToString(detail.Status); {
	case detail.SnapshotId != nil && *detail.SnapshotId != "":
		return r.deleteSnapshot(ctx, r.ec2, *detail.SnapshotId)
	case status == "deleted" || status == "deleting" || status == "cancelled" || status == "cancelling":
		return nil
	}
	return err
}

func (r *run) describeImport(ctx context.Context, task string) (*types.SnapshotTaskDetail, error) {
	out, err := r.ec2.DescribeImportSnapshotTasks(ctx, &ec2.DescribeImportSnapshotTasksInput{ImportTaskIds: []string{task}})
	if err != nil {
		return nil, r.explain("import task "+task, err)
	}
	if len(out.ImportSnapshotTasks) == 0 || out.ImportSnapshotTasks[0].SnapshotTaskDetail == nil {
		return nil, fault.New(fault.Upload, fmt.Errorf("import task %s: is not there", task), "")
	}
	return out.ImportSnapshotTasks[0].SnapshotTaskDetail, nil
}

// awaitImport waits for the snapshot of an import task.
func (r *run) awaitImport(ctx context.Context, task string) error {
	size := r.disk.Image.Size()
	r.progress.Stage("import as snapshot", size)
	shown, last := int64(0), ""
	for {
		d, err := r.describeImport(ctx, task)
		if err != nil {
			return err
		}
		// Percent, while there is anything to say.
		if percent, err := strconv.ParseFloat(strings.TrimSuffix(aws.ToString(d.Progress), "%"), 64); err == nil && percent >= 0 && percent <= 100 {
			if now := int64(percent / 100 * float64(size)); now > shown {
				r.progress.Advance(now - shown)
				shown = now
			}
		}
		if m := strings.TrimSpace(aws.ToString(d.Progress) + " % " + aws.ToString(d.StatusMessage)); m != last && d.StatusMessage != nil {
			r.progress.Note(task + ": " + m)
			last = m
		}
		switch aws.ToString(d.Status) {
		case "completed":
			if aws.ToString(d.SnapshotId) == "" {
				return fault.New(fault.Upload, fmt.Errorf("import task %s: completed without a snapshot", task), "")
			}
			r.snapshot = *d.SnapshotId
			r.removeOnFailure(r.ec2, r.snapshot)
			r.progress.Advance(size - shown)
			return nil
		case "deleted", "deleting", "cancelled", "cancelling":
			return importFailed(task, aws.ToString(d.StatusMessage))
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// roleHint is for errors about the role of VM Import.
const roleHint = "VM Import acts in the role vmimport of the account, or the one named with --aws-role-name; --aws-upload ebs needs none"

// importFailed is the error of a task that ended without a snapshot.
func importFailed(task, why string) error {
	hint := "--aws-upload ebs needs neither bucket nor import"
	if strings.Contains(strings.ToLower(why), "role") {
		hint = roleHint
	}
	return fault.New(fault.Upload, fmt.Errorf("import task %s: %s", task, orElse(why, "was cancelled")), hint)
}

// checkBucket asks where the bucket is and whether it can be written to.
func (u *Uploader) checkBucket(ctx context.Context) error {
	what := "bucket " + u.opt.Bucket
	none := fault.New(fault.Upload, fmt.Errorf("%s: there is none of that name", what), "create it, or use --aws-upload ebs, which needs none")
	out, err := u.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &u.opt.Bucket})
	region, status := "", 0
	var answer *smithyhttp.ResponseError
	if err == nil {
		region = aws.ToString(out.BucketRegion)
	} else if errors.As(err, &answer) {
		// The region is told even to those who may not know anything else.
		region, status = answer.Response.Header.Get("X-Amz-Bucket-Region"), answer.HTTPStatusCode()
	}
	switch {
	case region != "" && region != u.opt.Region:
		return fault.New(fault.Upload, fmt.Errorf("%s: is in %s, and the AMI is to be in %s", what, region, u.opt.Region),
			fmt.Sprintf("use a bucket of %s, or --aws-region %s, or --aws-upload ebs, which needs none", u.opt.Region, region))
	case status == http.StatusNotFound:
		return none
	case status == http.StatusForbidden:
		// Listing is not what is needed.
	case err != nil:
		return u.explain(what, err)
	}
	// S3 has no dry runs; an upload that is given up at once leaves nothing.
	token, err := u.newToken()
	if err != nil {
		return err
	}
	key := "imgbuild-check-" + *token
	making, done := settle(ctx)
	defer done()
	up, err := u.s3.CreateMultipartUpload(making, &s3.CreateMultipartUploadInput{Bucket: &u.opt.Bucket, Key: &key})
	if lost(err) {
		// Nobody will pay for an upload without parts.
		_ = u.abortUploads(making, key)
	}
	switch {
	case isCode(err, "NoSuchBucket"):
		return none
	case err != nil:
		return u.explain(what, err)
	}
	if err := u.abortUpload(making, key, up.UploadId); err != nil {
		err = u.explain(what, err)
		return fault.New(fault.ClassOf(err), fmt.Errorf("%w; left behind: an upload of %s without parts", err, key), fault.HintOf(err))
	}
	return nil
}
