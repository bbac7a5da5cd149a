package selinux

import "math/rand/v2"

// sample returns a path that a parsed pattern matches, but for look-arounds.
func sample(n *node, r *rand.Rand) string {
	switch n.kind {
	case kindByte:
		return string([]byte{n.c})
	case kindSet:
		// Mostly what is found in paths.
		const usual = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789.-_+/@:~"
		for range 20 {
			if c := usual[r.IntN(len(usual))]; n.set.has(c) {
				return string([]byte{c})
			}
		}
		for range 1000 {
			if c := byte(r.IntN(255) + 1); n.set.has(c) {
				return string([]byte{c})
			}
		}
	case kindConcat:
		var s string
		for _, sub := range n.subs {
			s += sample(sub, r)
		}
		return s
	case kindAlternate:
		return sample(n.subs[r.IntN(len(n.subs))], r)
	case kindAtomic:
		return sample(n.subs[0], r)
	case kindRepeat:
		most := n.min + 4
		if n.max != unlimited {
			most = min(most, n.max)
		}
		var s string
		for range n.min + r.IntN(most-n.min+1) {
			s += sample(n.subs[0], r)
		}
		return s
	}
	return ""
}

// mutated returns the path with a change or none.
func mutated(path string, r *rand.Rand) string {
	at := r.IntN(len(path) + 1)
	const bytes = "/abz.-_09\n\xc3\xa9~ "
	c := string([]byte{bytes[r.IntN(len(bytes))]})
	switch r.IntN(12) {
	case 0:
		return path[:at] + c + path[at:]
	case 1:
		if at < len(path) {
			return path[:at] + path[at+1:]
		}
	case 2:
		if at < len(path) {
			return path[:at] + c + path[at+1:]
		}
	case 3:
		return path + []string{"/", "\n", "/x", ".d", "-", "//", "/.", "x"}[r.IntN(8)]
	case 4:
		return path[:at] + "/" + path[at:]
	case 5:
		return path[:at]
	}
	return path
}
