package blockdev

import (
	"context"
	"fmt"

	"imgbuild/blueprints"
	"imgbuild/fault"
)

// split cuts jobs at an offset.
func split(jobs []job, at int64) (head, tail []job) {
	for _, j := range jobs {
		switch {
		case j.End() <= at:
			head = append(head, j)
		case j.Off >= at:
			tail = append(tail, j)
		default:
			head = append(head, job{Range{j.Off, at - j.Off}, j.zero})
			tail = append(tail, job{Range{at, j.End() - at}, j.zero})
		}
	}
	return head, tail
}

// kept is content of the tail in free space of the head.
type kept []struct {
	Range       // where it is
	to    int64 // where it belongs
}

// stash writes what is to be written behind the head to where the head has
// nothing.
func (p *Plan) stash(ctx context.Context, t Target, head, tail []job) (kept, error) {
	var free []Range
	total, need := int64(0), int64(0)
	pos := int64(ends)
	gap := func(to int64) {
		if to > pos {
			free = append(free, Range{pos, to - pos})
			total += to - pos
		}
	}
	for _, j := range head {
		gap(j.Off)
		pos = max(pos, j.End())
	}
	gap(p.Held.From)
	for _, j := range tail {
		if !j.zero {
			need += j.Size
		}
	}
	if need > total {
		return nil, fault.New(fault.NoSpace, fmt.Errorf("the disk has %s free while the layers are on it, and %s are needed",
			blueprints.FormatSize(total), blueprints.FormatSize(need)), "choose a larger disk, or a machine with more memory")
	}
	var list kept
	buf := make([]byte, unit)
	for _, j := range tail {
		if j.zero {
			continue
		}
		for off := j.Off; off < j.End(); {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n := min(j.End()-off, unit, free[0].Size)
			if _, err := p.Content.ReadAt(buf[:n], off); err != nil {
				return nil, err
			}
			if _, err := t.WriteAt(buf[:n], free[0].Off); err != nil {
				return nil, err
			}
			list = append(list, struct {
				Range
				to int64
			}{Range{free[0].Off, n}, off})
			off += n
			free[0].Off += n
			if free[0].Size -= n; free[0].Size == 0 {
				free = free[1:]
			}
		}
	}
	return list, nil
}

// restore writes the tail, with the content from where it was kept.
func (list kept) restore(ctx context.Context, t Target, tail []job, report func(n int64)) error {
	buf := make([]byte, unit)
	for _, j := range tail {
		if j.zero {
			if err := transfer(ctx, nil, t, []job{j}, report); err != nil {
				return err
			}
			continue
		}
		for off := j.Off; off < j.End(); {
			if err := ctx.Err(); err != nil {
				return err
			}
			k := list[0]
			list = list[1:]
			if _, err := t.ReadAt(buf[:k.Size], k.Off); err != nil {
				return err
			}
			if _, err := t.WriteAt(buf[:k.Size], k.to); err != nil {
				return err
			}
			off += k.Size
			report(k.Size)
		}
	}
	return nil
}
