//go:build !linux

package scripts

import (
	"context"
	"errors"

	"imgbuild/fault"
	"imgbuild/kickstart"
)

var errLinux = fault.New(fault.Unsupported, errors.New("scripts of a kickstart run on Linux only"), "")

// RunPre runs the scripts %pre.
func RunPre(_ context.Context, list []kickstart.Script, _ Options) error {
	return other(list, kickstart.Pre)
}

// RunPost runs the scripts %post.
func RunPost(_ context.Context, list []kickstart.Script, _ *Target, _ Options) error {
	return other(list, kickstart.Post)
}

func other(list []kickstart.Script, stage kickstart.Stage) error {
	for i := range list {
		if list[i].Stage == stage {
			return failure(&list[i], errLinux)
		}
	}
	return nil
}
