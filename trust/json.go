package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// object decodes a JSON object strictly: field names a place for the value of
// every key, and a key that it returns nil for, or that comes twice, is an error.
// Names are compared exactly, which encoding/json does not do.
func object(data []byte, field func(key string) any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	t, err := dec.Token()
	if err != nil {
		return invalid(err)
	}
	if t != json.Delim('{') {
		return fmt.Errorf("is no JSON object")
	}
	seen := map[string]bool{}
	for {
		t, err := dec.Token()
		if err != nil {
			return invalid(err)
		}
		if t == json.Delim('}') {
			break
		}
		key := t.(string) // all that the decoder takes here
		if seen[key] {
			return fmt.Errorf("%s: twice", clip(key))
		}
		seen[key] = true
		to := field(key)
		if to == nil {
			return fmt.Errorf("%s: unknown", clip(key))
		}
		if err := dec.Decode(to); err != nil {
			return fmt.Errorf("%s: %w", clip(key), plain(err))
		}
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("more follows the JSON object")
	}
	return nil
}

// fields decodes an object that has some of the given fields and no others.
func fields(data []byte, to map[string]any) (has map[string]bool, err error) {
	has = map[string]bool{}
	err = object(data, func(key string) any {
		has[key] = true
		return to[key]
	})
	return has, err
}

// exact decodes an object that has all of the given fields and no others.
func exact(data []byte, to map[string]any) error {
	has, err := fields(data, to)
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(to) {
		if !has[key] {
			return fmt.Errorf("%s: missing", clip(key))
		}
	}
	return nil
}

func invalid(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

// plain turns an error of encoding/json into words about the file.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("is a %s, which it must not be", wrong.Value)
	}
	return err
}

// clip quotes s for an error message, cut to a readable length.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
