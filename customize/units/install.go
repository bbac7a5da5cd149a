package units

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// configPath is where links are made and removed.
const configPath = "/etc/systemd/system"

// searchPath is where units are looked for, the first one wins. The directories
// below /run that systemd searches too are empty before it runs.
var searchPath = []string{
	"/etc/systemd/system.control", configPath, "/etc/systemd/system.attached",
	"/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
}

// mode says how a unit is installed.
type mode int

const (
	unknown mode = iota
	regular
	linked // a link to a file outside of the search path
	alias  // a link to another unit
	masked
)

// info is what is known of a unit: InstallInfo.
type info struct {
	name            string
	path            string
	mode            mode
	target          string // where a linked unit or an alias leads
	aliases         []string
	wantedBy        []string
	requiredBy      []string
	upheldBy        []string
	also            []string
	defaultInstance string
	auxiliary       bool // known from Also= only
}

// installer carries one call of systemctl: InstallContext and the changes.
type installer struct {
	sys      *customize.System
	known    map[string]*info
	queue    []*info // will_process
	warnings []string
	failures []error
}

func (in *installer) warn(format string, args ...any) {
	in.warnings = append(in.warnings, fmt.Sprintf(format, args...))
}

func (in *installer) fail(err error) { in.failures = append(in.failures, err) }

// failure is a reason that the code looks at.
type failure int

const (
	none failure = iota
	invalid
	badAlias
	selfAlias
)

var (
	errNotFound  = errors.New("does not exist in the image")
	errDangling  = errors.New("is an alias of a unit that does not exist in the image")
	errMasked    = errors.New("is masked in the image")
	errLinked    = errors.New("is an alias or a linked unit in /etc/systemd/system, which is not followed")
	errDifferent = errors.New("the link leads to a unit of another name")
	errLoop      = errors.New("too many links")
)

// add is install_info_add.
func (in *installer) add(name, p string, auxiliary bool) (*info, error) {
	if name == "" {
		name = path.Base(p)
	}
	if classify(name) == invalidName {
		return nil, fmt.Errorf("%q is not the name of a unit", name)
	}
	if i := in.known[name]; i != nil {
		i.auxiliary = i.auxiliary && auxiliary
		return i, nil
	}
	i := &info{name: name, path: p, auxiliary: auxiliary}
	in.known[name] = i
	in.queue = append(in.queue, i)
	return i, nil
}

// lstat returns what is at a path whose last component is not followed, or nil.
func (in *installer) lstat(p string) *tree.Inode {
	dir := in.sys.Lookup(path.Dir(p))
	if dir == nil {
		return nil
	}
	return dir.Child(path.Base(p))
}

// empty is null_or_empty: a mask.
func empty(i *tree.Inode) bool {
	return i.IsFile() && i.Content.Size() == 0 || i.Type() == tree.TypeChar || i.Type() == tree.TypeBlock
}

// load is unit_file_load_or_readlink of the unit's file: the error wraps
// fs.ErrNotExist where there is none.
func (in *installer) load(i *info, p string) error {
	if k := classify(i.name); k != plainName && !slices.Contains(mayTemplate, unitType(i.name)) {
		return fmt.Errorf("%s: units of type %s have no templates", p, unitType(i.name))
	}
	f := in.lstat(p)
	switch {
	case f == nil:
		return fs.ErrNotExist
	case f.IsLink():
		return in.readlink(i, p, f.Target)
	case empty(f):
		i.mode = masked
		return nil
	case !f.IsFile():
		return fmt.Errorf("%s is not a regular file", p)
	}
	if err := in.parse(i, f, p); err != nil {
		return err
	}
	i.mode = regular
	return nil
}

// readlink is unit_file_resolve_symlink and what follows it.
func (in *installer) readlink(i *info, p, target string) error {
	if !strings.HasPrefix(target, "/") {
		target = path.Dir(p) + "/" + target
	}
	real, err := in.chase(target)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	i.target = real
	inside := slices.ContainsFunc(searchPath, func(dir string) bool { return below(real, dir) })
	if inside {
		switch validAlias(path.Base(p), path.Base(real)) {
		case none:
		case selfAlias:
			return fmt.Errorf("%s: %w", p, errLoop)
		default:
			return fmt.Errorf("%s: not an alias that %s can have", p, path.Base(real))
		}
	}
	if real == "/dev/null" {
		i.mode = masked
		return nil
	}
	if f := in.sys.Lookup(real); f != nil && empty(f) {
		i.mode = masked
		return nil
	}
	i.mode = linked
	if inside {
		i.mode = alias
	}
	return nil
}

// chase returns a path with all links resolved but one in the last component.
func (in *installer) chase(p string) (string, error) {
	for strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") {
		p = strings.TrimSuffix(strings.TrimSuffix(p, "."), "/")
	}
	i := strings.LastIndexByte(p, '/')
	dir, name := p[:i+1], p[i+1:]
	if name == ".." || name == "" {
		return in.sys.RealPath(p)
	}
	real, err := in.sys.RealPath(dir)
	if err != nil {
		return "", err
	}
	return path.Join(real, name), nil
}

