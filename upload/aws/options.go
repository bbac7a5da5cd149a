package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"imgbuild/fault"
)

// Method is how a disk becomes a snapshot.
type Method string

// The methods, as users name them.
const (
	EBS Method = "ebs" // EBS direct APIs
	S3  Method = "s3"  // by way of a bucket and VM Import
)

// BootMode is a boot mode of an AMI, by EC2's names.
type BootMode string

// The boot modes.
const (
	LegacyBIOS    BootMode = "legacy-bios"
	UEFI          BootMode = "uefi"
	UEFIPreferred BootMode = "uefi-preferred" // UEFI where the instance type has it
)

// Tag is a tag of a resource.
type Tag struct{ Key, Value string }

// Options say what to make of a disk. The zero value of a field is its default.
type Options struct {
	Name        string // of the AMI; required
	Description string
	Region      string // "" is that of the SDK's default chain
	Profile     string // of the shared config files; "" is that of the chain
	Endpoint    string // URL of all services, in place of AWS'
	Method      Method // "" is S3 with a bucket, else EBS
	Bucket      string
	Role        string   // that VM Import acts in; "" is vmimport
	BootMode    BootMode // "" is what the disk boots by
	TPM         bool     // NitroTPM 2.0
	Encrypt     bool     // with KMSKey, else with the account's default key
	KMSKey      string   // key ID, or ARN, or with S3 an alias; implies Encrypt
	Tags        []Tag    // beside Name
	Share       []string // accounts
	CopyTo      []string // regions
	DeprecateAt time.Time
	Resume      string // snapshot to go on with
	Keep        bool   // of a failed upload, keep the snapshot to be resumed
	Journals    string // directory for what is known of snapshots under way; "" keeps nothing

	tuning tuning // of tests
}

// tuning are the times that tests cannot wait for.
type tuning struct{ answerTime, backoff, poll time.Duration }

// Limits of the APIs.
const (
	gib = 1 << 30
	// maxVolume is the largest volume of EBS, in GiB.
	maxVolume = 64 << 10
	// maxObject is what S3 takes as one object.
	maxObject = 5 << 40
	maxTags   = 50
)

