package btrfs

import (
	"cmp"
	"context"
	"slices"

	"imgbuild/content"
	"imgbuild/disk"
	"imgbuild/filesystem"
)

// write returns the extents of the file system, ascending: superblocks, trees,
// content.
func (l *layout) write(ctx context.Context) ([]disk.Extent, error) {
	if err := l.computeSums(ctx); err != nil {
		return nil, err
	}
	out := l.superblocks()
	out = append(out, l.metadata()...)
	slices.SortFunc(out, func(a, b disk.Extent) int { return cmp.Compare(a.Off, b.Off) })
	return filesystem.Merge(nil, out, l.joined()), nil
}

// superblocks returns the superblock and its copies.
func (l *layout) superblocks() []disk.Extent {
	s := superblock{
		fsid: l.opt.UUID, device: l.device, label: l.opt.Label,
		total:    l.space.size,
		compatRO: roFreeSpaceTree | roFreeSpaceValid,
		incompat: incompatMixedBackref | incompatBigMetadata | incompatExtendedIref | incompatSkinny | incompatNoHoles,
		csum:     l.csum, dev: l.devItem(), systemChunks: l.systemChunks(),
		uuidGeneration: generation, // 0 has Linux make the tree anew
	}
	for _, c := range l.chunks {
		s.used += c.used
	}
	if l.opt.BlockGroupTree {
		s.compatRO |= roBlockGroupTree
	}
	if l.verity {
		s.compatRO |= roVerity
	}
	if l.defaultSub() != fsTree {
		s.incompat |= incompatDefault
	}
	for i := range l.subs {
		if l.subs[i].compress.Algorithm == Zstd {
			s.incompat |= incompatZstd
		}
	}
	for _, t := range l.trees {
		at := l.root(t)
		switch t.owner {
		case rootTree:
			s.root, s.backups[0] = at, at
		case chunkTree:
			s.chunks, s.backups[1] = at, at
		case extentTree:
			s.backups[2] = at
		case fsTree:
			s.backups[3] = at
		case devTree:
			s.backups[4] = at
		case csumTree:
			s.backups[5] = at
		}
	}
	var out []disk.Extent
	for _, at := range superOffsets {
		if at+sizeSuper > s.total {
			break
		}
		s.at = at
		out = append(out, disk.Extent{Off: int64(at), Data: content.Bytes(s.encode())})
	}
	return out
}

// metadata returns the blocks of all trees, as often as they are there.
func (l *layout) metadata() []disk.Extent {
	var out []disk.Extent
	blocks := &treeBlocks{l}
	for _, c := range l.chunks[:l.space.data] {
		for i := c.first; i < c.last; {
			end := i + 1
			for end < c.last && l.addresses[end] == l.addresses[end-1]+nodeSize {
				end++
			}
			ref := content.NewRef(blocks, int64(i)*nodeSize, int64(end-i)*nodeSize)
			for k := range c.copies {
				out = append(out, disk.Extent{Off: int64(c.physical(l.addresses[i], k)), Data: ref})
			}
			i = end
		}
	}
	return out
}

// joined returns the content of files; pieces of the spool that lie together on
// the disk too become one.
func (l *layout) joined() []disk.Extent {
	if l.opt.Packed == nil {
		return l.data
	}
	out := make([]disk.Extent, 0, len(l.data))
	for i := range l.data {
		d := &l.data[i]
		if k := len(out) - 1; k >= 0 && l.extents[i].compressed && out[k].End() == d.Off {
			if joined, ok := l.opt.Packed.join(out[k].Data, d.Data); ok {
				out[k].Data = joined
				continue
			}
		}
		out = append(out, *d)
	}
	return out
}
