package bootc

import "fmt"

// ComposefsMode is how a system uses composefs for its root: what
// composefs.enabled of prepare-root.conf says.
type ComposefsMode string

const (
	ComposefsNo     ComposefsMode = "no"
	ComposefsMaybe  ComposefsMode = "maybe"  // where the deployment has an image
	ComposefsYes    ComposefsMode = "yes"    // the image must be there
	ComposefsVerity ComposefsMode = "verity" // and all files must have the fs-verity digests it records
	ComposefsSigned ComposefsMode = "signed" // and the commit must be signed
)

const prepareRootPath = "ostree/prepare-root.conf"

// bindingKeyPath is where ostree-prepare-root looks for public keys unless
// composefs.keypath names another place.
const bindingKeyPath = "/etc/ostree/initramfs-root-binding.key"

// prepareRoot reads the configuration of ostree-prepare-root. The boot itself
// goes by the copy in the initramfs.
func (r *reader) prepareRoot(image *Image) error {
	content, p, err := r.firstText("etc/"+prepareRootPath, "usr/lib/"+prepareRootPath)
	if err != nil {
		return err
	}
	if p == "" {
		return bad(fmt.Errorf("the image has no %s in usr/lib or etc", prepareRootPath),
			"a bootc image has it, and a copy in the initramfs; build FROM a bootc base image")
	}
	return image.parsePrepareRoot(p, content)
}

// parsePrepareRoot sets what a prepare-root.conf says.
func (image *Image) parsePrepareRoot(p, content string) error {
	kf, err := parseKeyfile(p, content)
	if err != nil {
		return err
	}
	if image.Composefs, err = parseComposefsMode(kf); err != nil {
		return bad(fmt.Errorf("%s: %w", p, err), "")
	}
	image.ComposefsKeys = kf[[2]string{"composefs", "keypath"}]
	if image.ComposefsKeys == "" {
		image.ComposefsKeys = bindingKeyPath
	}
	transientRO := false
	for _, b := range []struct {
		to         *bool
		group, key string
	}{
		{&image.RootTransient, "root", "transient"},
		{&transientRO, "root", "transient-ro"},
		{&image.EtcTransient, "etc", "transient"},
	} {
		if *b.to, err = kf.bool(b.group, b.key); err != nil {
			return bad(fmt.Errorf("%s: %w", p, err), "")
		}
	}
	if image.RootTransient && transientRO {
		return bad(fmt.Errorf("%s: both root.transient and root.transient-ro are set", p), "")
	}
	image.RootTransient = image.RootTransient || transientRO
	return nil
}

func parseComposefsMode(kf keyfile) (ComposefsMode, error) {
	v, ok := kf[[2]string{"composefs", "enabled"}]
	if !ok {
		return ComposefsNo, nil
	}
	switch v {
	case "yes", "true", "1":
		return ComposefsYes, nil
	case "no", "false", "0":
		return ComposefsNo, nil
	case "maybe", "verity", "signed":
		return ComposefsMode(v), nil
	}
	return "", fmt.Errorf("composefs.enabled: %q is none of yes, no, maybe, verity, signed", v)
}

// bool returns the boolean value of a key as GLib has it, false where there is
// none.
func (kf keyfile) bool(group, key string) (bool, error) {
	switch v := kf[[2]string{group, key}]; v {
	case "true", "1":
		return true, nil
	case "false", "0", "":
		return false, nil
	default:
		return false, fmt.Errorf("%s.%s: %q is neither true nor false", group, key, v)
	}
}
