package units

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"imgbuild/fault"
	"imgbuild/tree"
)

// enable is systemctl enable of one unit, which may be a path.
func (in *installer) enable(unit string) error {
	name, p := unit, ""
	if strings.HasPrefix(unit, "/") {
		name, p = "", unit
	}
	i, err := in.add(name, p, false)
	if err == nil {
		i, err = in.traverse(i, true)
	}
	if err != nil {
		return usage(err)
	}
	if i.mode == masked {
		return usage(fmt.Errorf("unit %s %w", i.name, errMasked))
	}
	rules := in.apply()
	if len(in.failures) > 0 {
		return usage(errors.Join(in.failures...))
	}
	if rules == 0 {
		in.warn("unit %s has no [Install] section, so there is nothing to enable: it is started by other units, if at all", unit)
	}
	return nil
}

func usage(err error) error { return fault.Default(fault.Usage, err) }

// apply is install_context_apply: it makes the links of all units in the queue and
// returns the number of rules that there were. What fails is in in.failures.
func (in *installer) apply() (rules int) {
	for len(in.queue) > 0 {
		i := in.queue[0]
		in.queue = in.queue[1:]
		if _, err := in.traverse(i, false); err != nil {
			if i.auxiliary {
				in.warn("the unit %s, which is to be enabled as well, cannot be: %v", i.name, err)
				continue
			}
			in.fail(err)
			return rules
		}
		if i.mode == masked {
			in.warn("unit %s is masked, so it is not enabled", i.name)
			rules++
			continue
		}
		if i.mode == regular {
			rules += in.links(i)
		}
	}
	return rules
}

// links is install_info_apply.
func (in *installer) links(i *info) (rules int) {
	if !slices.Contains(searchPath, path.Dir(i.path)) && !in.link(i.path, path.Join(configPath, i.name), false) {
		return 0
	}
	rules = in.aliasLinks(i)
	rules += in.wantsLinks(i, i.wantedBy, ".wants")
	rules += in.wantsLinks(i, i.requiredBy, ".requires")
	rules += in.wantsLinks(i, i.upheldBy, ".upholds")
	return rules
}

// aliasLinks is install_info_symlink_alias.
func (in *installer) aliasLinks(i *info) (rules int) {
	for _, s := range i.aliases {
		name, err := in.expand(i, s)
		if err == nil {
			name, err = aliasName(i, name)
		}
		p := path.Join(configPath, name)
		if err == nil && name != "" {
			_, err = in.sys.RealPath(p)
		}
		switch {
		case err != nil:
			in.fail(err)
		case name == "":
		default:
			broken := in.sys.Lookup(p) == nil
			if in.link(i.path, p, broken) {
				rules++
			}
		}
	}
	return rules
}

// aliasName is unit_file_verify_alias: the path below configPath of an alias, ""
// where the unit has that name already.
func aliasName(i *info, alias string) (string, error) {
	bad := fmt.Errorf("unit %s cannot have the alias %s", i.name, alias)
	if dir, name, ok := cutLast(alias); ok {
		// A way to make .wants links of before WantedBy=.
		target, ok := strings.CutSuffix(dir, ".wants")
		if !ok {
			target, ok = strings.CutSuffix(dir, ".requires")
		}
		k := classify(target)
		if !ok || k == invalidName || !compatible(name, i.name, k == templateName) {
			return "", bad
		}
		return alias, nil
	}
	if classify(alias) == templateName && classify(i.name) == instanceName {
		_, instance, _ := split(i.name)
		alias = withInstance(alias, instance)
	}
	switch validAlias(alias, i.name) {
	case none:
		return alias, nil
	case selfAlias:
		return "", nil
	}
	return "", bad
}

// cutLast cuts at the last slash.
func cutLast(p string) (dir, name string, ok bool) {
	k := strings.LastIndexByte(p, '/')
	if k < 0 {
		return "", "", false
	}
	return p[:k], p[k+1:], true
}

// wantsLinks is install_info_symlink_wants.
func (in *installer) wantsLinks(i *info, units []string, suffix string) (rules int) {
	if len(units) == 0 {
		return 0
	}
	name, anyKind := i.name, true
	if classify(i.name) == templateName {
		if i.defaultInstance == "" {
			anyKind = false // the instance is that of the unit that wants it
		} else if name = withInstance(i.name, i.defaultInstance); name == "" {
			in.fail(fmt.Errorf("unit %s cannot have the instance %s", i.name, i.defaultInstance))
			return 0
		} else if m, err := in.fresh().find(name); err != nil {
			in.fail(err)
			return 0
		} else if m == masked {
			in.fail(fmt.Errorf("unit %s %w", name, errMasked))
			return 0
		}
	}
	for _, s := range units {
		wanting, err := in.expand(i, s)
		k := classify(wanting)
		switch {
		case err != nil:
		case k == invalidName:
			err = fmt.Errorf("unit %s is to be wanted by %q, which is not the name of a unit", i.name, wanting)
		case !anyKind && k == plainName:
			err = fmt.Errorf("template %s needs an instance to be wanted by %s", i.name, wanting)
		}
		if err != nil {
			in.fail(err)
			continue
		}
		if in.link(i.path, path.Join(configPath, wanting+suffix, name), true) {
			rules++
		}
		if !in.fresh().exists(wanting) {
			in.warn("unit %s is to be started by %s, which does not exist in the image", i.name, wanting)
		}
	}
	return rules
}

// fresh returns an installer that knows no units yet.
func (in *installer) fresh() *installer {
	return &installer{sys: in.sys, known: map[string]*info{}}
}

