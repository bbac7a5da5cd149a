package installer

import (
	"context"
	"fmt"
	"os"
	"time"

	"imgbuild/fault"
	"imgbuild/installer/scripts"
	"imgbuild/pipeline"
)

// nodeTime is how long the kernel may take to make the nodes of new partitions.
const nodeTime = 30 * time.Second

// Install implements Machine: the scripts of a kickstart run before and after.
func (m *machine) Install(ctx context.Context, job *Job, p pipeline.Progress) error {
	run := scripts.Options{Output: job.Output}
	if k := job.Kickstart; k != nil {
		if err := scripts.RunPre(ctx, k.Scripts, run); err != nil {
			return err
		}
	}
	o := pipeline.InstallOptions{Options: job.Options, Disk: job.Disk, Scratch: m.scratch(ctx)}
	o.TempDir, o.Getenv = "/tmp", os.Getenv
	r, err := pipeline.Install(ctx, o, p)
	if err != nil {
		return err
	}
	if r.BootEntry != "" {
		p.Note("boot entry " + r.BootEntry)
	}
	if job.Kickstart == nil || len(job.Kickstart.Scripts) == 0 {
		return nil
	}
	p.Stage("run the kickstart's scripts", 0)
	m.modules.all(ctx, []string{"ext4", "xfs", "btrfs", "vfat"})
	var missing error
	target, err := scripts.NewTarget(r.Plan, func(number int) string {
		node := partitionNode(job.Disk.Path, number)
		if err := waitFor(node); err != nil {
			missing = err
		}
		return node
	})
	if err == nil {
		err = missing
	}
	if err == nil {
		err = scripts.RunPost(ctx, job.Kickstart.Scripts, target, run)
	}
	if err != nil {
		return fault.New(fault.ClassOf(err), fmt.Errorf("the system is installed, but: %w", err), fault.HintOf(err))
	}
	return nil
}

// partitionNode returns the node of a partition, as the kernel names it.
func partitionNode(disk string, number int) string {
	if c := disk[len(disk)-1]; c >= '0' && c <= '9' {
		disk += "p"
	}
	return fmt.Sprintf("%s%d", disk, number)
}

// waitFor waits for a node to be there.
func waitFor(path string) error {
	for end := time.Now().Add(nodeTime); ; time.Sleep(pollTime) {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
