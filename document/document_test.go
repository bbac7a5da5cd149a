package document

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Name  string   `key:"name,required"`
	Kind  string   `key:"kind" enum:"one two three"`
	Count *int64   `key:"count"`
	On    bool     `key:"on"`
	Words []string `key:"words"`
	Last  []string `key:"last" merge:"replace"`
	Args  string   `key:"args" merge:"join"`
	Users []user   `key:"users" merge:"by=name"`
	Files []file   `key:"files" merge:"last=path"`
	Inner *inner   `key:"inner"`
}
type user struct {
	Name  string   `key:"name,required"`
	Shell string   `key:"shell"`
	Words []string `key:"words"`
}
type file struct {
	Path string `key:"path"`
	Data string `key:"data"`
	Mode string `key:"mode"`
}
type inner struct {
	Deep struct {
		Port int64 `key:"port"`
	} `key:"deep"`
}

// read decodes a text of either syntax, and returns what is wrong with it.
func read(t *testing.T, name, text string, into any) []string {
	t.Helper()
	parse := ParseTOML
	if strings.HasSuffix(name, ".json") {
		parse = ParseJSON
	}
	v, err := parse(name, text)
	if err != nil {
		return []string{err.Error()}
	}
	_, problems := Decode(v, into)
	var list []string
	for _, p := range problems {
		list = append(list, p.Error())
	}
	return list
}

// Each text comes in both syntaxes; the places are those of its own.
func TestProblems(t *testing.T) {
	for _, tc := range []struct {
		toml, json         string
		inTOML, inJSON     string // places
		message            string
		severalInBothCases int
	}{
		{"name='x'\nnmae='y'", "{\"name\":\"x\",\n \"nmae\":\"y\"}", "a.toml:2:1", "a.json:2:2", "nmae: unknown key; did you mean name?", 1},
		{"name='x'\ncount='1'", "{\"name\":\"x\",\"count\": \"1\"}", "a.toml:2:7", "a.json:1:22", "count: a string, where an integer belongs", 1},
		{"name='x'\ncount=1.5", "{\"name\":\"x\",\"count\":1.5}", "a.toml:2:7", "a.json:1:21", "count: a number with a fraction, where an integer belongs", 1},
		{"name='x'\non=1", "{\"name\":\"x\",\"on\":1}", "a.toml:2:4", "a.json:1:18", "on: an integer, where a boolean belongs", 1},
		{"name='x'\nwords='y'", "{\"name\":\"x\",\"words\":\"y\"}", "a.toml:2:7", "a.json:1:21", "words: a string, where a list belongs", 1},
		{"name='x'\nwords=['y',\n 2]", "{\"name\":\"x\",\"words\":[\"y\",\n 2]}", "a.toml:3:2", "a.json:2:2", "words[1]: an integer, where a string belongs", 1},
		{"name='x'\nkind='tow'", "{\"name\":\"x\",\"kind\":\"tow\"}", "a.toml:2:6", "a.json:1:20", `kind: "tow" is none of one, two, three; did you mean two?`, 1},
		{"on=true", "{\"on\":true}", "a.toml:1:1", "a.json:1:1", "name: missing", 1},
		{"name='x'\n[[users]]\nname='a'\n[[users]]\nshell='b'", "{\"name\":\"x\",\"users\":[{\"name\":\"a\"},\n{\"shell\":\"b\"}]}", "a.toml:4:1", "a.json:2:1", "users[1].name: missing", 1},
		{"name='x'\nport=1", "{\"name\":\"x\",\"port\":1}", "a.toml:2:1", "a.json:1:13", "port: unknown key; did you mean inner.deep.port?", 1},
		{"name='x'\ninner.deep.prot=1", "{\"name\":\"x\",\"inner\":{\"deep\":{\"prot\":1}}}", "a.toml:2:12", "a.json:1:30", "inner.deep.prot: unknown key; did you mean port?", 1},
		{"name='é'\n\"ключ é\"=1", "{\"name\":\"é\", \"ключ é\":1}", "a.toml:2:1", "a.json:1:14", `"ключ é": unknown key`, 1},
		{"name='x'\nusers=[{name='a',Shell='b'}]", "{\"name\":\"x\",\"users\":[{\"name\":\"a\",\"Shell\":\"b\"}]}", "a.toml:2:18", "a.json:1:34", "users[0].Shell: unknown key; did you mean shell?", 1},
		{"name=''\nzzz=1\nusers='x'", "{\"name\":\"\",\"zzz\":1,\"users\":\"x\"}", "a.toml:2:1", "a.json:1:12", "zzz: unknown key", 2},
	} {
		for name, c := range map[string][2]string{"a.toml": {tc.toml, tc.inTOML}, "a.json": {tc.json, tc.inJSON}} {
			got := read(t, name, c[0], &sample{})
			if len(got) != tc.severalInBothCases || !strings.HasPrefix(got[0], c[1]+": "+tc.message) {
				t.Errorf("%s\n got %q\nwant %s: %s", c[0], got, c[1], tc.message)
			}
		}
	}
}

