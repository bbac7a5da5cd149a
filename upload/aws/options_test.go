package aws

import (
	"strings"
	"testing"
	"time"

	"imgbuild/fault"
	"imgbuild/test/moto"
)

// What AWS' published rules forbid is said before anything is asked, or built.
func TestUsage(t *testing.T) {
	moto.Setenv(t)
	const id = "01234567-89ab-cdef-0123-456789abcdef"
	long := func(n int) string { return strings.Repeat("x", n) }
	many := make([]Tag, maxTags-1)
	for i := range many {
		many[i] = Tag{"k" + long(i), "v"}
	}
	for _, c := range []struct {
		name string
		set  func(o *Options)
		err  string // "" is none
	}{
		{"nothing", func(*Options) {}, ""},
		{"no name", func(o *Options) { o.Name = "" }, "no name for the AMI"},
		{"short name", func(o *Options) { o.Name = "ab" }, "EC2 does not take it"},
		{"longest name", func(o *Options) { o.Name = long(128) }, ""},
		{"long name", func(o *Options) { o.Name = long(129) }, "EC2 does not take it"},
		{"all of a name", func(o *Options) { o.Name = "aZ09()[] ./-'@_" }, ""},
		{"comma in a name", func(o *Options) { o.Name = "a,b" }, "EC2 does not take it"},
		{"line in a name", func(o *Options) { o.Name = "abc\n" }, "EC2 does not take it"},
		{"longest description", func(o *Options) { o.Description = long(255) }, ""},
		{"long description", func(o *Options) { o.Description = long(256) }, "longer than 255"},
		{"description with a dash", func(o *Options) { o.Description = "image – of today" }, "EC2 takes ASCII only"},
		{"description of two lines", func(o *Options) { o.Description = "a\nb" }, "EC2 takes ASCII only"},
		{"longest tag", func(o *Options) { o.Tags = []Tag{{long(127), long(255)}} }, ""},
		{"long key", func(o *Options) { o.Tags = []Tag{{long(128), ""}} }, "keys have 127 characters at most, values 255"},
		{"long value", func(o *Options) { o.Tags = []Tag{{"k", long(256)}} }, "keys have 127 characters at most, values 255"},
		{"longest tag by S3", func(o *Options) { o.Bucket, o.Tags = "images", []Tag{{long(128), long(256)}} }, ""},
		{"long key by S3", func(o *Options) { o.Bucket, o.Tags = "images", []Tag{{long(129), ""}} }, "keys have 128 characters at most, values 256"},
		{"most tags", func(o *Options) { o.Tags = many[:maxTags-2] }, ""},
		{"many tags", func(o *Options) { o.Tags = many }, "49 tags: EC2 takes 48 at most"},
		{"Amazon's tag", func(o *Options) { o.Tags = []Tag{{"AWS:x", "y"}} }, "are Amazon's"},
		{"tag given twice", func(o *Options) { o.Tags = []Tag{{"a", "1"}, {"a", "2"}} }, "given twice"},
		{"name given twice", func(o *Options) { o.Tags = []Tag{{"Name", "1"}, {"Name", "2"}} }, "given twice"},
		{"imgbuild's tag", func(o *Options) { o.Tags = []Tag{{diskTag, "x"}} }, "when the upload is resumed"},
		{"account", func(o *Options) { o.Share = []string{"12345678901"} }, "no AWS account"},
		{"region", func(o *Options) { o.Region = "Frankfurt" }, "no name of one"},
		{"copy to where it is", func(o *Options) { o.CopyTo = []string{home} }, "is there already"},
		{"copy twice", func(o *Options) { o.CopyTo = []string{"us-east-1", "us-east-1"} }, "is there already"},
		{"key", func(o *Options) { o.KMSKey = "arn:aws:kms:" + home + ":123456789012:key/" + id }, ""},
		{"key of another region", func(o *Options) { o.KMSKey = "arn:aws:kms:us-east-1:123456789012:key/" + id }, "is not in eu-central-1"},
		{"alias", func(o *Options) { o.KMSKey = "alias/x" }, "EBS direct takes no alias"},
		{"no key", func(o *Options) { o.KMSKey = "x" }, "neither key ID, ARN nor alias"},
		{"key that does not go along", func(o *Options) { o.KMSKey, o.CopyTo = id, []string{"us-east-1"} }, "multi-Region"},
		{"default key shared", func(o *Options) { o.Encrypt, o.Share = true, []string{"123456789012"} }, "other accounts cannot use it"},
		{"endpoint", func(o *Options) { o.Endpoint = "ec2.example.com" }, `--aws-endpoint-url "ec2.example.com": no URL`},
		{"S3 without a bucket", func(o *Options) { o.Method = S3 }, "needs a bucket"},
		{"bucket", func(o *Options) { o.Bucket = "B_" }, "no name that S3 knows"},
		{"role without a bucket", func(o *Options) { o.Role = "x" }, "only VM Import"},
		{"resume of nothing", func(o *Options) { o.Resume = "ami-1" }, "no snapshot"},
		{"resume by S3", func(o *Options) { o.Bucket, o.Resume = "images", "snap-0123456789abcdef0" }, "only EBS direct"},
	} {
		o := Options{Name: "test image", Region: home}
		c.set(&o)
		_, err := New(t.Context(), o)
		switch {
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error()+fault.HintOf(err), c.err)):
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		case err != nil && fault.ClassOf(err) != fault.Usage:
			t.Errorf("%s: class %d", c.name, fault.ClassOf(err))
		}
	}
}

