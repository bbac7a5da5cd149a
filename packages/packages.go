// Package packages is what package databases say is installed: names, versions,
// licences, sources and what depends on what, the same for all package managers.
// The packages below it read the databases; package sbom writes what they found.
//
// Package URLs are those of the purl specification (ECMA-427) with the types deb,
// rpm, apk and alpm; licences are expressions of SPDX 2.3, Annex D, with the
// identifiers of the SPDX licence list 3.27, as far as older tools know them.
package packages

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of what a database may hold. Debian has 65,000 packages in all.
const (
	MaxPackages  = 200_000
	MaxRelations = 8 << 20 // capabilities and requirements of all packages
	MaxField     = 1 << 20 // bytes of one value
	MaxDatabase  = 1 << 30 // bytes of all files of a database
)

// ErrTooMany is returned for a database with more than MaxPackages or MaxRelations.
var ErrTooMany = errors.New("more packages, or relations between them, than there can be")

// Type is the kind of a package, as purl has it.
type Type string

// The types.
const (
	Deb  Type = "deb"
	RPM  Type = "rpm"
	APK  Type = "apk"
	ALPM Type = "alpm"
)

// Package is an installed package.
type Package struct {
	Type     Type
	Name     string
	Version  string // with epoch and release, as its own tools print it
	Arch     string // likewise
	Summary  string // one line
	License  string // as the database says, "" where it says nothing
	Supplier string // who packaged it: "Name <mail>", or a name
	Homepage string
	// Source is the name of the source package, and SourceVersion its version; of
	// RPM it is the name of the file of both, without a version.
	Source, SourceVersion string

	// Provides are the capabilities that requirements are looked up by, beside the
	// name. Requires are those that the package has, in order.
	Provides []string
	Requires []Requirement
	// Depends are the packages that have what this one requires, as indexes of the
	// list that Resolve made, ascending.
	Depends []int
}

// Requirement is something that a package needs: the first of the alternatives that
// anything provides.
type Requirement []string

// Compare orders packages by name, version and architecture.
func Compare(a, b *Package) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Arch, b.Arch))
}

// List gathers the packages of a database, within the limits.
type List struct {
	Packages  []*Package
	relations int
}

// Add adds a package. The error is ErrTooMany.
func (l *List) Add(p *Package) error {
	if l.Packages = append(l.Packages, p); len(l.Packages) > MaxPackages {
		return ErrTooMany
	}
	n := len(p.Provides)
	for _, r := range p.Requires {
		n += len(r)
	}
	return l.Count(n)
}

// Count counts relations that a package got after it was added.
func (l *List) Count(n int) error {
	if l.relations += n; l.relations > MaxRelations {
		return ErrTooMany
	}
	return nil
}

// Resolve puts the packages of a database in order, and works out which of them
// depend on which. The same package twice is there once. The error is ErrTooMany:
// of 100,000 packages that need what all of them provide, each depends on all.
func Resolve(list []*Package) ([]*Package, error) {
	slices.SortStableFunc(list, Compare)
	list = slices.CompactFunc(list, func(a, b *Package) bool { return Compare(a, b) == 0 })
	names, provided := map[string][]int{}, map[string][]int{}
	for i, p := range list {
		names[p.Name] = append(names[p.Name], i)
		for _, c := range p.Provides {
			if l := provided[c]; len(l) == 0 || l[len(l)-1] != i {
				provided[c] = append(l, i)
			}
		}
	}
	depends := 0
	for i, p := range list {
		p.Depends = nil
		for _, r := range p.Requires {
			for _, alternative := range r {
				found := names[alternative]
				if len(found) == 0 {
					found = provided[alternative]
				}
				if len(found) == 0 {
					continue
				}
				if depends += len(found); depends > MaxRelations {
					return nil, ErrTooMany
				}
				p.Depends = append(p.Depends, sameArch(list, found, p.Arch)...)
				break
			}
		}
		slices.Sort(p.Depends)
		p.Depends = slices.Compact(p.Depends)
		p.Depends = slices.DeleteFunc(p.Depends, func(k int) bool { return k == i })
	}
	return list, nil
}

// sameArch leaves of several packages those of the architecture, where there are
// such.
func sameArch(list []*Package, found []int, arch string) []int {
	if len(found) == 1 {
		return found
	}
	var same []int
	for _, k := range found {
		if list[k].Arch == arch {
			same = append(same, k)
		}
	}
	if len(same) > 0 {
		return same
	}
	return found
}

// OS is the operating system that the packages are of, by its os-release.
type OS struct {
	ID, VersionID, Name, PrettyName, CPE, HomeURL string
}

// ValidCPE tells whether a name of a system is one of CPE, in the form of 2.2 as
// os-release has it, or of 2.3.
func ValidCPE(s string) bool {
	rest, old := strings.CutPrefix(s, "cpe:/")
	if !old {
		var ok bool
		if rest, ok = strings.CutPrefix(s, "cpe:2.3:"); !ok || strings.Count(rest, ":") != 10 {
			return false
		}
	} else if strings.Count(rest, ":") > 6 {
		return false
	}
	if rest == "" || strings.IndexByte("aho", rest[0]) < 0 || len(rest) > 1 && rest[1] != ':' {
		return false
	}
	return !strings.ContainsFunc(rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-~%:", r) && (old || r != '*')
	})
}

// Inventory is all that is installed.
type Inventory struct {
	OS       OS
	Packages []*Package // those of each database together
}

// PURL returns the package URL of a package on a system.
func (p *Package) PURL(os OS) string {
	namespace := os.ID
	if p.Type == RPM && namespace == "rhel" {
		namespace = "redhat"
	}
	var q [][2]string // in the order of their keys
	add := func(key, value string) {
		if value != "" {
			q = append(q, [2]string{key, value})
		}
	}
	version := p.Version
	add("arch", p.Arch)
	if os.ID != "" && os.VersionID != "" {
		add("distro", os.ID+"-"+os.VersionID)
	} else {
		add("distro", os.ID)
	}
	if p.Type == RPM {
		if epoch, rest, ok := strings.Cut(version, ":"); ok {
			version = rest
			add("epoch", epoch)
		}
	}
	switch {
	case p.Source == "":
	case p.SourceVersion != "" && p.SourceVersion != p.Version:
		add("upstream", p.Source+"@"+p.SourceVersion)
	case p.Source != p.Name:
		add("upstream", p.Source)
	}
	return FormatPURL(string(p.Type), namespace, p.Name, version, q)
}

// FormatPURL writes a package URL. Qualifiers are in the order of their keys.
func FormatPURL(typ, namespace, name, version string, qualifiers [][2]string) string {
	var b strings.Builder
	b.WriteString("pkg:" + typ)
	if namespace != "" {
		b.WriteString("/" + escape(strings.ToLower(namespace)))
	}
	b.WriteString("/" + escape(name))
	if version != "" {
		b.WriteString("@" + escape(version))
	}
	for i, q := range qualifiers {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(q[0] + "=" + escape(q[1]))
	}
	return b.String()
}

// escape writes all bytes as %XX that purl does not allow in names, versions and
// values of qualifiers.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(".-_~:", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
