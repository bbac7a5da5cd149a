package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/pipeline"
	"imgbuild/upload/aws"
)

// awsFlags are those of AMIs, as typed.
type awsFlags struct {
	name, description, region, profile, endpoint string
	method, bucket, role, bootMode, key          string
	deprecate, resume                            string
	tags, share, copyTo                          []string
	tpm, encrypt, keep                           bool
}

func (f *awsFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.name, "aws-ami-name", "", "name of the AMI to make of the disk")
	s.StringVar(&f.region, "aws-region", "", "its region (default: what AWS_REGION or the profile says)")
	s.StringVar(&f.bucket, "aws-bucket", "", "bucket of the region to go by, for VM Import")
	s.StringVar(&f.method, "aws-upload", "", "how to upload: ebs, which needs neither bucket nor role, or s3 (default: ebs, with a bucket s3)")
	s.StringVar(&f.role, "aws-role-name", "", "role that VM Import acts in (default: vmimport)")
	s.StringVar(&f.description, "aws-description", "", "description of AMI and snapshot")
	s.StringArrayVar(&f.tags, "aws-tag", nil, "KEY=VALUE: tag of AMI and snapshot; may be repeated")
	s.StringVar(&f.bootMode, "aws-boot-mode", "", "legacy-bios, uefi or uefi-preferred (default: what the disk boots by)")
	s.BoolVar(&f.tpm, "aws-tpm", false, "give its machines a TPM 2.0")
	s.BoolVar(&f.encrypt, "aws-encrypt", false, "encrypt the snapshot, with the account's default key")
	s.StringVar(&f.key, "aws-kms-key", "", "encrypt the snapshot with this KMS key")
	s.StringSliceVar(&f.share, "aws-share", nil, "ACCOUNT that may use AMI and snapshot; may be repeated")
	s.StringSliceVar(&f.copyTo, "aws-copy-to", nil, "REGION to copy the AMI to; may be repeated")
	s.StringVar(&f.deprecate, "aws-deprecate-after", "", "when the AMI is deprecated: 90d, or a date or time such as 2030-06-30")
	s.StringVar(&f.profile, "aws-profile", "", "profile of ~/.aws to take settings and credentials from (default: AWS_PROFILE)")
	s.StringVar(&f.endpoint, "aws-endpoint-url", "", "URL of the AWS API to use (default: AWS' own)")
	s.BoolVar(&f.keep, "aws-keep-snapshot", false, "keep the snapshot of an upload that fails, to be resumed")
	s.StringVar(&f.resume, "aws-resume", "", "SNAPSHOT of an upload that failed, to go on with")
}

// awsUpload hands disks to AWS, and keeps what became of them.
type awsUpload struct {
	*aws.Uploader
	results []*aws.Result
}

var _ pipeline.Uploader = (*awsUpload)(nil)

// Upload implements pipeline.Uploader.
func (u *awsUpload) Upload(ctx context.Context, m pipeline.Machine, p pipeline.Progress) error {
	r, err := u.Uploader.Upload(ctx, aws.Disk{Image: m.Image, Arch: m.Arch, UEFI: m.UEFI, BIOS: m.BIOS}, p)
	if err == nil {
		u.results = append(u.results, r)
	}
	return err
}

// given tells whether any of the flags was typed, and returns its name.
func (f *awsFlags) given(cmd *cobra.Command) string {
	first := ""
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if strings.HasPrefix(flag.Name, "aws-") && first == "" {
			first = flag.Name
		}
	})
	return first
}

// uploader returns what the flags ask for. State of uploads is kept below cache,
// "" keeps none.
func (f *awsFlags) uploader(ctx context.Context, cache string) (*awsUpload, error) {
	o := aws.Options{
		Name: f.name, Description: f.description, Region: f.region, Profile: f.profile, Endpoint: f.endpoint,
		Bucket: f.bucket, Role: f.role, TPM: f.tpm, Encrypt: f.encrypt, KMSKey: f.key,
		Share: f.share, CopyTo: f.copyTo, Resume: f.resume, Keep: f.keep,
	}
	if cache != "" {
		o.Journals = filepath.Join(cache, "aws")
	}
	var err error
	if o.Method, err = aws.ParseMethod(f.method); err != nil {
		return nil, err
	}
	if o.BootMode, err = aws.ParseBootMode(f.bootMode); err != nil {
		return nil, err
	}
	for _, text := range f.tags {
		t, err := aws.ParseTag(text)
		if err != nil {
			return nil, err
		}
		o.Tags = append(o.Tags, t)
	}
	if f.deprecate != "" {
		if o.DeprecateAt, err = aws.ParseDeprecation(f.deprecate, time.Now()); err != nil {
			return nil, err
		}
	}
	u, err := aws.New(ctx, o)
	if err != nil {
		return nil, err
	}
	return &awsUpload{Uploader: u}, nil
}
