package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// cosignMediaType is that of a payload of cosign.
const cosignMediaType = "application/vnd.dev.cosign.simplesigning.v1+json"

// IsPayload tells whether blobs of a media type are signatures of the kind Cosign
// or Bundle.
func IsPayload(mediaType string) (Kind, bool) {
	switch {
	case mediaType == cosignMediaType:
		return Cosign, true
	case isBundle(mediaType):
		return Bundle, true
	}
	return "", false
}

// isBundle tells whether a media type is that of a sigstore bundle, of whatever
// version.
func isBundle(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.dev.sigstore.bundle")
}

// ParseBlob parses a signature as containers/image keeps them in files: an OpenPGP
// message, or a zero byte, the name of a format, a line feed and the signature.
// Attachments that are no signatures are nil.
func ParseBlob(data []byte) (*Signature, error) {
	if len(data) == 0 {
		return nil, errors.New("is empty")
	}
	if len(data) > maxPayload {
		return nil, fmt.Errorf("more than %d bytes", maxPayload)
	}
	if data[0] != 0 {
		// The first packet of a message has bit 7 set.
		if data[0]&0x80 == 0 {
			return nil, errors.New("is no signature")
		}
		return &Signature{Kind: Simple, Payload: data}, nil
	}
	format, rest, ok := bytes.Cut(data[1:], []byte("\n"))
	if !ok {
		return nil, errors.New("is no signature")
	}
	switch string(format) {
	case "simple-signing":
		return &Signature{Kind: Simple, Payload: rest}, nil
	case "sigstore-json":
		var s struct {
			MediaType   string            `json:"mimeType"`
			Payload     []byte            `json:"payload"`
			Annotations map[string]string `json:"annotations"`
		}
		if err := json.Unmarshal(rest, &s); err != nil {
			return nil, invalid(err)
		}
		kind, ok := IsPayload(s.MediaType)
		if !ok {
			return nil, nil
		}
		return &Signature{Kind: kind, Payload: s.Payload, Annotations: s.Annotations}, nil
	}
	return nil, fmt.Errorf("is of the format %s, which is not known", clip(string(format)))
}
