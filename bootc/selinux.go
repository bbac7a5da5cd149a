package bootc

import (
	"fmt"
	"strings"

	"imgbuild/tree"
)

const selinuxDir = "etc/selinux"

// selinux reads which policy the system is labelled for. Without a config, or
// with SELinux disabled in it, there is none.
func (r *reader) selinux(image *Image) error {
	content, p, err := r.firstText(selinuxDir + "/config")
	if err != nil || p == "" {
		return err
	}
	policy, mode := parseSELinux(content)
	if mode == "" {
		return nil
	}
	if !tree.ValidName(policy) || hasControl(policy) {
		return bad(fmt.Errorf("%s: SELINUXTYPE %q is not the name of a policy", p, policy), "")
	}
	contexts := selinuxDir + "/" + policy + "/contexts/files/file_contexts"
	if i, err := r.file(contexts); err != nil {
		return err
	} else if i == nil {
		return bad(fmt.Errorf("%s names the policy %q, but the image has no %s", p, policy, contexts),
			"install the policy, or set SELINUX=disabled")
	}
	image.SELinuxType, image.SELinuxEnforcing = policy, mode == "enforcing"
	return nil
}

// parseSELinux returns the policy's name and "enforcing", "permissive" or, where
// nothing is to be labelled, "". Lines are read as libostree reads them: the
// last policy counts, and any line that enables SELinux.
func parseSELinux(content string) (policy, mode string) {
	for line := range strings.SplitSeq(content, "\n") {
		if v, ok := strings.CutPrefix(line, "SELINUXTYPE="); ok {
			policy = strings.TrimSpace(v)
		} else if v, ok := strings.CutPrefix(line, "SELINUX="); ok {
			for _, m := range []string{"enforcing", "permissive"} {
				if len(v) >= len(m) && strings.EqualFold(v[:len(m)], m) {
					mode = m
				}
			}
		}
	}
	return policy, mode
}
