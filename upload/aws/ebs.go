package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"imgbuild/fault"
)

const (
	// blockSize is that of EBS direct APIs, the only one there is.
	blockSize = 512 << 10
	// blocksInFlight is how many blocks are held in memory and sent at once; AWS'
	// own coldsnap takes as many.
	blocksInFlight = 64
	// keepMinutes is how long a snapshot to be resumed stays pending without new
	// blocks. One that nobody goes on with ends by itself.
	keepMinutes, startMinutes = 24 * 60, 60
)

// ownTags are the tags that an upload sets by itself.
var ownTags = []string{"Name", diskTag}

// diskTag holds the name of the disk that a snapshot is made of, for resuming.
const diskTag = "imgbuild-disk"

// writeSnapshot writes the blocks of the disk that are not zero to a new
// snapshot, or to the one to be resumed.
func (r *run) writeSnapshot(ctx context.Context) error {
	pending := true
	if r.opt.Resume != "" {
		var err error
		if pending, err = r.resume(ctx); err != nil {
			return err
		}
	} else if err := r.startSnapshot(ctx); err != nil {
		return err
	}
	if pending {
		if err := r.fillSnapshot(ctx); err != nil {
			return err
		}
	}
	r.progress.Stage("complete snapshot", 0)
	return r.awaitSnapshot(ctx)
}

func (r *run) startSnapshot(ctx context.Context) error {
	in := &ebs.StartSnapshotInput{
		VolumeSize: aws.Int64(r.gib), Description: r.description(), Timeout: aws.Int32(startMinutes),
	}
	if r.opt.Keep {
		in.Timeout = aws.Int32(keepMinutes)
	}
	if r.opt.Encrypt {
		in.Encrypted = aws.Bool(true)
		in.KmsKeyArn = r.keyARN()
	}
	for _, t := range append(r.tags(), Tag{diskTag, r.token}) {
		in.Tags = append(in.Tags, ebstypes.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	var err error
	if in.ClientToken, err = r.newToken(); err != nil {
		return err
	}
	making, done := settle(ctx)
	defer done()
	out, err := r.ebs.StartSnapshot(making, in)
	if lost(err) {
		// There may be a snapshot whose name did not arrive. The same token asks
		// for it once more, and makes none where there is one.
		r.onFailure("perhaps a snapshot tagged "+diskTag+"="+r.token, func(ctx context.Context) error {
			out, err := r.ebs.StartSnapshot(ctx, in)
			if err != nil || out.SnapshotId == nil {
				return err
			}
			return r.deleteSnapshot(ctx, r.ec2, *out.SnapshotId)
		})
	}
	if err != nil {
		return r.explain("start snapshot", err)
	}
	if out.SnapshotId == nil {
		return fault.New(fault.Upload, errors.New("start snapshot: the answer names none"), "")
	}
	r.snapshot = *out.SnapshotId
	if !r.keeps() {
		r.removeOnFailure(r.ec2, r.snapshot)
	}
	return nil
}

// fillSnapshot writes the blocks and seals the snapshot.
func (r *run) fillSnapshot(ctx context.Context) error {
	j, known, err := openJournal(r.opt.Journals, r.snapshot, r.token, r.gib*(gib/blockSize))
	switch {
	case errors.Is(err, errOtherDisk):
		return r.otherDisk()
	case err != nil:
		r.progress.Warn(r.notKept(err))
		j, known = &journal{}, sums{}
	}
	sent, err := r.putBlocks(ctx, known, j)
	if err == nil {
		for index := range known {
			if _, ok := sent[index]; !ok {
				err = r.otherDisk()
			}
		}
	}
	if err == nil {
		_, err = r.ebs.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
			SnapshotId: &r.snapshot, ChangedBlocksCount: aws.Int32(int32(len(sent))),
			Checksum: aws.String(linear(sent)), ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
			ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
		})
		err = r.explain("complete snapshot "+r.snapshot, err)
	}
	j.close(err == nil)
	return err
}

