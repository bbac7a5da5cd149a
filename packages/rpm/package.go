package rpm

import (
	"strconv"
	"strings"

	"imgbuild/packages"
)

// Bits of the flags of dependencies (rpmds.h).
const (
	senseLess    = 1 << 1
	senseGreater = 1 << 2
	senseEqual   = 1 << 3
	senseRPMLib  = 1 << 24 // a feature of RPM itself
)

// keyRing is the name of packages that hold keys, and nothing is installed of.
const keyRing = "gpg-pubkey"

// newPackage returns the package of a header, nil where it is none.
func newPackage(h *header) (*packages.Package, error) {
	p := &packages.Package{Type: packages.RPM}
	var version, release, vendor, packager string
	for _, f := range []struct {
		tag tag
		to  *string
	}{
		{tagName, &p.Name}, {tagVersion, &version}, {tagRelease, &release}, {tagSummary, &p.Summary}, {tagVendor, &vendor},
		{tagLicense, &p.License}, {tagPackager, &packager}, {tagURL, &p.Homepage}, {tagArch, &p.Arch}, {tagSourceRPM, &p.Source},
	} {
		var err error
		if *f.to, err = h.text(f.tag); err != nil {
			return nil, err
		}
	}
	if p.Name == "" || p.Name == keyRing {
		return nil, nil
	}
	p.Version = version + "-" + release
	epoch, err := h.ints(tagEpoch)
	if err != nil {
		return nil, err
	}
	if len(epoch) > 0 {
		p.Version = strconv.FormatUint(uint64(epoch[0]), 10) + ":" + p.Version
	}
	p.Summary, _, _ = strings.Cut(p.Summary, "\n")
	if p.Supplier = vendor; vendor == "" {
		p.Supplier = packager
	}
	if err := provides(h, p); err != nil {
		return nil, err
	}
	return p, requires(h, p)
}

// relation is one entry of a list of dependencies.
type relation struct {
	name, version string
	flags         uint32
}

// relations reads a list of dependencies.
func relations(h *header, name, version, flags tag) ([]relation, error) {
	names, err := h.strings(name)
	if err != nil {
		return nil, err
	}
	versions, err := h.strings(version)
	if err != nil {
		return nil, err
	}
	bits, err := h.ints(flags)
	if err != nil {
		return nil, err
	}
	list := make([]relation, len(names))
	for i, n := range names {
		list[i].name = n
		if i < len(versions) {
			list[i].version = versions[i]
		}
		if i < len(bits) {
			list[i].flags = bits[i]
		}
	}
	return list, nil
}

// exact returns how a capability with its version is written, "" without one.
func (r *relation) exact() string {
	if r.version == "" || r.flags&(senseLess|senseGreater|senseEqual) != senseEqual {
		return ""
	}
	return r.name + " = " + r.version
}

func provides(h *header, p *packages.Package) error {
	list, err := relations(h, tagProvideName, tagProvideVersion, tagProvideFlags)
	if err != nil {
		return err
	}
	for _, r := range list {
		p.Provides = append(p.Provides, r.name)
		if e := r.exact(); e != "" {
			p.Provides = append(p.Provides, e)
		}
	}
	return nil
}

// requires reads what a package requires. Conditions ("(a if b)") are left out: they
// need not hold.
func requires(h *header, p *packages.Package) error {
	list, err := relations(h, tagRequireName, tagRequireVersion, tagRequireFlags)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.flags&senseRPMLib != 0 || strings.HasPrefix(r.name, "(") || strings.HasPrefix(r.name, "rpmlib(") {
			continue
		}
		var req packages.Requirement
		if e := r.exact(); e != "" {
			req = append(req, e)
		}
		req = append(req, r.name)
		// What was moved below /usr is still asked for where it was.
		for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
			if strings.HasPrefix(r.name, dir) {
				req = append(req, "/usr"+r.name)
			}
		}
		p.Requires = append(p.Requires, req)
	}
	return nil
}

// addFiles makes those of the files of a package that others require capabilities of
// it.
func addFiles(h *header, p *packages.Package, wanted map[string]bool) error {
	old, err := h.strings(tagOldFileNames)
	if err != nil {
		return err
	}
	for _, name := range old {
		if wanted[name] {
			p.Provides = append(p.Provides, name)
		}
	}
	base, err := h.strings(tagBaseNames)
	if err != nil {
		return err
	}
	dirs, err := h.strings(tagDirNames)
	if err != nil {
		return err
	}
	index, err := h.ints(tagDirIndexes)
	if err != nil {
		return err
	}
	for i, name := range base {
		if i >= len(index) || uint64(index[i]) >= uint64(len(dirs)) {
			break
		}
		dir := dirs[index[i]]
		if len(dir)+len(name) <= maxPath && wanted[dir+name] {
			p.Provides = append(p.Provides, dir+name)
		}
	}
	return nil
}

// maxPath is more than any path that is required, in bytes.
const maxPath = 4096
