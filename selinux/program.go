package selinux

import (
	"fmt"
	"strings"
)

// op is what an instruction does.
type op uint8

const (
	opByte     op = iota // the byte c
	opSet                // a byte of set
	opSplit              // goes on at next or, when that fails, at x
	opJump               // goes on at x
	opRun                // as many bytes of set as there are, or fewer
	opBegin              // the begin of the path
	opEnd                // its end
	opEndLine            // its end, or the newline that it ends with
	opWord               // between a word character and another
	opNotWord            // elsewhere
	opBack               // goes x bytes back
	opAhead              // the code up to opMatch matches here; goes on at x
	opNotAhead           // it does not match here
	opAtomic             // goes on at x where its first match ends
	opMatch              // the end of a pattern, or of one of the last three
)

// inst is an instruction. Where nothing else is said it goes on at the next.
type inst struct {
	op   op
	c    byte
	x    int32
	mark int32 // of opSplit and opRun, a number of their own
	set  *charset
}

// Limits of a program and of those of a policy. The largest pattern of Fedora and
// Debian takes 66 instructions, their largest policy some 29,000.
const (
	maxProgram  = 1 << 16
	maxPrograms = 1 << 21
)

// program is a compiled pattern.
type program struct {
	code []inst
	// prefix is what every path that matches begins with. The code is for the
	// rest of the path.
	prefix string
	// suffix is what every such path ends with, but for a newline behind it,
	// and inner what it has somewhere.
	suffix, inner string
	marks         int // instructions with a mark
}

