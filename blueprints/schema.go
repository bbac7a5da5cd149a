package blueprints

import (
	"reflect"

	"imgbuild/document"
)

// Schema returns the JSON Schema (draft 2020-12) of config files. What it refuses
// Load refuses, and more: Load also looks at the values, and at what they say
// together.
func Schema() map[string]any {
	text := map[string]string{}
	for _, k := range Keys() {
		text[k.Path] = k.Text
		if k.Refused {
			text[k.Path] = "Not applied: " + k.Text + "."
		}
	}
	s := tableSchema(reflect.TypeFor[Blueprint](), "", text)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Blueprint for imgbuild"
	return s
}

// tableSchema returns the schema of a table at path.
func tableSchema(t reflect.Type, path string, text map[string]string) map[string]any {
	properties := map[string]any{}
	required := []string{}
	for _, k := range document.Keys(t) {
		at, typ := k.Name, indirect(k.Type)
		if path != "" {
			at = path + "." + k.Name
		}
		s := valueSchema(typ, at, text)
		if len(k.Enum) > 0 {
			words := []any{}
			for _, w := range k.Enum {
				words = append(words, w)
			}
			if !k.Required {
				words = append(words, "", nil)
			}
			s["enum"] = words
		}
		if text[at] != "" {
			s["description"] = text[at]
		}
		if k.Required {
			required = append(required, k.Name)
		} else {
			optional(s)
		}
		properties[k.Name] = s
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}

// optional lets a value be null, which is as if its key was not there.
func optional(s map[string]any) {
	switch t := s["type"].(type) {
	case string:
		s["type"] = []string{t, "null"}
	case []string:
		s["type"] = append(t, "null")
	}
}

// sizePattern is what ParseSize reads.
const sizePattern = `^[0-9.]*[0-9]\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB|[kKmMgGtT])?$`

// valueSchema returns the schema of a value of a type.
func valueSchema(t reflect.Type, path string, text map[string]string) map[string]any {
	switch {
	case t == reflect.TypeFor[Size]():
		return map[string]any{"type": []string{"integer", "string"}, "minimum": 1, "pattern": sizePattern}
	case t == reflect.TypeFor[Owner]():
		return map[string]any{"type": []string{"integer", "string"}, "minimum": 0, "maximum": int64(1<<32 - 2), "minLength": 1}
	case t.Kind() == reflect.Struct:
		return tableSchema(t, path, text)
	case t.Kind() == reflect.Slice:
		elem := indirect(t.Elem())
		if isTable(elem) {
			path += "[]"
		}
		return map[string]any{"type": "array", "items": valueSchema(elem, path, text)}
	case t.Kind() == reflect.Int64:
		return map[string]any{"type": "integer"}
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	}
	return map[string]any{"type": "string"}
}
