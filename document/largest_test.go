package document

import (
	"runtime"
	"strings"
	"testing"
)

// The largest texts take bounded time and memory, whatever is in them.
func TestLargest(t *testing.T) {
	fill := func(begin, repeat, end string) string {
		return begin + strings.Repeat(repeat, (MaxSize-len(begin)-len(end))/len(repeat)) + end
	}
	for name, text := range map[string]string{
		"values.json":   fill(`{"words":[1`, `,1`, `]}`),
		"tables.json":   fill(`{"users":[{}`, `,{}`, `]}`),
		"nested.json":   fill(`{"users":[`, `[`, ``),
		"string.json":   fill(`{"name":"`, `\u00e9`, `"}`),
		"number.json":   fill(`{"count":1`, `0`, `}`),
		"laughs.json":   fill(`{"a":["lol"`, `,["lol","lol","lol","lol","lol"]`, `]}`),
		"tables.toml":   fill("name='x'\n", "[[users]]\n", ""),
		"values.toml":   fill("words=[1", ",1", "]"),
		"string.toml":   fill(`name="`, `\u00e9`, `"`),
		"dotted.toml":   fill("", "[[a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p]]\n", ""),
		"nested.toml":   fill("words=[1", ",{a={a={a={a={a={a={a={a={a={a={}}}}}}}}}}}", "]"),
		"comments.toml": fill("", "#\n", ""),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := read(t, name, text, &sample{})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<30 {
			t.Errorf("%s: %d MiB allocated", name, n>>20)
		} else {
			t.Logf("%s: %d MiB, %d problems", name, n>>20, len(got))
		}
	}
}
