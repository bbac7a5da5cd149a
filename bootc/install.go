package bootc

import (
	"maps"
	"slices"
	"strings"

	"imgbuild/tree"
)

// InstallConfig is what an image asks of an installation: the merged TOML files
// of bootc/install.
type InstallConfig struct {
	RootFSType string   // "xfs", "ext4", "btrfs", or "" where the image does not say
	Block      []string // "direct", "tpm2-luks"; the first is the default

	// Kargs and KargDeletes are as written; one string may hold several
	// arguments.
	Kargs       []string
	KargDeletes []string

	Stateroot string // "default" where the image does not say
	// RootMountSpec and BootMountSpec replace the source in root= and boot=.
	// An empty one suppresses the argument; nil is none.
	RootMountSpec *string
	BootMountSpec *string

	BLSAppendExceptDefault string // sysroot.bls-append-except-default of the repository
	SkipBootUUID           bool   // bootupd.skip-boot-uuid
	Bootloader             string // "grub", "grub-cc", "systemd", "none", or ""

	DiscoverablePartitions    *bool
	EnforceContainerSigpolicy *bool
}

// installBases are the directories of configuration, the later before the
// earlier.
var installBases = [...]string{"usr/lib", "usr/local/lib", "etc", "run"}

const installDir = "bootc/install"

// installConfig reads and merges the install configuration.
func (r *reader) installConfig(image *Image) error {
	files, err := r.installFiles()
	if err != nil {
		return err
	}
	m := installMerge{config: &image.Install}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f := files[name]
		content, err := text(f.inode, f.path)
		if err != nil {
			return err
		}
		top, err := parseTOML(f.path, content)
		if err != nil {
			return err
		}
		if err := r.mergeInstall(&m, top); err != nil {
			return err
		}
	}
	m.finish()
	return nil
}

// configFile is a file of configuration and its path.
type configFile struct {
	path  string
	inode *tree.Inode
}

// installFiles returns the files of install configuration by their names. As
// bootc's liboverdrop has it, a symbolic link is not read; one to /dev/null
// masks the file of that name.
func (r *reader) installFiles() (map[string]configFile, error) {
	files := map[string]configFile{}
	for _, base := range installBases {
		dir := base + "/" + installDir
		entries, err := r.entries(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			p := dir + "/" + e.Name
			switch {
			case extension(e.Name) != "toml" || strings.HasPrefix(e.Name, "."):
			case e.Inode.IsFile():
				files[e.Name] = configFile{p, e.Inode}
			case e.Inode.IsLink() && e.Inode.Target == "/dev/null":
				delete(files, e.Name)
			default:
				r.warn("%s is ignored: not a regular file", p)
			}
		}
	}
	return files, nil
}

// installMerge is the merge of several files.
type installMerge struct {
	config *InstallConfig
	rootFS string // root-fs-type; filesystem.root.type wins over it in the end
}

// mergeInstall checks the file whose top table is given and, if it is for the
// architecture, merges it.
func (r *reader) mergeInstall(m *installMerge, top *section) error {
	s := top.table("install")
	part := installPart{}
	if s != nil {
		part.read(s)
		if s.matches(r.arch) && s.doc.err == nil {
			part.merge(m)
		}
		s.end()
	}
	top.end()
	if part.ostree != nil && top.doc.err == nil {
		for _, key := range slices.Sorted(maps.Keys(part.ostree.keys)) {
			r.warn("%s: unknown key install.ostree.%s is ignored", top.doc.path, key)
		}
	}
	return top.doc.err
}

// installPart is one file's install table. What is nil is not in it.
type installPart struct {
	rootFSType, fsRootType                *string
	block, kargs, deletes                 []string
	stateroot, rootSpec, bootSpec         *string
	blsAppend, bootloader                 *string
	skipBootUUID, discoverable, sigPolicy *bool
	ostree                                *section // with the keys that bootc passes over
}

// read takes all keys but match-architectures.
func (p *installPart) read(s *section) {
	fileSystems := []string{"xfs", "ext4", "btrfs"}
	p.rootFSType = s.choice("root-fs-type", fileSystems...)
	fs := s.table("filesystem")
	root := fs.table("root")
	p.fsRootType = root.choice("type", fileSystems...)
	root.end()
	fs.end()
	p.block = s.strings("block")
	for _, b := range p.block {
		if b != "direct" && b != "tpm2-luks" {
			s.fail("block", "%q is none of direct, tpm2-luks", b)
		}
	}
	p.kargs = s.kargs("kargs")
	p.deletes = s.kargs("karg-deletes")
	p.ostree = s.table("ostree")
	p.blsAppend = p.ostree.string("bls-append-except-default")
	if p.stateroot = s.string("stateroot"); p.stateroot != nil && !validStateroot(*p.stateroot) {
		s.fail("stateroot", "%q cannot be the name of a stateroot", *p.stateroot)
	}
	p.rootSpec = s.mountSpec("root-mount-spec")
	p.bootSpec = s.mountSpec("boot-mount-spec")
	bootupd := s.table("bootupd")
	p.skipBootUUID = bootupd.bool("skip-boot-uuid")
	bootupd.end()
	p.bootloader = s.choice("bootloader", "grub", "grub-cc", "systemd", "none")
	p.discoverable = s.bool("discoverable-partitions")
	p.sigPolicy = s.bool("enforce-container-sigpolicy")
}

// mountSpec takes the source of a mount, which becomes part of an argument.
func (s *section) mountSpec(key string) *string {
	v := s.string(key)
	if v != nil && strings.ContainsAny(*v, " \"") {
		s.fail(key, "space or quote in %q", *v)
	}
	return v
}

// validStateroot tells whether a name can be a directory below ostree/deploy
// and part of the ostree= argument.
func validStateroot(name string) bool {
	return tree.ValidName(name) && !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, ".") &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// merge applies the part: lists of arguments are appended, anything else
// replaces what earlier files had.
func (p *installPart) merge(m *installMerge) {
	c := m.config
	replace(&m.rootFS, p.rootFSType)
	replace(&c.RootFSType, p.fsRootType)
	if p.block != nil {
		c.Block = p.block
	}
	c.Kargs = append(c.Kargs, p.kargs...)
	c.KargDeletes = append(c.KargDeletes, p.deletes...)
	replace(&c.Stateroot, p.stateroot)
	replace(&c.BLSAppendExceptDefault, p.blsAppend)
	replace(&c.SkipBootUUID, p.skipBootUUID)
	replace(&c.Bootloader, p.bootloader)
	replacePointer(&c.RootMountSpec, p.rootSpec)
	replacePointer(&c.BootMountSpec, p.bootSpec)
	replacePointer(&c.DiscoverablePartitions, p.discoverable)
	replacePointer(&c.EnforceContainerSigpolicy, p.sigPolicy)
}

func replace[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func replacePointer[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

// finish sets the defaults.
func (m *installMerge) finish() {
	c := m.config
	if c.RootFSType == "" {
		c.RootFSType = m.rootFS
	}
	if c.Block == nil {
		c.Block = []string{"direct"}
	}
	if c.Stateroot == "" {
		c.Stateroot = "default"
	}
}