// find searches for a unit and tells how it is installed.
func (in *installer) find(name string) (mode, error) {
	i := &info{name: name}
	err := in.search(i)
	return i.mode, err
}

// exists is unit_file_exists. A unit that cannot be read exists.
func (in *installer) exists(name string) bool {
	i, err := in.add(name, "", false)
	if err == nil {
		_, err = in.traverse(i, false)
	}
	return !errors.Is(err, errNotFound)
}

// link is create_symlink. It reports whether the link is there.
func (in *installer) link(target, p string, force bool) bool {
	old := in.lstat(p)
	if old != nil {
		if !old.IsLink() {
			in.fail(fmt.Errorf("%s exists and is no symbolic link", p))
			return false
		}
		if in.equivalent(p, old.Target, target) {
			return true
		}
		if !force {
			in.fail(fmt.Errorf("%s exists and is a link to %s", p, old.Target))
			return false
		}
	}
	if err := in.sys.Link(p, target); err != nil {
		in.fail(err)
		return false
	}
	return true
}

// equivalent is chroot_unit_symlinks_equivalent: whether two targets of the link p
// are the same unit.
func (in *installer) equivalent(p, a, b string) bool {
	abs := func(target string) string {
		if strings.HasPrefix(target, "/") {
			return path.Clean(target)
		}
		return path.Clean(path.Dir(p) + "/" + target)
	}
	a, b = abs(a), abs(b)
	if a == b {
		return true
	}
	if i := in.sys.Lookup(a); i != nil && i == in.sys.Lookup(b) {
		return true
	}
	inPath := func(p string) bool {
		return slices.ContainsFunc(searchPath, func(dir string) bool { return below(p, dir) })
	}
	return path.Base(a) == path.Base(b) && inPath(a) && inPath(b)
}

// mask is systemctl mask of one unit.
func (in *installer) mask(unit string) error {
	in.link("/dev/null", path.Join(configPath, unit), false)
	return usage(errors.Join(in.failures...))
}

// disable is systemctl disable of one unit.
func (in *installer) disable(unit string) error {
	i, err := in.add(unit, "", false)
	if err == nil {
		_, err = in.traverse(i, true)
	}
	if err != nil {
		return usage(err)
	}
	installable := len(i.aliases)+len(i.wantedBy)+len(i.requiredBy)+len(i.upheldBy)+len(i.also) > 0
	remove := map[string]bool{}
	for len(in.queue) > 0 {
		i := in.queue[0]
		in.queue = in.queue[1:]
		switch _, err := in.traverse(i, true); {
		case err == nil && i.mode == masked:
			in.warn("unit %s is masked, so it is not disabled", i.name)
			continue
		case err == nil && i.mode != regular:
			continue
		case err != nil && !errors.Is(err, errDangling) && (!i.auxiliary || !errors.Is(err, errNotFound)):
			in.fail(err)
		}
		// What cannot be found or read goes by its name.
		remove[i.name] = true
	}
	removed, err := in.unlink(remove)
	if err != nil {
		in.fail(err)
	}
	if len(in.failures) > 0 {
		return usage(errors.Join(in.failures...))
	}
	if removed == 0 && !installable {
		in.warn("unit %s has no [Install] section and no links, so there is nothing to disable", unit)
	}
	return nil
}

// unlink is remove_marked_symlinks: it removes the links below configPath that
// have one of the names or lead to a unit of it, the links to those, and the
// directories that are empty then. With --root systemctl forgets about the links
// to removed links when it meets them too late; here it is as it is without.
func (in *installer) unlink(names map[string]bool) (removed int, err error) {
	root := in.sys.Lookup(configPath)
	if root == nil || !root.IsDir() || len(names) == 0 {
		return 0, nil
	}
	for again := true; again; {
		again = false
		// The directories are changed while they are walked.
		var links []string
		collect(root, configPath, &links)
		for _, p := range links {
			found, err := in.marked(names, p)
			if err != nil {
				return removed, err
			}
			if !found {
				continue
			}
			if _, err := in.sys.Remove(p); err != nil {
				return removed, err
			}
			removed++
			in.prune(root, path.Dir(p))
			if !names[p] {
				names[p], again = true, true
			}
		}
	}
	return removed, nil
}

// collect lists the symbolic links with names of units below a directory.
func collect(dir *tree.Inode, p string, links *[]string) {
	for _, e := range dir.Entries() {
		switch {
		case e.Inode.IsDir():
			collect(e.Inode, p+"/"+e.Name, links)
		case e.Inode.IsLink() && classify(e.Name) != invalidName:
			*links = append(*links, p+"/"+e.Name)
		}
	}
}

// marked tells whether a link is to be removed.
func (in *installer) marked(names map[string]bool, p string) (bool, error) {
	name := path.Base(p)
	if names[name] || names[template(name)] {
		return true, nil
	}
	real, err := in.sys.RealPath(p)
	if err != nil {
		return false, fmt.Errorf("%s: %w", p, err)
	}
	return names[real] || names[path.Base(real)], nil
}

// prune removes a directory and its parents up to configPath while they are empty.
func (in *installer) prune(root *tree.Inode, dir string) {
	for dir != configPath {
		parent := tree.Lookup(root, strings.TrimPrefix(path.Dir(dir), configPath))
		if d := parent.Child(path.Base(dir)); d.Len() > 0 {
			return
		}
		parent.Remove(path.Base(dir))
		dir = path.Dir(dir)
	}
}