func TestSyntax(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"a.json", "", "a.json:1:1: the file ends too early"},
		{"a.json", "{\"name\":\n", "a.json:2:1: the file ends too early"},
		{"a.json", "{\"name\":1}\n {}", "a.json:2:2: data after the end of the table"},
		{"a.json", "{\"name\":1}x", "a.json:1:11: data after the end of the table"},
		{"a.json", "{\"name\":1,\n\"name\":2}", "a.json:2:1: key \"name\" is already there, on line 1"},
		{"a.json", "{\"name\":}", "a.json:1:9: invalid character '}'"},
		{"a.json", "{\n\"na\tme\":1}", "a.json:2:1: invalid character '\\t'"},
		{"a.json", strings.Repeat("[", 200), "a.json:1:34: nested too deep"},
		{"a.json", strings.Repeat(`{"a":`, 100000), "a.json:1:166: nested too deep"},
		{"a.json", "{\n\"a\": \"\xff\"}", "a.json:2:7: not UTF-8"},
		{"a.json", "[]", "a.json:1:1: a list, where a table belongs"},
		{"a.json", strings.Repeat(" ", MaxSize+1), "a.json: larger than 1024 KiB"},
		{"a.toml", strings.Repeat(" ", MaxSize+1), "a.toml: larger than 1024 KiB"},
		{"a.toml", "name = 'x'\nname = 'y'", "a.toml:2:"},
		{"a.toml", "name = \n", "a.toml:1:"},
		{"a.toml", "x = " + strings.Repeat("[", 100), "a.toml:1: nested too deep"},
		{"a.toml", "# ok\n# \xff\n", "a.toml:2:3: not UTF-8"},
	} {
		got := read(t, tc.name, tc.text, &sample{})
		if len(got) != 1 || !strings.HasPrefix(got[0], tc.want) {
			t.Errorf("%.40q: %q, want %q", tc.text, got, tc.want)
		}
	}
}

// A file of the wrong kind does not flood the terminal.
func TestManyProblems(t *testing.T) {
	text := "name='x'\n"
	for i := range 5000 {
		text += fmt.Sprintf("k%d = 1\n", i)
	}
	if got := read(t, "a.toml", text, &sample{}); len(got) != maxProblems {
		t.Errorf("%d problems", len(got))
	}
}

