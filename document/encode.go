package document

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// Encoder is a type that says itself how it is written: as a string, an int64 or a
// bool.
type Encoder interface {
	EncodeValue() any
}

// Encode returns a struct as JSON that [Decode] makes the same struct of. Keys
// whose value is the one that an absent key has are left out.
func Encode(v any) ([]byte, error) {
	out, err := encode(reflect.ValueOf(v))
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(out, "", "  ")
}

func encode(v reflect.Value) (any, error) {
	if v.Kind() == reflect.Pointer {
		return encode(v.Elem())
	}
	if e, ok := v.Interface().(Encoder); ok {
		return e.EncodeValue(), nil
	}
	switch v.Kind() {
	case reflect.Struct:
		fields := map[string]any{} // which json sorts
		for _, k := range Keys(v.Type()) {
			f := v.Field(k.Index)
			if f.IsZero() && !k.Required {
				continue
			}
			value, err := encode(f)
			if err != nil {
				return nil, err
			}
			fields[k.Name] = value
		}
		return fields, nil
	case reflect.Slice:
		items := make([]any, v.Len())
		for i := range items {
			var err error
			if items[i], err = encode(v.Index(i)); err != nil {
				return nil, err
			}
		}
		return items, nil
	case reflect.String:
		return v.String(), nil
	case reflect.Int64:
		return v.Int(), nil
	case reflect.Bool:
		return v.Bool(), nil
	}
	return nil, fmt.Errorf("document: a field of type %s", v.Type())
}
