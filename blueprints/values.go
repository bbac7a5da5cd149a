package blueprints

import (
	"imgbuild/document"
)

// DecodeValue reads a size: a number of bytes, or a number with a unit.
func (s *Size) DecodeValue(v *document.Value) string {
	switch v.Kind {
	case document.Integer:
		switch {
		case v.Integer < 0:
			return "cannot be negative"
		case v.Integer == 0:
			return "must be greater than 0"
		}
		*s = Size(v.Integer)
	case document.String:
		n, err := ParseSize(v.Text)
		if err != nil {
			return err.Error()
		}
		*s = Size(n)
	default:
		return v.Kind.String() + `, where a size belongs, such as "10 GiB" or a number of bytes`
	}
	return ""
}

// DecodeValue reads a user or a group: a name, or a number.
func (o *Owner) DecodeValue(v *document.Value) string {
	switch v.Kind {
	case document.Integer:
		if v.Integer < 0 || v.Integer >= 1<<32-1 {
			return v.Text + " is no user or group id"
		}
		o.ID = uint32(v.Integer)
	case document.String:
		if v.Text == "" {
			return "empty"
		}
		o.Name = v.Text
	default:
		return v.Kind.String() + ", where a name or a number belongs"
	}
	return ""
}

// EncodeValue returns the number of bytes.
func (s Size) EncodeValue() any { return int64(s) }

// EncodeValue returns the name, or the number.
func (o Owner) EncodeValue() any {
	if o.Name != "" {
		return o.Name
	}
	return int64(o.ID)
}