// compile compiles a pattern. Sets are shared through the map.
func compile(pattern string, sets map[charset]*charset) (*program, error) {
	n, err := parsePattern(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	p := &program{}
	// Without an alternative outside groups, which is the rule, the ^ holds for
	// all of the pattern. With one, it holds for the first only, as the $ for
	// the last: PCRE2 looks for a match everywhere in the path.
	if n.kind == kindConcat && len(n.subs) > 0 && n.subs[0].kind == kindBegin {
		n = p.cut(n)
	} else {
		all := &node{kind: kindSet, set: anyByte()}
		n = &node{kind: kindConcat, subs: []*node{{kind: kindRepeat, max: unlimited, subs: []*node{all}}, n}}
	}
	g := &generator{program: p, sets: sets}
	g.node(n)
	g.emit(inst{op: opMatch})
	g.shorten()
	if g.full() {
		return nil, fmt.Errorf("pattern %q: more than %d instructions", pattern, maxProgram)
	}
	return p, nil
}

// cut takes the literal bytes off the begin of n and notes those elsewhere.
func (p *program) cut(n *node) *node {
	subs := n.subs[1:]
	end := 0
	for end < len(subs) && subs[end].kind == kindByte {
		end++
	}
	p.prefix = literalText(subs[:end])
	subs = subs[end:]
	for i := 0; i < len(subs); i++ {
		from := i
		for i < len(subs) && subs[i].kind == kindByte {
			i++
		}
		if text := literalText(subs[from:i]); i == len(subs)-1 && subs[i].kind == kindEndLine {
			p.suffix = text
		} else if len(text) > len(p.inner) {
			p.inner = text
		}
	}
	return &node{kind: kindConcat, subs: subs}
}

// possible tells whether the path, which has the prefix, may match.
func (p *program) possible(path string) bool {
	if !strings.HasSuffix(path, p.suffix) && !strings.HasSuffix(strings.TrimSuffix(path, "\n"), p.suffix) {
		return false
	}
	return strings.Contains(path[len(p.prefix):], p.inner)
}

func literalText(nodes []*node) string {
	var b strings.Builder
	for _, n := range nodes {
		b.WriteByte(n.c)
	}
	return b.String()
}

// generator emits the code of a program, and none beyond maxProgram.
type generator struct {
	*program
	sets map[charset]*charset
}

func (g *generator) emit(i inst) int {
	if !g.full() {
		g.code = append(g.code, i)
	}
	return len(g.code) - 1
}

// target makes the instruction at pc go on behind the last one.
func (g *generator) target(pc int) { g.code[pc].x = int32(len(g.code)) }

func (g *generator) set(s charset) *charset {
	if g.sets[s] == nil {
		g.sets[s] = &s
	}
	return g.sets[s]
}

func (g *generator) node(n *node) {
	switch n.kind {
	case kindByte:
		g.emit(inst{op: opByte, c: n.c})
	case kindSet:
		g.emit(inst{op: opSet, set: g.set(n.set)})
	case kindConcat:
		for _, sub := range n.subs {
			g.node(sub)
		}
	case kindAlternate:
		g.alternate(n)
	case kindRepeat:
		g.repeat(n)
	case kindAtomic:
		g.enclose(opAtomic, n.subs[0])
	case kindAhead:
		g.enclose(opAhead, n.subs[0])
	case kindNotAhead:
		g.enclose(opNotAhead, n.subs[0])
	case kindBehind:
		g.enclose(opAhead, n.subs[0].fromBehind())
	case kindNotBehind:
		g.enclose(opNotAhead, n.subs[0].fromBehind())
	case kindBack:
		g.emit(inst{op: opBack, x: int32(n.min)})
	case kindBegin:
		g.emit(inst{op: opBegin})
	case kindEnd:
		g.emit(inst{op: opEnd})
	case kindEndLine:
		g.emit(inst{op: opEndLine})
	case kindWord:
		g.emit(inst{op: opWord})
	case kindNotWord:
		g.emit(inst{op: opNotWord})
	}
}

// enclose emits an instruction with the code that it is about.
func (g *generator) enclose(o op, n *node) {
	pc := g.emit(inst{op: o})
	g.node(n)
	g.emit(inst{op: opMatch})
	g.target(pc)
}

// fromBehind returns what to look ahead for in place of looking behind for n:
// each alternative, from its width back.
func (n *node) fromBehind() *node {
	all := &node{kind: kindAlternate}
	for _, sub := range n.branches() {
		width, _ := sub.width()
		all.subs = append(all.subs, &node{kind: kindConcat, subs: []*node{{kind: kindBack, min: width}, sub}})
	}
	return all
}

func (g *generator) alternate(n *node) {
	var jumps []int
	for i, sub := range n.subs {
		if i == len(n.subs)-1 {
			g.node(sub)
			break
		}
		split := g.mark(inst{op: opSplit})
		g.node(sub)
		jumps = append(jumps, g.emit(inst{op: opJump}))
		g.target(split)
	}
	for _, pc := range jumps {
		g.target(pc)
	}
}

// repeat emits the copies that there must be, and then a loop or those that
// there may be.
func (g *generator) repeat(n *node) {
	body := n.subs[0]
	last := 0
	for range n.min {
		last = len(g.code)
		if g.node(body); len(g.code) == last || g.full() {
			return // nothing to repeat, or too much
		}
	}
	switch {
	case n.max != unlimited:
		var exits []int
		for range n.max - n.min {
			exits = append(exits, g.option(n.lazy))
			before := len(g.code)
			if g.node(body); len(g.code) == before || g.full() {
				break
			}
		}
		for _, pc := range exits {
			g.target(pc)
		}
	case !n.lazy && body.kind == kindSet:
		g.mark(inst{op: opRun, set: g.set(body.set)})
	case !n.lazy && body.kind == kindByte:
		var s charset
		s.add(body.c)
		g.mark(inst{op: opRun, set: g.set(s)})
	case n.min > 0 && n.lazy:
		g.mark(inst{op: opSplit, x: int32(last)})
	case n.min > 0:
		exit := g.mark(inst{op: opSplit})
		g.emit(inst{op: opJump, x: int32(last)})
		g.target(exit)
	default:
		loop := len(g.code)
		exit := g.option(n.lazy)
		g.node(body)
		g.emit(inst{op: opJump, x: int32(loop)})
		g.target(exit)
	}
}

// option emits what tries the code behind it first or, if lazy, second. The
// other way is the target of the instruction returned.
func (g *generator) option(lazy bool) int {
	split := g.mark(inst{op: opSplit})
	if !lazy {
		return split
	}
	exit := g.emit(inst{op: opJump})
	g.target(split)
	return exit
}

// mark emits an instruction that is to be entered once at a place in the path.
func (g *generator) mark(i inst) int {
	i.mark = int32(g.marks)
	g.marks++
	return g.emit(i)
}

func (g *generator) full() bool { return len(g.code) == maxProgram }

// shorten ends a match where any bytes may follow up to the end, as in (/.*)?
// which is the tail of most patterns.
func (g *generator) shorten() {
	for pc := range g.code {
		if i := &g.code[pc]; i.op == opRun && *i.set == anyByte() && g.ends(pc+1) {
			*i = inst{op: opMatch}
		}
	}
}

// ends tells whether at pc only the end of the path is missing to a match.
func (g *generator) ends(pc int) bool {
	for pc < len(g.code) {
		switch i := &g.code[pc]; i.op {
		case opJump:
			if int(i.x) <= pc {
				return false
			}
			pc = int(i.x)
		case opEnd, opEndLine:
			pc++
		default:
			return pc == len(g.code)-1
		}
	}
	return false
}