func TestParseDeprecation(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("", 3600))
	for text, want := range map[string]string{
		"1d": "2026-03-05T04:06:00Z", "3650d": "2036-03-01T04:06:00Z", "2026-03-05": "2026-03-05T00:00:00Z",
		"2026-03-04T06:00:30+01:00": "2026-03-04T05:00:00Z",
		"":                          "neither", "d": "no number", "0d": "future", "-1d": "no number", "99999d": "no number", "3660d": "ten years", "2036-03-05": "ten years",
		"2026-03-04": "future", "2026-02-30": "neither", "2026-03-04T04:06:06Z": "future", "tomorrow": "neither", "90": "neither",
		// It would be over when EC2 hears of it.
		"2026-03-04T04:06:59Z": "future",
	} {
		got, err := ParseDeprecation(text, now)
		if err != nil {
			if !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.Usage {
				t.Errorf("%q: %v, want %q", text, err, want)
			}
		} else if got.Format(time.RFC3339) != want {
			t.Errorf("%q: %s, want %q", text, got.Format(time.RFC3339), want)
		}
	}
}

// What the disk can boot by becomes the boot mode.
func TestBootMode(t *testing.T) {
	for _, c := range []struct {
		disk Disk
		opt  Options
		want BootMode
		err  string
	}{
		{Disk{Arch: "amd64", UEFI: true, BIOS: true}, Options{}, UEFIPreferred, ""},
		{Disk{Arch: "amd64", UEFI: true}, Options{}, UEFI, ""},
		{Disk{Arch: "amd64", BIOS: true}, Options{}, LegacyBIOS, ""},
		{Disk{Arch: "arm64", UEFI: true}, Options{}, UEFI, ""},
		{Disk{Arch: "amd64", UEFI: true, BIOS: true}, Options{TPM: true}, UEFI, ""},
		{Disk{Arch: "amd64", UEFI: true, BIOS: true}, Options{BootMode: LegacyBIOS}, LegacyBIOS, ""},
		{Disk{Arch: "amd64", UEFI: true, BIOS: true}, Options{BootMode: UEFI}, UEFI, ""},
		{Disk{Arch: "amd64", UEFI: true}, Options{BootMode: UEFIPreferred}, "", "does not boot by BIOS"},
		{Disk{Arch: "amd64", BIOS: true}, Options{BootMode: UEFI}, "", "does not boot by UEFI"},
		{Disk{Arch: "amd64", BIOS: true}, Options{TPM: true}, "", "a TPM needs UEFI"},
		{Disk{Arch: "amd64", UEFI: true, BIOS: true}, Options{TPM: true, BootMode: UEFIPreferred}, "", "a TPM needs UEFI"},
		{Disk{Arch: "amd64", UEFI: true, BIOS: true}, Options{TPM: true, BootMode: LegacyBIOS}, "", "a TPM needs UEFI"},
		{Disk{Arch: "arm64", UEFI: true}, Options{BootMode: UEFIPreferred}, "", "arm64"},
		{Disk{Arch: "s390x"}, Options{}, "", "no such machines"},
	} {
		got, err := c.opt.bootMode(c.disk)
		if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v %+v: %q, %v", c.disk, c.opt, got, err)
		}
	}
}
