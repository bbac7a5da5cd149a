package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"imgbuild/customize"
	"imgbuild/trust"
)

// maxPolicy is the most that is read of the image's policy, in bytes.
const maxPolicy = 4 << 20

// checkPolicy warns when the installed system has to verify signatures and has a
// policy that bootc takes no update by: none, or one that accepts anything by
// default (container_policy_is_default_insecure of ostree-ext). The policy itself is
// the image's affair.
func (d *disks) checkPolicy(sys *system, id identity, p Progress) error {
	if !strings.HasPrefix(d.origin, "ostree-image-signed:") {
		return nil
	}
	s := customize.New(sys.merged, d.sysroot.Etc, d.sysroot.Var, d.time, id.bytes)
	text, err := readPolicy(s)
	if err != nil {
		return err
	}
	const then = "the installed system has to verify signatures (--enforce-container-sigpolicy), but "
	switch policy, err := trust.Parse(text, ""); {
	case text == nil:
		p.Warn(then + "has no /etc/containers/policy.json: it will not take updates")
	case err != nil:
		p.Warn(fmt.Sprintf("%sits policy.json cannot be read, and it will not take updates: %v", then, err))
	case policy.AcceptsByDefault():
		p.Warn(then + "its policy.json accepts anything by default, which bootc refuses: it will not take updates until the default is another one")
	}
	return nil
}

// readPolicy returns the policy of the installed system, nil without one.
func readPolicy(s *customize.System) ([]byte, error) {
	for _, name := range []string{"etc/containers/policy.json", "usr/share/containers/policy.json"} {
		text, err := s.ReadFile(name, maxPolicy)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return text, err
	}
	return nil, nil
}
