package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"imgbuild/fault"
)

// undo removes something that an upload made.
type undo struct {
	what string
	fn   func(context.Context) error
}

// onFailure has fn called when the upload fails later on. The last one added is
// called first.
func (r *run) onFailure(what string, fn func(context.Context) error) {
	r.undo = append(r.undo, undo{what, fn})
}

func (r *run) removeOnFailure(client *ec2.Client, snapshot string) {
	r.onFailure("snapshot "+snapshot, func(ctx context.Context) error {
		err := r.deleteSnapshot(ctx, client, snapshot)
		if err == nil {
			removeJournal(r.opt.Journals, snapshot)
			r.snapshot = ""
		}
		return err
	})
}

// keeps tells whether the snapshot of a failed upload stays, to be resumed.
func (r *run) keeps() bool { return r.opt.Keep || r.opt.Resume != "" }

// cleanUp removes what a failed upload made, and returns its error with the names
// of what is still there.
func (r *run) cleanUp(ctx context.Context, cause error) error {
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	var left []string
	again := "" // the first hint about what could not be removed
	for _, u := range slices.Backward(r.undo) {
		if err := u.fn(ctx); err != nil {
			err = r.explain("not removed", err)
			left = append(left, fmt.Sprintf("%s (%s)", u.what, err))
			again = orElse(again, fault.HintOf(err))
		}
	}
	class, hint := fault.Upload, fault.HintOf(cause)
	if errors.As(cause, new(*fault.Error)) {
		class = fault.ClassOf(cause)
	}
	if interrupted {
		class, cause, hint = fault.Interrupted, fmt.Errorf("upload interrupted%w", hidden{cause}), ""
	}
	if len(left) > 0 {
		if again != "" && again != hint {
			hint = strings.TrimPrefix(hint+"; "+again, "; ")
		}
		cause = fmt.Errorf("%w; left behind in %s: %s", cause, r.opt.Region, strings.Join(left, ", "))
	}
	if r.snapshot != "" && r.opt.Method == EBS && !errors.Is(cause, errOtherDisk) {
		cause = fmt.Errorf("%w; snapshot %s is kept", cause, r.snapshot)
		hint = strings.TrimPrefix(hint+"; --aws-resume "+r.snapshot+" goes on with it", "; ")
	}
	return fault.New(class, cause, hint)
}

// settle returns a context for a request that makes something: when ctx ends, the
// answer, which names it, is still waited for for a while.
func settle(ctx context.Context) (context.Context, context.CancelFunc) {
	settled, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(settleTime, func() { cancel(ctx.Err()) })
	})
	return settled, func() {
		stop()
		cancel(nil)
	}
}

// newToken returns a token of the SDK's own for a request that may be sent again.
// One derived from the disk would bring back a snapshot of an earlier upload of
// the same disk, even one that was deleted since.
func (u *Uploader) newToken() (*string, error) {
	t, err := u.ebs.Options().IdempotencyTokenProvider.GetIdempotencyToken()
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return aws.String(t), nil
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// escapeFilter quotes what filters of EC2 take for wildcards.
func escapeFilter(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(s)
}
