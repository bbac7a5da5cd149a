package selinux

import "strings"

// maxSteps is the number of instructions run for one look at one pattern, as
// PCRE2 limits its matches. No pattern takes that many where none of its
// repeats, look-arounds and atomic groups hold others.
const maxSteps = 10_000_000

// matcher runs a program by going back to the last choice when something does
// not match, as PCRE2 does: what an atomic group matches depends on the order.
// As a choice is made once only at a place, that takes no exponential time.
type matcher struct {
	*program
	path  string
	steps int
}

// point is where to go on when something does not match.
type point struct {
	pc, pos int
	// low is the position where a run began, which may end anywhere from there
	// to pos, or -1.
	low int
}

// match tells whether the rest of the path behind the prefix matches.
func (p *program) match(path string) bool {
	m := matcher{program: p, path: path}
	_, ok := m.run(0, len(p.prefix))
	return ok
}

// run runs the code at pc up to its opMatch and returns where the match ends.
func (m *matcher) run(pc, pos int) (end int, ok bool) {
	var roomStack [16]point
	var roomSeen [16]uint64
	stack, seen := roomStack[:0], roomSeen[:]
	if words := (m.marks*(len(m.path)+1) + 63) / 64; words > len(seen) {
		seen = make([]uint64, words)
	}
	for {
		i := &m.code[pc]
		if i.op == opMatch {
			return pos, true
		}
		if m.steps++; m.steps > maxSteps {
			return 0, false
		}
		next := pc + 1
		if i.op == opSplit || i.op == opRun {
			bit := int(i.mark)*(len(m.path)+1) + pos
			if seen[bit/64]&(1<<(bit%64)) != 0 {
				next = -1
			} else if seen[bit/64] |= 1 << (bit % 64); i.op == opSplit {
				stack = append(stack, point{int(i.x), pos, -1})
			} else {
				last := pos
				for last < len(m.path) && i.set.has(m.path[last]) {
					last++
				}
				stack = append(stack, point{next, last, pos})
				next = -1 // to its longest
			}
		} else {
			next, pos = m.step(i, next, pos)
		}
		for next < 0 {
			if len(stack) == 0 {
				return 0, false
			}
			top := &stack[len(stack)-1]
			if next, pos = top.pc, top.pos; top.low >= 0 {
				next, pos = m.back(top)
			}
			if top.low < 0 || next < 0 || top.pos < top.low {
				stack = stack[:len(stack)-1]
			}
		}
		pc = next
	}
}

// back ends a run one byte earlier than it last did, or at the last place where
// the literal byte follows that the program wants there.
func (m *matcher) back(p *point) (next, pos int) {
	pos = p.pos
	if i := &m.code[p.pc]; i.op == opByte {
		at := strings.LastIndexByte(m.path[p.low:min(pos+1, len(m.path))], i.c)
		if at < 0 {
			return -1, 0
		}
		pos = p.low + at
	}
	p.pos = pos - 1
	return p.pc, pos
}

// step runs an instruction that leaves no choice. It returns the next one, or
// -1 where it does not match.
func (m *matcher) step(i *inst, next, pos int) (int, int) {
	path := m.path
	ok := true
	switch i.op {
	case opByte:
		if ok = pos < len(path) && path[pos] == i.c; ok {
			pos++
		}
	case opSet:
		if ok = pos < len(path) && i.set.has(path[pos]); ok {
			pos++
		}
	case opJump:
		next = int(i.x)
	case opBegin:
		ok = pos == 0
	case opEnd:
		ok = pos == len(path)
	case opEndLine:
		ok = pos == len(path) || pos == len(path)-1 && path[pos] == '\n'
	case opWord, opNotWord:
		before := pos > 0 && wordByte(path[pos-1])
		after := pos < len(path) && wordByte(path[pos])
		ok = (before != after) == (i.op == opWord)
	case opBack:
		pos -= int(i.x)
		ok = pos >= 0
	case opAhead, opNotAhead:
		_, found := m.run(next, pos)
		ok, next = found == (i.op == opAhead), int(i.x)
	case opAtomic:
		pos, ok = m.run(next, pos)
		next = int(i.x)
	}
	if !ok {
		return -1, pos
	}
	return next, pos
}