func TestDecode(t *testing.T) {
	count := int64(1000)
	want := sample{Name: "x\ny", Kind: "two", Count: &count, On: true, Words: []string{"a", "b"},
		Users: []user{{Name: "u"}, {Name: "v", Shell: "s"}}, Inner: &inner{}}
	want.Inner.Deep.Port = 22
	for name, text := range map[string]string{
		"a.toml": "\ufeffname = \"\"\"x\ny\"\"\"\nkind='two'\ncount=1_000\non=true\nwords=['a', # one\n 'b',]\n[[users]]\nname='u'\n[[users]]\nname='v'\nshell='s'\n[inner.deep]\nport=0x16",
		"a.json": "\ufeff" + `{"name":"x\ny","kind":"two","count":1e3,"on":true,"words":["a","b"],"last":null,"users":[{"name":"u","shell":null},{"name":"v","shell":"s"}],"inner":{"deep":{"port":22.0}}}`,
	} {
		var got sample
		if problems := read(t, name, text, &got); len(problems) > 0 {
			t.Errorf("%s: %q", name, problems)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPlaces(t *testing.T) {
	v, err := ParseTOML("a.toml", "name='x'\n[[users]]\nname='u'\n  [[users]]\n  name='v'\n[inner]\ndeep.port=1")
	if err != nil {
		t.Fatal(err)
	}
	places, _ := Decode(v, &sample{})
	for path, want := range map[string]string{
		"name": "a.toml:1:1", "users": "a.toml:2:3", "users[0]": "a.toml:2:1", "users[1].name": "a.toml:5:3", "users[1].shell": "a.toml:4:3",
		"inner.deep.port": "a.toml:7:6", "inner.deep": "a.toml:7:1", "inner": "a.toml:6:2", "nothing": "a.toml:1:1",
	} {
		if got := places.Of(path).String(); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	parse := func(name, text string) *Value {
		v, err := ParseTOML(name, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	a := parse("a.toml", "name='a'\ncount=1\nwords=['x','y']\nlast=['x']\nargs='quiet'\n[[users]]\nname='u'\nshell='old'\nwords=['1']\n[[users]]\nname='v'\n[[files]]\npath='/p'\ndata='d'\nmode='m'")
	b := parse("b.toml", "name='b'\nwords=['y','z']\nlast=['y']\nargs='rw'\non=true\n[[users]]\nname='w'\n[[users]]\nname='u'\nshell='new'\nwords=['2']\n[[files]]\npath='/p'\ndata='e'\n[[files]]\npath='/q'\n[inner.deep]\nport=1")
	merged := Merge(reflect.TypeFor[sample](), a, b)
	var got sample
	places, problems := Decode(merged, &got)
	if len(problems) > 0 {
		t.Error(problems)
	}
	count := int64(1)
	want := sample{Name: "b", Count: &count, On: true, Words: []string{"x", "y", "z"}, Last: []string{"y"}, Args: "quiet rw",
		Users: []user{{"u", "new", []string{"1", "2"}}, {Name: "v"}, {Name: "w"}}, Files: []file{{Path: "/p", Data: "e"}, {Path: "/q"}}, Inner: &inner{}}
	want.Inner.Deep.Port = 1
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]string{"name": "b.toml:1:1", "count": "a.toml:2:1", "users[0].shell": "b.toml:10:1", "users[1]": "a.toml:10:1", "users[2]": "b.toml:6:1"} {
		if got := places.Of(path).String(); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	// Neither has changed.
	var again sample
	Decode(a, &again)
	if again.Name != "a" || len(again.Users) != 2 || again.Users[0].Shell != "old" || len(again.Words) != 2 {
		t.Errorf("%+v", again)
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"name", "nmae", 1}, {"kitten", "sitting", 3}, {"groups", "group", 1}, {"éa", "ea", 1}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%s, %s: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

// Whatever the text, there is no panic, places are within it, and TOML that is
// decoded is located key by key.
func FuzzParse(f *testing.F) {
	f.Add("name='x'\n[[users]]\nname = \"\\u00e9\"\n[inner.deep]\nport=1")
	f.Add("a.b.'c d' = [1, {x = 2, y.z = [[3]]}, '''x''']\n[t.\"q\\\"\"]\nd = 1979-05-27 07:32:00 # c")
	f.Add("[[a]]\nb=1\n[[a]]\n[a.c]\nd=1\n[[a.e]]\nf=1\r\n")
	f.Add(`{"name":"x","users":[{"name":"a"}],"count":1e3}`)
	f.Add(`{"a":{"a":{"a":[[[[]]]]}},"b":1e999999,"c":"\ud800"}`)
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		for _, parse := range []func(string, string) (*Value, error){ParseTOML, ParseJSON} {
			v, err := parse("f", text)
			if err != nil {
				if p, ok := err.(Problem); !ok || p.Message == "" || p.At.Line > lines {
					t.Fatalf("error %#v", err)
				}
				continue
			}
			var check func(v *Value)
			check = func(v *Value) {
				if v.At.Line < 1 || v.At.Line > lines || v.At.Column < 1 {
					t.Fatalf("%q: value %q at %s", text, v.Text, v.At)
				}
				for _, f := range v.Fields {
					if f.At.Line < 1 || f.At.Line > lines || f.At.Column < 1 {
						t.Fatalf("%q: key %q at %s", text, f.Name, f.At)
					}
					check(f.Value)
				}
				for _, item := range v.Items {
					check(item)
				}
			}
			check(v)
			Decode(v, &sample{})
			Merge(reflect.TypeFor[sample](), v, v)
		}
	})
}
