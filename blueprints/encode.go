package blueprints

import "imgbuild/document"

// Encode returns the blueprint as a JSON file that [Load] reads the same from.
func (b *Blueprint) Encode() ([]byte, error) { return document.Encode(b) }
