package fat

import (
	"context"
	"errors"
	"fmt"
	"math"

	"imgbuild/fault"
	"imgbuild/filesystem"
	"imgbuild/tree"
)

const (
	// maxFileSize is what the 32 bits of DIR_FileSize hold.
	maxFileSize = math.MaxUint32
	// maxDirSize is the size in bytes of a directory that drivers stop at.
	maxDirSize = 65536 * sizeEntry
)

// node is a directory or file with a place of its own.
type node struct {
	inode    *tree.Inode
	parent   *node
	children []child // of a directory
	size     int64   // bytes, of a directory those of its entries
	first    uint32  // cluster; 0 for an empty file
}

// child is a name in a directory.
type child struct {
	*node
	name  string
	short shortName
	long  bool // needs long entries
}

// plan is a tree prepared for FAT, in any geometry.
type plan struct {
	dirs  []*node // the root first, parents before children
	files []*node
}

// newPlan checks the tree and gives every name its entries. An error names the
// path.
func newPlan(ctx context.Context, root *tree.Inode, label bool) (*plan, error) {
	if root == nil || !root.IsDir() {
		return nil, errors.New("fat: the root is not a directory")
	}
	p := &plan{}
	top := &node{inode: root}
	if label {
		top.size = sizeEntry
	}
	if err := p.addDir(ctx, "/", top); err != nil {
		return nil, err
	}
	return p, nil
}

// addDir adds a directory and what is below it.
func (p *plan) addDir(ctx context.Context, path string, n *node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.dirs = append(p.dirs, n)
	if n.parent != nil {
		n.size = 2 * sizeEntry // "." and ".."
	}
	prefix := path
	if n.parent != nil {
		prefix += "/"
	}
	names, err := foldedNames(prefix, n.inode)
	if err != nil {
		return err
	}
	namer := newNamer(names)
	n.children = make([]child, 0, n.inode.Len())
	for _, e := range n.inode.Entries() {
		short, long, err := namer.short(e.Name)
		if err != nil {
			return refuse(prefix+e.Name, err)
		}
		c := child{node: &node{inode: e.Inode, parent: n}, name: e.Name, short: short, long: long}
		n.size += c.entries() * sizeEntry
		if n.size > maxDirSize {
			return refuse(path, errors.New("the directory has more entries than FAT allows"))
		}
		n.children = append(n.children, c)
		switch {
		case e.Inode.IsDir():
			err = p.addDir(ctx, prefix+e.Name, c.node)
		case e.Inode.IsFile():
			err = p.addFile(prefix+e.Name, c.node)
		default:
			err = refuse(prefix+e.Name, errors.New("FAT holds files and directories only"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) addFile(path string, n *node) error {
	n.size = n.inode.Content.Size()
	if n.size > maxFileSize {
		return refuse(path, fmt.Errorf("%d bytes, FAT files have at most %d", n.size, int64(maxFileSize)))
	}
	p.files = append(p.files, n)
	return nil
}

// refuse returns the error for a path that FAT cannot hold.
func refuse(path string, err error) error {
	return fault.New(fault.BadImage, fmt.Errorf("fat: %s: %w", path, err), "")
}

// foldedNames checks the names of a directory and returns them folded.
func foldedNames(prefix string, dir *tree.Inode) (map[string]bool, error) {
	first := make(map[string]string, dir.Len())
	folded := make(map[string]bool, dir.Len())
	for _, e := range dir.Entries() {
		if err := checkName(e.Name); err != nil {
			return nil, refuse(prefix+e.Name, err)
		}
		f := fold(e.Name)
		if other, ok := first[f]; ok {
			return nil, refuse(prefix+e.Name, fmt.Errorf("the name differs from %q in case only", other))
		}
		first[f] = e.Name
		folded[f] = true
	}
	return folded, nil
}

// clusters returns the number of clusters the tree takes.
func (p *plan) clusters(clusterSize int64) int64 {
	n := int64(0)
	for _, d := range p.dirs {
		n += d.clusters(clusterSize)
	}
	for _, f := range p.files {
		n += f.clusters(clusterSize)
	}
	return n
}

// clusters returns the number of clusters n takes: at least one for a directory,
// none for an empty file.
func (n *node) clusters(clusterSize int64) int64 {
	c := (n.size + clusterSize - 1) / clusterSize
	if n.inode.IsDir() {
		c = max(c, 1)
	}
	return c
}

// choose returns the geometry for a volume of so many sectors, with the largest
// suitable clusters that the tree fits in. ok is false when it fits in none.
func (p *plan) choose(sectors, sectorSize int64) (g geometry, ok bool) {
	for _, perCluster := range clusterSizes(sectors, sectorSize) {
		g = fit(sectors, perCluster, sectorSize)
		if g.clusters >= minClusters && g.clusters >= p.clusters(g.clusterSize()) {
			return g, true
		}
	}
	return g, false
}

// geometry returns the geometry for a volume of size bytes.
func (p *plan) geometry(size, sectorSize int64) (geometry, error) {
	if size/sectorSize > maxSectors {
		return geometry{}, fault.New(fault.Unsupported, fmt.Errorf("fat: %d bytes are more than the %d a volume can have", size, maxSectors*sectorSize), "")
	}
	g, ok := p.choose(size/sectorSize, sectorSize)
	if ok {
		return g, nil
	}
	need, err := p.size(0, sectorSize)
	if err != nil {
		return geometry{}, err
	}
	return geometry{}, &filesystem.TooSmallError{Size: size, Need: need}
}

// size returns the smallest size in bytes that leaves free bytes.
func (p *plan) size(free, sectorSize int64) (int64, error) {
	best := int64(math.MaxInt64)
	above := int64(0)
	for _, class := range clusterClasses {
		// Any cluster size suitable for this class may be the one that choose
		// ends up with.
		for _, perCluster := range clusterSizes(class.sectors, sectorSize) {
			clusterSize := perCluster * sectorSize
			need := p.clusters(clusterSize) + free/clusterSize
			if free%clusterSize != 0 {
				need++
			}
			if need > maxClusters {
				continue
			}
			sectors := max(smallest(max(need, minClusters), perCluster, sectorSize).sectors, above+1)
			if sectors > class.sectors || sectors >= best {
				continue
			}
			g, ok := p.choose(sectors, sectorSize)
			if ok && (g.clusters-p.clusters(g.clusterSize()))*g.clusterSize() >= free {
				best = sectors
			}
		}
		above = class.sectors
	}
	if best == math.MaxInt64 {
		return 0, fault.New(fault.Unsupported, errors.New("fat: the tree and its free space are more than a volume can hold"), "")
	}
	return best * sectorSize, nil
}

// assign gives every node its clusters, one behind the other, directories first
// so that all metadata lies together. It returns the number of clusters used.
func (p *plan) assign(g geometry) int64 {
	next := int64(rootCluster)
	for _, nodes := range [][]*node{p.dirs, p.files} {
		for _, n := range nodes {
			n.first = 0
			if g.rootSectors > 0 && n.inode.IsDir() && n.parent == nil {
				continue // the root of a FAT16
			}
			if c := n.clusters(g.clusterSize()); c > 0 {
				n.first = uint32(next)
				next += c
			}
		}
	}
	return next - rootCluster
}
