package attest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Identifiers of the specifications.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	ProvenanceV1  = "https://slsa.dev/provenance/v1"
	PayloadType   = "application/vnd.in-toto+json" // of a statement in an envelope
	// BuildType is that of builds of disks; docs/records.md says what its
	// parameters mean.
	BuildType = "https://example.com/imgbuild/build/v1"
	// Builder is who made it: whoever ran the program, no service that vouches for
	// itself.
	Builder = "https://example.com/imgbuild"
)

// MaxSize is the largest statement or envelope that is read, in bytes: an image
// with thousands of layers takes less than one.
const MaxSize = 16 << 20

// maxName is the longest name of a resource, in bytes: that of a path on Linux.
const maxName = 4096

// Statement is an in-toto statement of where its subjects come from.
type Statement struct {
	Type          string     `json:"_type"`
	Subject       []Resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     Provenance `json:"predicate"`
}

// Resource is a resource descriptor.
type Resource struct {
	Name        string            `json:"name,omitempty"` // of a file: its path, with slashes
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"` // by algorithm, in hexadecimal
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Provenance is the predicate.
type Provenance struct {
	BuildDefinition BuildDefinition `json:"buildDefinition"`
	RunDetails      RunDetails      `json:"runDetails"`
}

// BuildDefinition is all that shapes the result.
type BuildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   Parameters         `json:"externalParameters"`
	InternalParameters   InternalParameters `json:"internalParameters,omitzero"`
	ResolvedDependencies []Resource         `json:"resolvedDependencies"`
}

// Parameters are what the user said.
type Parameters struct {
	Image string   `json:"image"` // the reference
	Flags []string `json:"flags"` // those of the command that shape the result, as --name=value
}

// InternalParameters are what else there was.
type InternalParameters struct {
	SourceDateEpoch string `json:"SOURCE_DATE_EPOCH,omitempty"` // seconds since 1970
}

// RunDetails are about the run; none of them shapes the result.
type RunDetails struct {
	Builder    BuilderID  `json:"builder"`
	Byproducts []Resource `json:"byproducts,omitempty"`
}

// BuilderID says which program it was.
type BuilderID struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

// Names of resources that a build depends on.
const (
	DependencyManifest = "manifest" // of the image
	DependencyIndex    = "index"    // that the manifest was chosen from
	DependencyConfig   = "config"   // of the image
	DependencyLayer    = "layer"
	DependencyPayload  = "payload" // manifest of another image that is on a medium
	DependencyFile     = "file"    // that a flag names; its path is in the annotation "path"
)

// SHA256 returns the digest set of a SHA-256.
func SHA256(sum [32]byte) map[string]string {
	return map[string]string{"sha256": hex.EncodeToString(sum[:])}
}

// OfDigest returns the digest set of a digest as images spell it, "sha256:…".
func OfDigest(digest string) map[string]string {
	algorithm, value, _ := strings.Cut(digest, ":")
	return map[string]string{algorithm: value}
}

// Dependencies returns the dependencies with a name.
func (s *Statement) Dependencies(name string) (list []Resource) {
	for _, r := range s.Predicate.BuildDefinition.ResolvedDependencies {
		if r.Name == name {
			list = append(list, r)
		}
	}
	return list
}

// Files lists all files that the statement is about: subjects first, then
// by-products.
func (s *Statement) Files() []Resource {
	return append(append([]Resource{}, s.Subject...), s.Predicate.RunDetails.Byproducts...)
}

// Encode returns the statement as JSON, the same bytes for the same statement.
func (s *Statement) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// ParseStatement parses and checks a statement. Fields that are not known are
// ignored, as the specification has it.
func ParseStatement(text []byte) (*Statement, error) {
	var s Statement
	if err := unmarshal(text, &s); err != nil {
		return nil, err
	}
	switch {
	case s.Type != StatementType:
		return nil, fmt.Errorf("type %q: not that of a statement, %s", clip(s.Type), StatementType)
	case s.PredicateType != ProvenanceV1:
		return nil, fmt.Errorf("predicate %q: not %s", clip(s.PredicateType), ProvenanceV1)
	case s.Predicate.BuildDefinition.BuildType != BuildType:
		return nil, fmt.Errorf("build type %q: not %s", clip(s.Predicate.BuildDefinition.BuildType), BuildType)
	case len(s.Subject) == 0:
		return nil, errors.New("no subject")
	}
	for _, list := range [][]Resource{s.Files(), s.Predicate.BuildDefinition.ResolvedDependencies} {
		for _, r := range list {
			if len(r.Name) > maxName {
				return nil, fmt.Errorf("%s: a name of %d bytes", clip(r.Name), len(r.Name))
			}
			if _, err := r.Sum(); err != nil {
				return nil, fmt.Errorf("%s: %w", clip(r.Name), err)
			}
		}
	}
	return &s, nil
}

// Sum returns the SHA-256 of the resource.
func (r *Resource) Sum() (sum [32]byte, err error) {
	text, ok := r.Digest["sha256"]
	if !ok {
		return sum, errors.New("no sha256")
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(sum) || strings.ToLower(text) != text {
		return sum, fmt.Errorf("sha256 %q: not 64 hexadecimal digits", clip(text))
	}
	return [32]byte(b), nil
}

// unmarshal reads one JSON value and nothing after it.
func unmarshal(text []byte, v any) error {
	if len(text) > MaxSize {
		return fmt.Errorf("more than %d bytes", MaxSize)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("invalid JSON: more than one value")
	}
	return nil
}

// clip shortens a text from outside for a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
