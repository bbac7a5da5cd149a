package aws

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"imgbuild/fault"
)

// rootDevice is the name of the root volume, that of bootc-image-builder's AMIs.
const rootDevice = "/dev/sda1"

// codeNameTaken is the error code of a second AMI of one name.
const codeNameTaken = "InvalidAMIName.Duplicate"

// tags are those of the snapshot and of the AMI.
func (u *Uploader) tags() []Tag {
	list := []Tag{{"Name", u.opt.Name}}
	for _, t := range u.opt.Tags {
		if t.Key == "Name" {
			list[0] = t
			continue
		}
		list = append(list, t)
	}
	return list
}

func ec2Tags(tags []Tag) []types.Tag {
	var list []types.Tag
	for _, t := range tags {
		list = append(list, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	return list
}

// description is what snapshots and AMI say of themselves.
func (u *Uploader) description() *string {
	if u.opt.Description != "" {
		return aws.String(u.opt.Description)
	}
	return aws.String("imgbuild: " + u.opt.Name)
}

// registration is the request that makes an AMI of a snapshot.
func (u *Uploader) registration(snapshot, arch string, mode BootMode) *ec2.RegisterImageInput {
	in := &ec2.RegisterImageInput{
		Name: aws.String(u.opt.Name), Description: u.description(),
		Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		RootDeviceName: aws.String(rootDevice),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String(rootDevice),
			Ebs: &types.EbsBlockDevice{
				SnapshotId: aws.String(snapshot), VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(true),
			},
		}},
		BootMode:   types.BootModeValues(mode),
		EnaSupport: aws.Bool(true), SriovNetSupport: aws.String("simple"),
		ImdsSupport:       types.ImdsSupportValuesV20,
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: ec2Tags(u.tags())}},
	}
	if arch == "arm64" {
		in.Architecture = types.ArchitectureValuesArm64
	}
	if u.opt.TPM {
		in.TpmSupport = types.TpmSupportValuesV20
	}
	return in
}

// register makes the AMI. RegisterImage takes no token, so one whose answer was
// lost is looked for by its name and snapshot.
func (r *run) register(ctx context.Context) (string, error) {
	r.progress.Stage("register "+r.opt.Name, 0)
	making, done := settle(ctx)
	defer done()
	out, err := r.ec2.RegisterImage(making, r.registration(r.snapshot, r.disk.Arch, r.mode))
	id := ""
	switch {
	case err == nil:
		id = aws.ToString(out.ImageId)
	case isCode(err, codeNameTaken):
		// By ourselves, in an attempt before the last?
		if found, err2 := r.findImage(making, r.ec2, r.snapshot); err2 == nil && found != "" {
			id, err = found, nil
		}
	case lost(err):
		r.onFailure("perhaps the AMI "+r.opt.Name, func(ctx context.Context) error {
			id, err := r.findImage(ctx, r.ec2, r.snapshot)
			if err != nil || id == "" {
				return err
			}
			return deregister(ctx, r.ec2, id)
		})
	}
	if err != nil {
		return "", r.explain("register image "+r.opt.Name, err)
	}
	if id == "" {
		return "", fault.New(fault.Upload, errors.New("register image: the answer names none"), "")
	}
	r.onFailure("AMI "+id, func(ctx context.Context) error { return deregister(ctx, r.ec2, id) })
	return id, nil
}

// findImage returns the caller's AMI of the name that is made of the snapshot,
// or of any snapshot without one; "" where there is none.
func (u *Uploader) findImage(ctx context.Context, client *ec2.Client, snapshot string) (string, error) {
	out, err := client.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"},
		// A disabled one has its name still.
		IncludeDisabled: aws.Bool(true),
		Filters:         []types.Filter{{Name: aws.String("name"), Values: []string{escapeFilter(u.opt.Name)}}},
	})
	if err != nil {
		return "", err
	}
	for _, image := range out.Images {
		if aws.ToString(image.Name) != u.opt.Name {
			continue
		}
		if snapshot == "" || contains(snapshotsOf(&image), snapshot) {
			return aws.ToString(image.ImageId), nil
		}
	}
	return "", nil
}

// snapshotsOf lists the snapshots that an AMI is made of.
func snapshotsOf(image *types.Image) []string {
	var list []string
	for _, m := range image.BlockDeviceMappings {
		if m.Ebs != nil && aws.ToString(m.Ebs.SnapshotId) != "" {
			list = append(list, *m.Ebs.SnapshotId)
		}
	}
	return list
}

func deregister(ctx context.Context, client *ec2.Client, id string) error {
	_, err := client.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &id})
	return ignore(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable")
}

// inUseTries is how often a snapshot is deleted that is in use: it still is for a
// while when the AMI made of it is gone.
const inUseTries = 6

func (u *Uploader) deleteSnapshot(ctx context.Context, client *ec2.Client, id string) error {
	for n := 1; ; n++ {
		_, err := client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		if !isCode(err, "InvalidSnapshot.InUse") || n == inUseTries || u.pause(ctx) != nil {
			return ignore(err, codeNoSnapshot)
		}
	}
}

// copyAll copies the AMI to the other regions, all at once, and waits for them.
func (r *run) copyAll(ctx context.Context, id string) ([]Copy, error) {
	if len(r.opt.CopyTo) == 0 {
		return nil, nil
	}
	// A copy is made of an AMI that is available.
	if _, err := r.awaitImage(ctx, r.ec2, id); err != nil {
		return nil, err
	}
	r.progress.Stage("copy to "+strings.Join(r.opt.CopyTo, ", "), 0)
	var copies []Copy
	for _, region := range r.opt.CopyTo {
		made, err := r.copyTo(ctx, region, id)
		if err != nil {
			return nil, err
		}
		copies = append(copies, Copy{Region: region, ImageID: made})
	}
	for i := range copies {
		c := &copies[i]
		image, err := r.awaitImage(ctx, r.in(c.Region), c.ImageID)
		if err != nil {
			return nil, fmt.Errorf("copy to %s: %w", c.Region, err)
		}
		if list := snapshotsOf(image); len(list) > 0 {
			c.SnapshotID = list[0]
		}
		r.progress.Note(fmt.Sprintf("%s is available in %s", c.ImageID, c.Region))
	}
	return copies, nil
}

