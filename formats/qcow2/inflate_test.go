package qcow2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"imgbuild/formats/pieces"
)

// inflate decodes a deflate stream (RFC 1951) and returns, with the plain bytes,
// the largest distance of a back-reference. Readers in the field are too lenient
// to find a distance that the 4 KiB window of QEMU does not have: zlib notices
// only when the bytes have left its output buffer.
func inflate(in []byte) (out []byte, maxDistance int, err error) {
	r := &bits{in: in}
	for last := false; !last; {
		last = r.take(1) == 1
		var lengths, distances *code
		switch r.take(2) {
		case 0:
			r.n, r.v = 0, 0
			if len(r.in) < 4 {
				return nil, 0, errors.New("stored block")
			}
			n := int(r.in[0]) | int(r.in[1])<<8
			if r.in = r.in[4:]; len(r.in) < n {
				return nil, 0, errors.New("stored block")
			}
			out = append(out, r.in[:n]...)
			r.in = r.in[n:]
			continue
		case 1:
			var l [288]int
			for i := range l {
				switch {
				case i < 144:
					l[i] = 8
				case i < 256:
					l[i] = 9
				case i < 280:
					l[i] = 7
				default:
					l[i] = 8
				}
			}
			var d [30]int
			for i := range d {
				d[i] = 5
			}
			lengths, distances = newCode(l[:]), newCode(d[:])
		case 2:
			nl, nd, nc := r.take(5)+257, r.take(5)+1, r.take(4)+4
			order := [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
			var cl [19]int
			for i := range nc {
				cl[order[i]] = r.take(3)
			}
			c := newCode(cl[:])
			var all []int
			for len(all) < nl+nd {
				sym := r.symbol(c)
				switch {
				case sym < 0:
					return nil, 0, errors.New("code lengths")
				case sym < 16:
					all = append(all, sym)
				case sym == 16:
					for n := 3 + r.take(2); n > 0; n-- {
						all = append(all, all[len(all)-1])
					}
				case sym == 17:
					all = append(all, make([]int, 3+r.take(3))...)
				default:
					all = append(all, make([]int, 11+r.take(7))...)
				}
			}
			lengths, distances = newCode(all[:nl]), newCode(all[nl:nl+nd])
		default:
			return nil, 0, errors.New("block type")
		}
		for {
			sym := r.symbol(lengths)
			if sym < 0 || r.short {
				return nil, 0, errors.New("symbol")
			}
			if sym == 256 {
				break
			}
			if sym < 256 {
				out = append(out, byte(sym))
				continue
			}
			n := lengthOf(sym-257, r)
			dsym := r.symbol(distances)
			if dsym < 0 {
				return nil, 0, errors.New("distance symbol")
			}
			d := dsym + 1
			if dsym >= 4 {
				extra := dsym/2 - 1
				d = 1 + (2+dsym%2)<<extra + r.take(extra)
			}
			if d > len(out) {
				return nil, 0, errors.New("distance before the beginning")
			}
			maxDistance = max(maxDistance, d)
			for range n {
				out = append(out, out[len(out)-d])
			}
		}
	}
	return out, maxDistance, nil
}

func lengthOf(sym int, r *bits) int {
	switch {
	case sym < 8:
		return 3 + sym
	case sym == 28:
		return 258
	}
	extra := sym/4 - 1
	return 3 + (4+sym%4)<<extra + r.take(extra)
}

type bits struct {
	in    []byte
	v, n  int
	short bool
}

func (r *bits) take(k int) int {
	for r.n < k {
		if len(r.in) == 0 {
			r.short = true
			return 0
		}
		r.v |= int(r.in[0]) << r.n
		r.in = r.in[1:]
		r.n += 8
	}
	v := r.v & (1<<k - 1)
	r.v >>= k
	r.n -= k
	return v
}

// code is a canonical Huffman code.
type code struct {
	count   [16]int
	symbols []int
}

func newCode(lengths []int) *code {
	c := &code{}
	for l := 1; l < 16; l++ {
		for sym, n := range lengths {
			if n == l {
				c.count[l]++
				c.symbols = append(c.symbols, sym)
			}
		}
	}
	return c
}

func (r *bits) symbol(c *code) int {
	v, first, index := 0, 0, 0
	for l := 1; l < 16; l++ {
		v |= r.take(1)
		if r.short {
			return -1
		}
		if v-c.count[l] < first {
			return c.symbols[index+v-first]
		}
		index += c.count[l]
		first = (first + c.count[l]) << 1
		v <<= 1
	}
	return -1
}

// TestFlateWindow checks that no back-reference reaches beyond 4 KiB, with
// clusters whose best matches would.
func TestFlateWindow(t *testing.T) {
	e, err := newEncoder(Zlib, 0)
	if err != nil {
		t.Fatal(err)
	}
	farthest := 0
	for name, src := range clusterSamples() {
		p, err := e.compress(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		got, d, err := inflate(p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(got, src) {
			t.Errorf("%s: content differs", name)
		}
		if d > 4096 { // windowBits 12
			t.Errorf("%s: a distance of %d", name, d)
		}
		farthest = max(farthest, d)
	}
	if farthest < 2048 {
		t.Errorf("no distance above %d: the samples prove nothing", farthest)
	}
}

// clusterSamples returns contents of one cluster.
func clusterSamples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	m := map[string][]byte{
		"one byte":   bytes.Repeat([]byte{'x'}, clusterSize),
		"last byte":  append(make([]byte, clusterSize-1), 1),
		"first byte": append([]byte{1}, make([]byte, clusterSize-1)...),
		"noise":      noise(clusterSize),
	}
	for _, period := range []int{2, 3, 255, 256, 257, 258, 259, 1000, pieces.Window - 1, pieces.Window, pieces.Window + 1, 5000, 8192, 32767, 32768} {
		m["period "+itoa(period)] = bytes.Repeat(noise(period), clusterSize/period+1)[:clusterSize]
	}
	words := bytes.Fields([]byte("the quick brown fox jumps over the lazy dog and some more words to choose from here"))
	for n := range 4 {
		var text []byte
		for len(text) < clusterSize {
			text = append(append(text, words[rng.IntN(len(words))]...), ' ')
			if rng.IntN(8>>n+1) == 0 {
				text = append(text, noise(rng.IntN(30))...)
			}
		}
		m["text "+itoa(n)] = text[:clusterSize]
	}
	// Just above and below what is stored plain.
	for _, n := range []int{plainAbove - 40, plainAbove - 20, plainAbove, plainAbove + 20} {
		m["noise of "+itoa(n)] = append(noise(n), make([]byte, clusterSize-n)...)
	}
	return m
}
