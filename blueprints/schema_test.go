package blueprints

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"imgbuild/document"
)

// compiled returns the schema as config schema prints it, in a validator that is
// not ours; it also checks the schema against that of schemas.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := json.Marshal(Schema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("blueprint.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("blueprint.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// same tells whether the schema and the reader of the types have one verdict on a
// JSON text.
func checkVerdict(t testing.TB, s *jsonschema.Schema, text string) {
	t.Helper()
	v, err := document.ParseJSON("c.json", text)
	if err != nil {
		t.Fatal(err)
	}
	_, problems := document.Decode(v, &Blueprint{})
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(instance); (err == nil) != (len(problems) == 0) {
		t.Errorf("%s\nschema: %v\nreader: %v", text, err, problems)
	}
}

// The schema accepts and refuses what the reader does.
func TestSchema(t *testing.T) {
	s := compiled(t)
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		checkVerdict(t, s, asJSON(t, string(readExample(t, filepath.Base(name)))))
	}
	for _, tc := range verdicts() {
		checkVerdict(t, s, asJSON(t, tc.text))
	}
	for _, text := range []string{
		`{"packages":null,"modules":null,"customizations":null}`, `{"packages":[null]}`, `{"packages":[{"name":null}]}`,
		`{"customizations":{"files":[{"path":"/etc/x","user":0,"group":"g"}]}}`, `{"customizations":{"files":[{"path":"/etc/x","user":""}]}}`,
		`{"customizations":{"files":[{"path":"/etc/x","user":4294967295}]}}`, `{"customizations":{"files":[{"path":"/etc/x","user":1.0}]}}`,
		`{"customizations":{"disk":{"minsize":"10 GiB"}}}`, `{"customizations":{"disk":{"minsize":"10G"}}}`, `{"customizations":{"disk":{"minsize":"10 gib"}}}`,
		`{"customizations":{"disk":{"minsize":0}}}`, `{"customizations":{"disk":{"minsize":1.5}}}`, `{"customizations":{"disk":{"minsize":"1.5TB"}}}`, `{"customizations":{"disk":{"minsize":""}}}`,
		`{"customizations":{"disk":{"type":""}}}`, `{"customizations":{"disk":{"type":null}}}`, `{"customizations":{"disk":{"type":"mbr"}}}`,
	} {
		checkVerdict(t, s, text)
	}
}

// Examples of every key: of each, the wrong type and another name are refused by
// both.
func TestSchemaEveryKey(t *testing.T) {
	s := compiled(t)
	for _, name := range []string{"applied.toml", "refused.toml"} {
		var top map[string]any
		if err := json.Unmarshal([]byte(asJSON(t, string(readExample(t, name)))), &top); err != nil {
			t.Fatal(err)
		}
		var visit func(v any)
		try := func() {
			text, err := json.Marshal(top)
			if err != nil {
				t.Fatal(err)
			}
			checkVerdict(t, s, string(text))
		}
		visit = func(v any) {
			switch v := v.(type) {
			case []any:
				for _, item := range v {
					visit(item)
				}
			case map[string]any:
				for key, old := range v {
					for _, wrong := range []any{1.5, true, "\x01", []any{1.5}, map[string]any{"x": 1}, nil} {
						v[key] = wrong
						try()
					}
					delete(v, key)
					try()
					v[key+"x"] = old
					try()
					delete(v, key+"x")
					v[key] = old
					visit(old)
				}
			}
		}
		visit(top)
	}
}

// The examples have every key of the schema between them.
func TestExamplesAreComplete(t *testing.T) {
	have := map[string]bool{}
	for _, name := range []string{"applied.toml", "refused.toml"} {
		v, err := document.ParseTOML(name, string(readExample(t, name)))
		if err != nil {
			t.Fatal(err)
		}
		places, problems := document.Decode(v, &Blueprint{})
		for _, p := range problems {
			t.Error(p)
		}
		for path := range places {
			for {
				i, j := strings.IndexByte(path, '['), strings.IndexByte(path, ']')
				if i < 0 || j == i+1 {
					break
				}
				path = path[:i] + "\x00" + path[j+1:]
			}
			have[strings.ReplaceAll(path, "\x00", "[]")] = true
		}
	}
	for _, k := range Keys() {
		if !have[k.Path] {
			t.Errorf("%s: in no example", k.Path)
		}
	}
}