var (
	regionForm = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./'@_-]{3,128}$`)
	// Of descriptions EC2 refuses what is not ASCII, and only when it is asked to
	// register the AMI.
	descriptionForm = regexp.MustCompile(`^[ -~]*$`)
	endpointForm    = regexp.MustCompile(`^https?://[^/]`)

	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	snapForm    = regexp.MustCompile(`^snap-[0-9a-f]{8,32}$`)
	bucketForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	keyIDForm   = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
	keyARNForm  = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/.+$`)
)

// ParseMethod returns the method called name.
func ParseMethod(name string) (Method, error) {
	switch m := Method(name); m {
	case "", EBS, S3:
		return m, nil
	}
	return "", usage(fmt.Errorf("--aws-upload %q: unknown", name), "ebs or s3")
}

// ParseBootMode returns the boot mode called name.
func ParseBootMode(name string) (BootMode, error) {
	switch m := BootMode(name); m {
	case "", LegacyBIOS, UEFI, UEFIPreferred:
		return m, nil
	}
	return "", usage(fmt.Errorf("--aws-boot-mode %q: unknown", name), "legacy-bios, uefi or uefi-preferred")
}

// ParseTag reads KEY=VALUE.
func ParseTag(text string) (Tag, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return Tag{}, usage(fmt.Errorf("--aws-tag %q: no KEY=VALUE", text), "")
	}
	return Tag{key, value}, nil
}

// ParseDeprecation reads a time at which an AMI is deprecated: a date, a time in
// RFC 3339, or a number of days from now on, as in 90d.
func ParseDeprecation(text string, now time.Time) (time.Time, error) {
	bad := func(why string) (time.Time, error) {
		return time.Time{}, usage(fmt.Errorf("--aws-deprecate-after %q: %s", text, why), "90d, 2027-06-30 or 2027-06-30T12:00:00Z")
	}
	var at time.Time
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return bad("no number of days")
		}
		at = now.Add(time.Duration(n) * 24 * time.Hour)
	} else if t, err := time.Parse(time.DateOnly, text); err == nil {
		at = t
	} else if t, err := time.Parse(time.RFC3339, text); err == nil {
		at = t
	} else {
		return bad("neither days nor a date")
	}
	at = at.UTC().Truncate(time.Minute) // as EC2 has it
	switch {
	case !at.After(now):
		return bad("is not in the future")
	case at.After(now.AddDate(10, 0, 0)):
		return bad("EC2 allows ten years at most")
	}
	return at, nil
}

// validate checks what needs neither network nor disk, and fills in defaults.
func (o *Options) validate() error {
	if o.Method == "" {
		o.Method = EBS
		if o.Bucket != "" {
			o.Method = S3
		}
	}
	if o.KMSKey != "" {
		o.Encrypt = true
	}
	for _, t := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.tuning.answerTime, answerTime}, {&o.tuning.backoff, maxBackoff}, {&o.tuning.poll, pollEvery}} {
		if *t.value == 0 {
			*t.value = t.standard
		}
	}
	switch {
	case o.Name == "":
		return usage(errors.New("no name for the AMI"), "give one with --aws-ami-name")
	case !nameForm.MatchString(o.Name):
		return usage(fmt.Errorf("AMI name %q: EC2 does not take it", o.Name), "3 to 128 letters, digits, spaces and ()[]./-'@_")
	case len(o.Description) > 255:
		return usage(errors.New("AMI description: longer than 255 characters"), "")
	case !descriptionForm.MatchString(o.Description):
		return usage(fmt.Errorf("AMI description %q: EC2 takes ASCII only", o.Description), "")
	case o.Endpoint != "" && !endpointForm.MatchString(o.Endpoint):
		return usage(fmt.Errorf("--aws-endpoint-url %q: no URL", o.Endpoint), "it looks like https://ec2.example.com")
	case o.Method == S3 && o.Bucket == "":
		return usage(errors.New("upload by S3 needs a bucket"), "name one with --aws-bucket, or use --aws-upload ebs, which needs none")
	case o.Method == EBS && o.Bucket != "":
		return usage(errors.New("--aws-upload ebs and a bucket: EBS direct needs none"), "drop --aws-bucket, or use --aws-upload s3")
	case o.Bucket != "" && !bucketForm.MatchString(o.Bucket):
		return usage(fmt.Errorf("bucket %q: no name that S3 knows", o.Bucket), "")
	case o.Method == EBS && o.Role != "":
		return usage(errors.New("--aws-role-name: only VM Import acts in a role"), "drop it, or use --aws-upload s3")
	case o.Resume != "" && o.Method == S3:
		return usage(errors.New("--aws-resume: only EBS direct uploads can be resumed"), "use --aws-upload ebs without a bucket")
	case o.Resume != "" && !snapForm.MatchString(o.Resume):
		return usage(fmt.Errorf("--aws-resume %q: no snapshot", o.Resume), "it looks like snap-0123456789abcdef0")
	case o.Keep && o.Method == S3:
		return usage(errors.New("--aws-keep-snapshot: only EBS direct uploads can be resumed"), "")
	}
	if err := o.validateTags(); err != nil {
		return err
	}
	for _, a := range o.Share {
		if !accountForm.MatchString(a) {
			return usage(fmt.Errorf("--aws-share %q: no AWS account", a), "twelve digits")
		}
	}
	if len(o.Share) > 0 && o.Encrypt && o.KMSKey == "" {
		return usage(errors.New("--aws-share with the account's default key: other accounts cannot use it"), "name a key that they may use with --aws-kms-key")
	}
	return nil
}

func (o *Options) validateTags() error {
	seen := map[string]bool{"Name": true}
	maxKey, maxValue := 128, 256
	if o.Method == EBS {
		maxKey, maxValue = 127, 255 // of StartSnapshot
	}
	if len(o.Tags) > maxTags-len(ownTags) {
		return usage(fmt.Errorf("%d tags: EC2 takes %d at most", len(o.Tags), maxTags-len(ownTags)), "")
	}
	for _, t := range o.Tags {
		switch {
		case utf8.RuneCountInString(t.Key) > maxKey || utf8.RuneCountInString(t.Value) > maxValue:
			return usage(fmt.Errorf("tag %q: longer than AWS takes", t.Key), fmt.Sprintf("keys have %d characters at most, values %d", maxKey, maxValue))
		case t.Key == diskTag:
			return usage(fmt.Errorf("tag %q: is what imgbuild finds the snapshot by when the upload is resumed", t.Key), "choose another key")
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return usage(fmt.Errorf("tag %q: keys that begin with aws: are Amazon's", t.Key), "")
		case t.Key == "Name" && len(o.Tags) > 0 && seen["Name by the user"], t.Key != "Name" && seen[t.Key]:
			return usage(fmt.Errorf("tag %q: given twice", t.Key), "")
		}
		seen[t.Key] = true
		if t.Key == "Name" {
			seen["Name by the user"] = true
		}
	}
	return nil
}

// validateRegions checks the regions, and the key against them.
func (o *Options) validateRegions() error {
	seen := map[string]bool{o.Region: true}
	for i, region := range append([]string{o.Region}, o.CopyTo...) {
		if !regionForm.MatchString(region) {
			return usage(fmt.Errorf("region %q: no name of one", region), "it looks like eu-central-1")
		}
		if i > 0 && seen[region] {
			return usage(fmt.Errorf("--aws-copy-to %s: the AMI is there already", region), "")
		}
		seen[region] = true
	}
	if o.KMSKey == "" {
		return nil
	}
	alias := strings.HasPrefix(o.KMSKey, "alias/") || strings.Contains(o.KMSKey, ":alias/")
	switch {
	case !alias && !keyIDForm.MatchString(o.KMSKey) && !keyARNForm.MatchString(o.KMSKey):
		return usage(fmt.Errorf("KMS key %q: neither key ID, ARN nor alias", o.KMSKey), "")
	case alias && o.Method == EBS:
		return usage(fmt.Errorf("KMS key %q: EBS direct takes no alias", o.KMSKey), "name the key itself, by its ID or ARN")
	case keyRegion(o.KMSKey) != "" && keyRegion(o.KMSKey) != o.Region:
		return usage(fmt.Errorf("KMS key %q: is not in %s", o.KMSKey, o.Region), "name one of the region")
	case len(o.CopyTo) > 0 && !strings.HasPrefix(o.KMSKey, "alias/") && !strings.Contains(o.KMSKey, "mrk-"):
		return usage(fmt.Errorf("KMS key %q: is not in the regions that the AMI is copied to", o.KMSKey), "use a multi-Region key (mrk-…)")
	}
	return nil
}

// keyRegion returns the region that the ARN of a key names, "" of a mere ID or alias.
func keyRegion(key string) string {
	if parts := strings.SplitN(key, ":", 5); len(parts) == 5 {
		return parts[3]
	}
	return ""
}

// keyIn returns the KMS key as a region names it: multi-Region keys have one ID
// everywhere, and the region stands in the ARN.
func (o *Options) keyIn(region string) string {
	parts := strings.SplitN(o.KMSKey, ":", 5)
	if len(parts) == 5 {
		parts[3] = region
	}
	return strings.Join(parts, ":")
}

// bootMode returns the boot mode of the AMI of a disk.
func (o *Options) bootMode(d Disk) (BootMode, error) {
	mode := o.BootMode
	if mode == "" {
		switch {
		case d.Arch == "arm64", d.UEFI && !d.BIOS, d.UEFI && o.TPM:
			mode = UEFI
		case d.UEFI:
			mode = UEFIPreferred
		default:
			mode = LegacyBIOS
		}
	}
	if err := o.checkArch(d.Arch); err != nil {
		return "", err
	}
	switch {
	case mode == LegacyBIOS && o.TPM:
		return "", usage(errors.New("--aws-tpm: a TPM needs UEFI"), "use a disk that boots by UEFI")
	case (mode == UEFI || mode == UEFIPreferred) && !d.UEFI:
		return "", usage(fmt.Errorf("boot mode %s: the disk does not boot by UEFI", mode), "--aws-boot-mode legacy-bios")
	case (mode == LegacyBIOS || mode == UEFIPreferred) && !d.BIOS:
		return "", usage(fmt.Errorf("boot mode %s: the disk does not boot by BIOS", mode), "--aws-boot-mode uefi")
	}
	return mode, nil
}

// checkArch refuses what EC2 has no machines for.
func (o *Options) checkArch(arch string) error {
	switch {
	case arch != "amd64" && arch != "arm64":
		return fault.New(fault.Unsupported, fmt.Errorf("architecture %s: EC2 has no such machines", arch), "it has amd64 and arm64")
	case arch == "arm64" && o.BootMode != "" && o.BootMode != UEFI:
		return usage(fmt.Errorf("boot mode %s: arm64 machines of EC2 boot by UEFI only", o.BootMode), "--aws-boot-mode uefi")
	case o.TPM && o.BootMode != "" && o.BootMode != UEFI:
		return usage(errors.New("--aws-tpm: a TPM needs UEFI"), "--aws-boot-mode uefi, with a disk that boots by UEFI")
	}
	return nil
}

// volumeSize returns the size in GiB of the volume for a disk of n bytes.
func (o *Options) volumeSize(n int64) (int64, error) {
	size := (n-1)/gib + 1
	switch {
	case n <= 0:
		return 0, fault.New(fault.Upload, errors.New("the disk is empty"), "")
	case size > maxVolume:
		return 0, fault.New(fault.Upload, fmt.Errorf("the disk has %d GiB: a volume of EBS has %d GiB at most", size, maxVolume), "make a smaller disk, with --size")
	case o.Method == S3 && n > maxObject:
		return 0, fault.New(fault.Upload, fmt.Errorf("the disk has %d GiB: an object of S3 has %d GiB at most", size, maxObject/gib), "use --aws-upload ebs without a bucket")
	}
	return size, nil
}

// tokenBytes is how much of a disk tells it from others: the first MiB holds the
// GPT with its GUIDs.
const tokenBytes = 1 << 20

// diskToken names a disk.
func diskToken(img Image) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", img.Size())
	n := min(img.Size(), tokenBytes)
	if _, err := io.Copy(h, io.NewSectionReader(img, 0, n)); err != nil {
		return "", fmt.Errorf("disk: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

func usage(err error, hint string) error { return fault.New(fault.Usage, err, hint) }