// notKept warns that resuming will send again what is there.
func (r *run) notKept(err error) string {
	return fmt.Sprintf("the progress of %s is not kept: %v", r.snapshot, err)
}

// linear returns the checksum of a snapshot: that of the digests of its blocks,
// in ascending order of their indexes.
func linear(sent sums) string {
	h := sha256.New()
	for _, index := range slices.Sorted(maps.Keys(sent)) {
		sum := sent[index]
		h.Write(sum[:])
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// putBlocks sends all blocks that hold data, without those that are known to be
// there, and returns the digests of all.
func (r *run) putBlocks(ctx context.Context, known sums, j *journal) (sums, error) {
	total := int64(0)
	for _, n := range r.disk.Image.Data(blockSize) {
		total += n
	}
	r.progress.Stage("upload to "+r.snapshot, total)
	var mu sync.Mutex
	sent := sums{}
	blocks := make(chan int64)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(blocks)
		for off, n := range r.disk.Image.Data(blockSize) {
			for end := off + n; off < end; off += blockSize {
				select {
				case blocks <- off / blockSize:
				case <-gctx.Done():
					return gctx.Err()
				}
			}
		}
		return nil
	})
	for range blocksInFlight {
		g.Go(func() error {
			buf := make([]byte, blockSize)
			for index := range blocks {
				used, err := r.readBlock(index, buf)
				if err != nil {
					return err
				}
				if used {
					sum := sha256.Sum256(buf)
					if old, ok := known[int32(index)]; !ok || old != sum {
						if err := r.putBlock(gctx, int32(index), buf, sum); err != nil {
							return err
						}
						if err := j.add(int32(index), sum); err != nil {
							// What was written of it stays true.
							r.progress.Warn(r.notKept(err))
						}
					}
					mu.Lock()
					sent[int32(index)] = sum
					mu.Unlock()
				}
				r.progress.Advance(min(blockSize, r.disk.Image.Size()-index*blockSize))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return sent, nil
}

// readBlock reads a block, with zeros behind the end of the disk, and tells
// whether it holds anything else.
func (r *run) readBlock(index int64, buf []byte) (used bool, err error) {
	n, err := r.disk.Image.ReadAt(buf, index*blockSize)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("disk: block %d: %w", index, err)
	}
	if want := min(blockSize, r.disk.Image.Size()-index*blockSize); int64(n) < want {
		return false, fmt.Errorf("disk: block %d: %w", index, io.ErrUnexpectedEOF)
	}
	clear(buf[n:])
	return !isZero(buf), nil
}

// isZero tells whether b, of one byte at least, is all zeros.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

func (r *run) putBlock(ctx context.Context, index int32, data []byte, sum [sha256.Size]byte) error {
	out, err := r.ebs.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: &r.snapshot, BlockIndex: aws.Int32(index), BlockData: bytes.NewReader(data), DataLength: aws.Int32(blockSize),
		Checksum:          aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	}, func(o *ebs.Options) {
		// A snapshot that was just started may not be known everywhere yet.
		o.Retryer = retry.AddWithErrorCodes(o.Retryer, "ResourceNotFoundException")
	})
	if err != nil {
		return r.explain(fmt.Sprintf("block %d of %s", index, r.snapshot), err)
	}
	if got := aws.ToString(out.Checksum); got != "" && got != base64.StdEncoding.EncodeToString(sum[:]) {
		return fault.New(fault.Upload, fmt.Errorf("block %d of %s: EBS took other bytes than were sent", index, r.snapshot), "")
	}
	return nil
}

// awaitSnapshot waits until the snapshot is complete.
func (r *run) awaitSnapshot(ctx context.Context) error {
	id := r.snapshot
	for {
		s, err := r.describeSnapshot(ctx, id, func(o *ec2.Options) {
			// EC2 may hear of it later than the block API.
			o.Retryer = retry.AddWithErrorCodes(o.Retryer, codeNoSnapshot)
		})
		if err != nil {
			return err
		}
		switch s.State {
		case types.SnapshotStateCompleted:
			return nil
		case types.SnapshotStateError:
			// Nobody can go on with it.
			if r.keeps() {
				r.removeOnFailure(r.ec2, id)
			}
			r.snapshot = ""
			return fault.New(fault.Upload, fmt.Errorf("snapshot %s: %s", id, orElse(aws.ToString(s.StateMessage), "ended in an error")), r.keyHint())
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// codeNoSnapshot is the error code of a snapshot that is not there, or not yet.
const codeNoSnapshot = "InvalidSnapshot.NotFound"

func (u *Uploader) describeSnapshot(ctx context.Context, id string, set ...func(*ec2.Options)) (*types.Snapshot, error) {
	out, err := u.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}}, set...)
	if err != nil {
		return nil, u.explain("snapshot "+id, err)
	}
	if len(out.Snapshots) == 0 {
		return nil, fault.New(fault.Upload, fmt.Errorf("snapshot %s: is not there", id), "")
	}
	return &out.Snapshots[0], nil
}

// pause waits between two questions.
func (u *Uploader) pause(ctx context.Context) error {
	t := time.NewTimer(u.opt.tuning.poll)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// resume takes over the snapshot of an upload that failed, and tells whether it
// still takes blocks.
func (r *run) resume(ctx context.Context) (pending bool, err error) {
	s, err := r.resumable(ctx)
	if err != nil {
		return false, err
	}
	if tagOf(s, diskTag) != r.token || int64(aws.ToInt32(s.VolumeSize)) != r.gib {
		return false, r.otherDisk()
	}
	r.snapshot = r.opt.Resume
	return s.State == types.SnapshotStatePending, nil
}

// resumable returns the snapshot to be resumed, if it is one of an upload that can
// end as the options ask.
func (u *Uploader) resumable(ctx context.Context) (*types.Snapshot, error) {
	s, err := u.describeSnapshot(ctx, u.opt.Resume)
	if err != nil {
		return nil, err
	}
	why := ""
	key := aws.ToString(u.keyARN())
	switch {
	case tagOf(s, diskTag) == "":
		why = "was not made by imgbuild"
	case s.State != types.SnapshotStatePending && s.State != types.SnapshotStateCompleted:
		why = "is in state " + string(s.State)
		if m := aws.ToString(s.StateMessage); m != "" {
			why += ": " + m
		}
	case u.opt.Encrypt && !aws.ToBool(s.Encrypted):
		why = "is not encrypted"
	case key != "" && aws.ToString(s.KmsKeyId) != "" && *s.KmsKeyId != key:
		why = "is encrypted with " + *s.KmsKeyId
	default:
		return s, nil
	}
	return nil, fault.New(fault.Upload, fmt.Errorf("--aws-resume %s: the snapshot %s", u.opt.Resume, why), "start again without --aws-resume")
}

// tagOf returns the value of a tag, "" where there is none.
func tagOf(s *types.Snapshot, key string) string {
	for _, t := range s.Tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// otherDisk is the error of a snapshot that holds something else than the disk.
func (r *run) otherDisk() error {
	return fault.New(fault.Upload, fmt.Errorf("--aws-resume %s: the snapshot %w", r.opt.Resume, errOtherDisk),
		"resume with the same image and flags, or start again without --aws-resume")
}

// keyARN returns the KMS key as EBS wants it, nil without one.
func (u *Uploader) keyARN() *string {
	switch key := u.opt.KMSKey; {
	case key == "":
		return nil
	case keyIDForm.MatchString(key):
		return aws.String(fmt.Sprintf("arn:%s:kms:%s:%s:key/%s", u.partition, u.opt.Region, u.account, key))
	default:
		return aws.String(key)
	}
}

// keyHint is the hint where a key that may not be used is a likely cause: EBS
// finds out late, and says so in the state of the snapshot only.
func (u *Uploader) keyHint() string {
	if !u.opt.Encrypt {
		return ""
	}
	return "see whether the caller may use the KMS key: kms:GenerateDataKeyWithoutPlaintext, kms:ReEncrypt*, kms:CreateGrant, kms:DescribeKey"
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
