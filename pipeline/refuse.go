package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"imgbuild/fault"
)

// refusals are what the image asks for and imgbuild cannot do, the reason to
// give first coming first.
func (sys *system) refusals(o *Options) []error {
	var list []error
	refuse := func(hint, format string, args ...any) {
		list = append(list, fault.New(fault.Unsupported, fmt.Errorf(format, args...), hint))
	}
	if needsVerity(sys.facts) {
		list = append(list, sys.verityRefusals(o)...)
	}
	if b := sys.facts.Install.Block; len(b) > 0 && !slices.Contains(b, "direct") {
		refuse(`add "direct" to block in the image's install config`,
			"the image's install config allows only block setup %s, and imgbuild writes direct ones", strings.Join(b, ", "))
	}
	if n := len(sys.facts.BoundImages); n > 0 && !o.SkipBound {
		refuse("with --skip-bound-images the first boot has to pull them",
			"the image binds %d other images (%s), which imgbuild cannot place: that takes a container storage which only podman can fill",
			n, summary(sys.facts.BoundImages, 3))
	}
	caps, bootable, err := detectBootloader(sys, o)
	if err == nil {
		_, err = resolveLayout(sys, caps, bootable, o, Silent{})
	}
	if err != nil {
		list = append(list, err)
	}
	return list
}
