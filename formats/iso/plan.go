package iso

import (
	"context"
	"errors"
	"os"

	"imgbuild/fault"
	"imgbuild/tree"
)

// plan is an ISO with an address for everything.
type plan struct{}

func newPlan(root *tree.Inode, opt Options) (*plan, error) {
	return nil, fault.New(fault.Unsupported, errors.New("this version writes no ISO"), "")
}

func (p *plan) size() int64 { return 0 }

func (p *plan) write(ctx context.Context, f *os.File) error { return nil }
