package bootc

import (
	"fmt"

	"imgbuild/tree"
)

// OverlayRoot tells whether the commit root boots with an overlay as its root,
// so that what layers add outside /usr can be seen: when prepare-root.conf
// enables composefs or has root.transient set. bootc asks the encapsulated base
// of an image (ostree_prepareroot.rs); a value for composefs that it does not
// know counts as none.
func OverlayRoot(root *tree.Inode) (bool, error) {
	r := &reader{root: root}
	content, p, err := r.firstText("etc/"+prepareRootPath, "usr/lib/"+prepareRootPath)
	if err != nil || p == "" {
		return false, err
	}
	kf, err := parseKeyfile(p, content)
	if err != nil {
		return false, err
	}
	transient, err := kf.bool("root", "transient")
	if err != nil {
		return false, bad(fmt.Errorf("%s: %w", p, err), "")
	}
	mode, err := parseComposefsMode(kf)
	return transient || err == nil && mode != ComposefsNo, nil
}
