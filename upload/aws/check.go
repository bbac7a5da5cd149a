package aws

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"imgbuild/fault"
)

// Check asks for what would make an upload fail, before there is a disk: it
// changes nothing. arch is the GOARCH name of the image's architecture.
func (u *Uploader) Check(ctx context.Context, arch string) error {
	if err := u.opt.checkArch(arch); err != nil {
		return err
	}
	who, err := u.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return u.explain("credentials", u.noSuchRegion(err))
	}
	u.account, u.caller, u.partition = aws.ToString(who.Account), aws.ToString(who.Arn), "aws"
	if a, err := arn.Parse(u.caller); err == nil {
		u.partition = a.Partition
	}
	if err := u.checkRegions(ctx); err != nil {
		return err
	}
	for _, region := range append([]string{u.opt.Region}, u.opt.CopyTo...) {
		id, err := u.findImage(ctx, u.in(region), "")
		if err != nil {
			return u.explain("AMI name", err)
		}
		if id != "" {
			return fault.New(fault.Upload, fmt.Errorf("AMI name %q: is taken by %s in %s", u.opt.Name, id, region),
				"choose another one with --aws-ami-name, or deregister "+id)
		}
	}
	if u.opt.Method == S3 {
		if err := u.checkBucket(ctx); err != nil {
			return err
		}
	}
	if u.opt.Resume != "" {
		if _, err := u.resumable(ctx); err != nil {
			return err
		}
	}
	return u.dryRuns(ctx, arch)
}

// checkRegions asks whether the account has the regions.
func (u *Uploader) checkRegions(ctx context.Context) error {
	out, err := u.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{AllRegions: aws.Bool(true)})
	if isDenied(err) {
		// Nothing but this check needs it.
		return nil
	}
	if err != nil {
		return u.explain("regions", u.noSuchRegion(err))
	}
	status := map[string]string{}
	for _, r := range out.Regions {
		status[aws.ToString(r.RegionName)] = aws.ToString(r.OptInStatus)
	}
	for _, region := range append([]string{u.opt.Region}, u.opt.CopyTo...) {
		s, ok := status[region]
		switch {
		case !ok:
			return fault.New(fault.Upload, fmt.Errorf("region %s: AWS has none of that name", region), similar(region, status))
		case s == "not-opted-in":
			return fault.New(fault.Upload, fmt.Errorf("region %s: the account has not enabled it", region), "enable it in the account's settings, or choose another")
		}
	}
	return nil
}

// noSuchRegion replaces the error of a region whose endpoint has no address.
func (u *Uploader) noSuchRegion(err error) error {
	if isNoHost(err) && u.opt.Endpoint == "" {
		return fault.New(fault.Upload, fmt.Errorf("region %s: %w", u.opt.Region, hostError(err)), "see whether the region is spelled right, and the network up")
	}
	return err
}

// similar returns a hint that names the regions of the same part of the world.
func similar(region string, known map[string]string) string {
	area, _, _ := strings.Cut(region, "-")
	var list []string
	for name := range known {
		if strings.HasPrefix(name, area+"-") {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return "in " + area + " there are " + strings.Join(list, ", ")
}

// Names of nothing, for dry runs.
const (
	noSnapshot = "snap-00000000000000000"
	noImage    = "ami-00000000000000000"
)

// dryRuns asks EC2 for the permissions that the upload needs. EBS direct APIs
// have no dry run. An answer that is about anything but permissions says nothing.
func (u *Uploader) dryRuns(ctx context.Context, arch string) error {
	dry := aws.Bool(true)
	type question struct {
		what string
		ask  func() error
	}
	list := []question{{"register image", func() error {
		mode := UEFI
		if u.opt.BootMode != "" {
			mode = u.opt.BootMode
		}
		in := u.registration(noSnapshot, arch, mode)
		in.DryRun = dry
		_, err := u.ec2.RegisterImage(ctx, in)
		return err
	}}, {"delete snapshot", func() error {
		_, err := u.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(noSnapshot), DryRun: dry})
		return err
	}}}
	if u.opt.Method == EBS {
		list = append(list, question{"describe snapshots", func() error {
			_, err := u.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{noSnapshot}, DryRun: dry})
			return err
		}})
	} else {
		list = append(list, question{"import snapshot", func() error {
			in := &ec2.ImportSnapshotInput{DryRun: dry}
			u.importSettings(in)
			_, err := u.ec2.ImportSnapshot(ctx, in)
			return err
		}}, question{"describe import tasks", func() error {
			_, err := u.ec2.DescribeImportSnapshotTasks(ctx, &ec2.DescribeImportSnapshotTasksInput{DryRun: dry})
			return err
		}}, question{"tag snapshot", func() error {
			_, err := u.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{noSnapshot}, Tags: ec2Tags(u.tags()), DryRun: dry})
			return err
		}})
	}
	for _, region := range u.opt.CopyTo {
		list = append(list, question{"copy to " + region, func() error {
			in := u.copyRequest(region, noImage)
			in.DryRun = dry
			_, err := u.in(region).CopyImage(ctx, in)
			return err
		}})
	}
	if len(u.opt.Share) > 0 {
		list = append(list, question{"share image", func() error {
			in := u.shareImage(noImage)
			in.DryRun = dry
			_, err := u.ec2.ModifyImageAttribute(ctx, in)
			return err
		}}, question{"share snapshot", func() error {
			in := u.shareSnapshot(noSnapshot)
			in.DryRun = dry
			_, err := u.ec2.ModifySnapshotAttribute(ctx, in)
			return err
		}})
	}
	if !u.opt.DeprecateAt.IsZero() {
		list = append(list, question{"deprecation", func() error {
			_, err := u.ec2.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{
				ImageId: aws.String(noImage), DeprecateAt: &u.opt.DeprecateAt, DryRun: dry})
			return err
		}})
	}
	for _, q := range list {
		err := q.ask()
		if errors.Is(err, context.Canceled) || isDenied(err) || isCredentials(err) {
			return u.explain(q.what, err)
		}
	}
	return nil
}