// below tells whether a path is below a directory, or the directory.
func below(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// search is unit_file_search.
func (in *installer) search(i *info) error {
	if i.mode != unknown {
		return nil
	}
	if i.path != "" {
		return in.notFound(i, in.load(i, i.path))
	}
	names := []string{i.name}
	if classify(i.name) == instanceName {
		names = append(names, template(i.name))
	}
	for _, name := range names {
		for _, dir := range searchPath {
			p := path.Join(dir, name)
			err := in.load(i, p)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			i.path = p
			if i.mode == masked {
				return nil
			}
			return in.dropIns(i, names)
		}
	}
	return in.notFound(i, fs.ErrNotExist)
}

// notFound turns a missing file into a message about the unit.
func (in *installer) notFound(i *info, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if in.sys.Lookup("/etc/init.d/"+strings.TrimSuffix(i.name, ".service")) != nil && unitType(i.name) == "service" {
		return fault.New(fault.Unsupported, fmt.Errorf("%s is a SysV script, which only the image's own tools can set up", i.name),
			"put RUN systemctl enable "+strings.TrimSuffix(i.name, ".service")+" into the Containerfile")
	}
	return fmt.Errorf("unit %s %w", i.name, errNotFound)
}

// dropIns reads the .conf files of the .d directories of the names: of each file
// name the first one, in the order of the file names.
func (in *installer) dropIns(i *info, names []string) error {
	files := map[string]string{}
	for _, name := range names {
		for _, dir := range searchPath {
			d := path.Join(dir, name+".d")
			i := in.sys.Lookup(d)
			if i == nil {
				continue
			}
			for _, e := range i.Entries() {
				if strings.HasSuffix(e.Name, ".conf") && files[e.Name] == "" {
					files[e.Name] = path.Join(d, e.Name)
				}
			}
		}
	}
	order := make([]string, 0, len(files))
	for name := range files {
		order = append(order, name)
	}
	slices.Sort(order)
	for _, name := range order {
		p := files[name]
		f := in.sys.Lookup(p)
		if f == nil || empty(f) {
			continue
		}
		if !f.IsFile() {
			return fmt.Errorf("%s is not a regular file", p)
		}
		if err := in.parse(i, f, p); err != nil {
			return err
		}
	}
	return nil
}

// parse reads the [Install] section of a file into i.
func (in *installer) parse(i *info, f *tree.Inode, p string) error {
	text, err := f.Content.ReadAll(maxUnit)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	assignments, err := parseInstall(text)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	for _, a := range assignments {
		var list *[]string
		switch a.key {
		case "Alias":
			if !slices.Contains(mayAlias, unitType(i.name)) {
				in.warn("%s: Alias= is not allowed for units of type %s", p, unitType(i.name))
				continue
			}
			list = &i.aliases
		case "WantedBy":
			list = &i.wantedBy
		case "RequiredBy":
			list = &i.requiredBy
		case "UpheldBy":
			list = &i.upheldBy
		case "Also":
			if err := in.also(i, a.value, p); err != nil {
				return err
			}
			continue
		case "DefaultInstance":
			if err := in.setDefaultInstance(i, a.value, p); err != nil {
				return err
			}
			continue
		default:
			continue
		}
		if a.value == "" {
			*list = nil
		} else if words, ok := quotedWords(a.value); ok {
			*list = append(*list, words...)
		} else {
			in.warn("%s: %s=: a quote is not closed", p, a.key)
		}
	}
	return nil
}

// also is config_parse_also.
func (in *installer) also(i *info, value, p string) error {
	words, ok := plainWords(value)
	if !ok {
		return fmt.Errorf("%s: Also=%s: nothing follows the backslash", p, value)
	}
	for _, w := range words {
		name, err := in.expand(i, w)
		if err != nil {
			return fmt.Errorf("%s: Also=: %w", p, err)
		}
		if _, err := in.add(name, "", true); err != nil {
			return fmt.Errorf("%s: Also=: %w", p, err)
		}
		i.also = append(i.also, name)
	}
	return nil
}

// setDefaultInstance is config_parse_default_instance.
func (in *installer) setDefaultInstance(i *info, value, p string) error {
	switch classify(i.name) {
	case instanceName:
		return nil
	case plainName:
		in.warn("%s: DefaultInstance= only makes sense for templates", p)
		return nil
	}
	s, err := in.expand(i, value)
	if err != nil {
		return fmt.Errorf("%s: DefaultInstance=: %w", p, err)
	}
	if !validChars(s) {
		return fmt.Errorf("%s: DefaultInstance=%s is not an instance", p, s)
	}
	i.defaultInstance = s
	return nil
}

// follow is install_info_follow.
func (in *installer) follow(i *info, anyName bool) error {
	if !anyName && path.Base(i.target) != i.name {
		return errDifferent
	}
	i.path, i.target, i.mode = i.target, "", unknown
	return in.notFound(i, in.load(i, i.path))
}

// maxFollow is UNIT_FILE_FOLLOW_SYMLINK_MAX.
const maxFollow = 64

// traverse is install_info_traverse: it finds the unit and follows it to the
// regular or masked file behind it.
func (in *installer) traverse(i *info, followConfig bool) (*info, error) {
	if err := in.search(i); err != nil {
		return nil, err
	}
	for k := 0; i.mode == alias || i.mode == linked; k++ {
		if k == maxFollow {
			return nil, fmt.Errorf("unit %s: %w", i.name, errLoop)
		}
		if !followConfig && path.Dir(i.path) == configPath {
			return nil, fmt.Errorf("unit %s %w", i.name, errLinked)
		}
		err := in.follow(i, i.mode == linked)
		if errors.Is(err, errDifferent) {
			name := path.Base(i.target)
			if classify(i.name) == instanceName && classify(name) == templateName {
				_, instance, _ := split(i.name)
				full := withInstance(name, instance)
				if full == i.name {
					if err := in.follow(i, true); err != nil {
						return nil, err
					}
					continue
				}
				name = full
			}
			from := i.name
			if i, err = in.add(name, "", false); err != nil {
				return nil, err
			}
			if err = in.search(i); errors.Is(err, errNotFound) {
				return nil, fmt.Errorf("unit %s %w", from, errDangling)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return i, nil
}