// copyTo starts a copy.
func (r *run) copyTo(ctx context.Context, region, id string) (string, error) {
	client := r.in(region)
	in := r.copyRequest(region, id)
	var err error
	if in.ClientToken, err = r.newToken(); err != nil {
		return "", err
	}
	making, done := settle(ctx)
	defer done()
	out, err := client.CopyImage(making, in)
	if lost(err) {
		r.onFailure("perhaps the AMI "+r.opt.Name+" in "+region, func(ctx context.Context) error {
			out, err := client.CopyImage(ctx, in)
			if err != nil || out.ImageId == nil {
				return err
			}
			return r.removeCopy(ctx, client, *out.ImageId)
		})
	}
	if err != nil {
		return "", r.explain("copy to "+region, err)
	}
	made := aws.ToString(out.ImageId)
	if made == "" {
		return "", fault.New(fault.Upload, fmt.Errorf("copy to %s: the answer names no AMI", region), "")
	}
	r.onFailure(fmt.Sprintf("AMI %s in %s", made, region), func(ctx context.Context) error { return r.removeCopy(ctx, client, made) })
	return made, nil
}

func (u *Uploader) copyRequest(region, id string) *ec2.CopyImageInput {
	in := &ec2.CopyImageInput{
		Name: aws.String(u.opt.Name), Description: u.description(), SourceImageId: &id, SourceRegion: aws.String(u.opt.Region),
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: ec2Tags(u.tags())},
			{ResourceType: types.ResourceTypeSnapshot, Tags: ec2Tags(u.tags())},
		},
	}
	if u.opt.Encrypt {
		in.Encrypted = aws.Bool(true)
		if u.opt.KMSKey != "" {
			in.KmsKeyId = aws.String(u.opt.keyIn(region))
		}
	}
	return in
}

// removeCopy removes an AMI and its snapshots.
func (u *Uploader) removeCopy(ctx context.Context, client *ec2.Client, id string) error {
	out, err := client.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	if err = ignore(err, "InvalidAMIID.NotFound"); err != nil {
		return err
	}
	if err := deregister(ctx, client, id); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	for i := range out.Images {
		for _, s := range snapshotsOf(&out.Images[i]) {
			if err := u.deleteSnapshot(ctx, client, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitImage waits until an AMI is available.
func (r *run) awaitImage(ctx context.Context, client *ec2.Client, id string) (*types.Image, error) {
	for unknown := 0; ; {
		out, err := client.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
		switch {
		case isCode(err, "InvalidAMIID.NotFound") && unknown < 24:
			// Not known everywhere yet.
			unknown++
		case err != nil:
			return nil, r.explain("AMI "+id, err)
		case len(out.Images) == 0:
			return nil, fault.New(fault.Upload, fmt.Errorf("AMI %s: is not there", id), "")
		default:
			image := &out.Images[0]
			switch image.State {
			case types.ImageStateAvailable:
				return image, nil
			case types.ImageStatePending, types.ImageStateTransient:
			default:
				why := string(image.State)
				if image.StateReason != nil {
					why = orElse(aws.ToString(image.StateReason.Message), why)
				}
				return nil, fault.New(fault.Upload, fmt.Errorf("AMI %s: %s", id, why), r.keyHint())
			}
		}
		if err := r.pause(ctx); err != nil {
			return nil, err
		}
	}
}

// publish shares the AMI and its copies, and sets when they are deprecated: no
// copy inherits either.
func (r *run) publish(ctx context.Context, result *Result) error {
	all := append([]Copy{{result.Region, result.ImageID, result.SnapshotID}}, result.Copies...)
	for _, c := range all {
		client := r.in(c.Region)
		if len(r.opt.Share) > 0 {
			if err := r.share(ctx, client, c); err != nil {
				return err
			}
		}
		if !r.opt.DeprecateAt.IsZero() {
			_, err := client.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: &c.ImageID, DeprecateAt: &r.opt.DeprecateAt})
			if err != nil {
				return r.explain("deprecation of "+c.ImageID, err)
			}
		}
	}
	return nil
}

// share lets other accounts launch the AMI and make volumes of its snapshot.
func (r *run) share(ctx context.Context, client *ec2.Client, c Copy) error {
	if _, err := client.ModifyImageAttribute(ctx, r.shareImage(c.ImageID)); err != nil {
		return r.explain("share "+c.ImageID, err)
	}
	if c.SnapshotID == "" {
		return nil
	}
	_, err := client.ModifySnapshotAttribute(ctx, r.shareSnapshot(c.SnapshotID))
	return r.explain("share "+c.SnapshotID, err)
}

func (u *Uploader) shareImage(id string) *ec2.ModifyImageAttributeInput {
	add := &types.LaunchPermissionModifications{}
	for _, account := range u.opt.Share {
		add.Add = append(add.Add, types.LaunchPermission{UserId: aws.String(account)})
	}
	return &ec2.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: add}
}

func (u *Uploader) shareSnapshot(id string) *ec2.ModifySnapshotAttributeInput {
	return &ec2.ModifySnapshotAttributeInput{
		SnapshotId: &id, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
		OperationType: types.OperationTypeAdd, UserIds: u.opt.Share,
	}
}
