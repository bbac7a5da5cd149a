package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// payload is what simple signing signs, containers-signature(5): the digest of a
// manifest, and the name it is for.
type payload struct {
	digest    string
	reference string
}

// Types of payloads, which keep a signature of one scheme from being used in the
// other.
const (
	typeAtomic = "atomic container signature"
	typeCosign = "cosign container image signature"
)

// maxPayload is the most that is taken as a payload or bundle, in bytes; it is
// that of containers/image.
const maxPayload = 4 << 20

// parsePayload parses a payload whose signature has been verified.
func parsePayload(data []byte, want string) (payload, error) {
	var p payload
	if len(data) > maxPayload {
		return p, fmt.Errorf("more than %d bytes", maxPayload)
	}
	var critical, optional, image, identity json.RawMessage
	if err := exact(data, map[string]any{"critical": &critical, "optional": &optional}); err != nil {
		return p, err
	}
	// cosign writes null where there is nothing.
	if want != typeCosign || !bytes.Equal(optional, []byte("null")) {
		if err := checkOptional(optional); err != nil {
			return p, fmt.Errorf("optional: %w", err)
		}
	}
	var kind string
	if err := exact(critical, map[string]any{"type": &kind, "image": &image, "identity": &identity}); err != nil {
		return p, fmt.Errorf("critical: %w", err)
	}
	if kind != want {
		return p, fmt.Errorf("is a %s, not a %s", clip(kind), want)
	}
	if err := exact(image, map[string]any{"docker-manifest-digest": &p.digest}); err != nil {
		return p, fmt.Errorf("image: %w", err)
	}
	if !reDigest.MatchString(p.digest) {
		return p, fmt.Errorf("image: %s is no digest", clip(p.digest))
	}
	if err := exact(identity, map[string]any{"docker-reference": &p.reference}); err != nil {
		return p, fmt.Errorf("identity: %w", err)
	}
	return p, nil
}

// checkOptional checks the types of what is known of the optional part.
func checkOptional(data []byte) error {
	var creator string
	var timestamp float64
	err := object(data, func(key string) any {
		switch key {
		case "creator":
			return &creator
		case "timestamp":
			return &timestamp
		}
		return new(any)
	})
	if err == nil && timestamp != float64(int64(timestamp)) {
		err = errors.New("timestamp: not a whole number")
	}
	return err
}

// accept compares a verified payload with the image, and says who signed it.
func (p payload) accept(img *Image, digest string, id identity, by string) (string, error) {
	if p.digest != digest {
		return "", fmt.Errorf("is for another image, %s", p.digest)
	}
	if err := id.check(img, p.reference); err != nil {
		return "", err
	}
	return signedText(digest, p.reference, by), nil
}

// signedText says in one line what was signed and by whom.
func signedText(digest, name, by string) string {
	if name == "" {
		return fmt.Sprintf("%s, by %s", digest, by)
	}
	return fmt.Sprintf("%s for %s, by %s", digest, clip(name), by)
}
