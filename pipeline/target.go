package pipeline

import (
	"fmt"
	"strings"

	"imgbuild/bootc"
	"imgbuild/fault"
	"imgbuild/oci"
)

// target is the image reference that the installed system follows.
type target struct {
	name     string // without transport
	imageRef string // with transport, as in ostree's refs: docker://name
	origin   string // container-image-reference of the origin file
	warning  string
}

// newTarget works out what the system follows: --target-imgref, else the
// reference the image was read from.
func newTarget(o *Options, facts *bootc.Image) (target, error) {
	signed := o.SigPolicy
	if e := facts.Install.EnforceContainerSigpolicy; e != nil && *e {
		signed = true
	}
	text := o.Target
	for _, prefix := range []string{"ostree-unverified-registry:", "ostree-unverified-image:", "ostree-image-signed:"} {
		rest, ok := strings.CutPrefix(text, prefix)
		if !ok {
			continue
		}
		signed = signed || prefix == "ostree-image-signed:"
		text = rest
	}
	text = strings.TrimPrefix(text, "registry:")
	ref := o.called()
	if text != "" {
		var err error
		if ref, err = oci.ParseReference(text); err != nil {
			return target{}, fault.New(fault.Usage, fmt.Errorf("--target-imgref: %w", err), fault.HintOf(err))
		}
	}
	t := target{name: ref.Name(), imageRef: ref.ImageRef()}
	registry := ref.Transport() == "registry"
	switch {
	case signed:
		t.origin = "ostree-image-signed:" + t.imageRef
	case registry:
		t.origin = "ostree-unverified-registry:" + t.name
	default:
		t.origin = "ostree-unverified-image:" + t.imageRef
	}
	if registry && ref.Registry() == "localhost" && o.Target == "" {
		t.warning = fmt.Sprintf("the installed system will look for updates at a registry on itself, %s; --target-imgref names another one", t.name)
	}
	if !registry && o.Target == "" {
		t.warning = fmt.Sprintf("the installed system will look for updates at %s; --target-imgref names a registry instead", t.imageRef)
	}
	return t, nil
}
