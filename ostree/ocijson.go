package ostree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// The manifest and the config of the image are kept in the merge commit as
// ostree-ext has them: read into the structures below and written as canonical
// JSON. What the structures do not name is lost.

// Media types of Docker's manifest v2 schema 2, which the image proxy turns
// into those of OCI.
var ociMediaTypes = map[string]string{
	"application/vnd.docker.distribution.manifest.v2+json":        "application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.container.image.v1+json":              "application/vnd.oci.image.config.v1+json",
	"application/vnd.docker.image.rootfs.diff.tar":                "application/vnd.oci.image.layer.v1.tar",
	"application/vnd.docker.image.rootfs.diff.tar.gzip":           "application/vnd.oci.image.layer.v1.tar+gzip",
	"application/vnd.docker.image.rootfs.diff.tar.zstd":           "application/vnd.oci.image.layer.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.foreign.diff.tar":        "application/vnd.oci.image.layer.nondistributable.v1.tar",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":   "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	"application/vnd.docker.image.rootfs.foreign.diff.tar.zstd":   "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
	"application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
}

func ociMediaType(s *string) {
	if to, ok := ociMediaTypes[*s]; ok {
		*s = to
	}
}

// imageManifest is the manifest as oci-spec has it. Pointers keep apart what is
// empty and what is missing.
type imageManifest struct {
	SchemaVersion *uint32            `json:"schemaVersion"`
	MediaType     *string            `json:"mediaType,omitempty"`
	ArtifactType  *string            `json:"artifactType,omitempty"`
	Config        *descriptor        `json:"config"`
	Layers        *[]descriptor      `json:"layers"`
	Subject       *descriptor        `json:"subject,omitempty"`
	Annotations   *map[string]string `json:"annotations,omitempty"`
}

type descriptor struct {
	MediaType    string             `json:"mediaType"`
	Digest       string             `json:"digest"`
	Size         uint64             `json:"size"`
	URLs         *[]string          `json:"urls,omitempty"`
	Annotations  *map[string]string `json:"annotations,omitempty"`
	Platform     *platform          `json:"platform,omitempty"`
	ArtifactType *string            `json:"artifactType,omitempty"`
	Data         *string            `json:"data,omitempty"`
}

// platform is that of oci-spec, which reads neither os.version nor os.features
// (it looks for other names).
type platform struct {
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Variant      *string   `json:"variant,omitempty"`
	Features     *[]string `json:"features,omitempty"`
}

// imageConfig is the config as it leaves the image proxy: written by Go from
// image-spec's structures, which drops what is empty and always writes config.
type imageConfig struct {
	Created      *time.Time    `json:"created,omitempty"`
	Author       string        `json:"author,omitempty"`
	Architecture string        `json:"architecture"`
	OS           string        `json:"os"`
	OSVersion    string        `json:"os.version,omitempty"`
	OSFeatures   []string      `json:"os.features,omitempty"`
	Variant      string        `json:"variant,omitempty"`
	Config       runtimeConfig `json:"config"`
	RootFS       *rootFS       `json:"rootfs"`
	History      []history     `json:"history,omitempty"`
}

type runtimeConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

type history struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// parseManifest reads a manifest of OCI or Docker.
func parseManifest(b []byte) (*imageManifest, error) {
	var m imageManifest
	if err := parseJSON(b, &m); err != nil {
		return nil, badImage("image manifest: %w", err)
	}
	if m.SchemaVersion == nil || m.Config == nil || m.Layers == nil {
		return nil, badImage("image manifest: schemaVersion, config or layers is missing")
	}
	if m.MediaType != nil {
		ociMediaType(m.MediaType)
	}
	ociMediaType(&m.Config.MediaType)
	for k := range *m.Layers {
		ociMediaType(&(*m.Layers)[k].MediaType)
	}
	return &m, nil
}

func parseConfig(b []byte) (*imageConfig, error) {
	var c imageConfig
	if err := parseJSON(b, &c); err != nil {
		return nil, badImage("image config: %w", err)
	}
	if c.RootFS == nil || c.RootFS.DiffIDs == nil {
		return nil, badImage("image config: rootfs is missing")
	}
	return &c, nil
}

func parseJSON(b []byte, v any) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	return json.Unmarshal(b, v)
}

// createdAnnotation is the annotation of a manifest with the time of creation.
const createdAnnotation = "org.opencontainers.image.created"

// Created returns the time of creation of an image, which becomes that of its
// merge commit, in seconds since 1970: the manifest's annotation, else the
// config's created. ok is false when there is none, or none that can be read,
// or one before 1970, which libostree could not show.
func Created(manifest, config []byte) (seconds int64, ok bool) {
	var m struct {
		Annotations map[string]string `json:"annotations"`
	}
	var c struct {
		Created *string `json:"created"`
	}
	if json.Unmarshal(manifest, &m) != nil || json.Unmarshal(config, &c) != nil {
		return 0, false
	}
	text, ok := m.Annotations[createdAnnotation]
	if !ok {
		if c.Created == nil {
			return 0, false
		}
		text = *c.Created
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() < 0 {
		return 0, false
	}
	return t.Unix(), true
}

// canonicalJSON returns v as canonical JSON (RFC 8785): keys in the order of
// their UTF-16 code units, nothing escaped that need not be, no white space.
// Numbers must be integers.
func canonicalJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var generic any
	if err := d.Decode(&generic); err != nil {
		return "", err
	}
	var out strings.Builder
	if err := writeCanonical(&out, generic); err != nil {
		return "", err
	}
	return out.String(), nil
}

func writeCanonical(out *strings.Builder, v any) error {
	switch v := v.(type) {
	case nil:
		out.WriteString("null")
	case bool:
		fmt.Fprint(out, v)
	case json.Number:
		out.WriteString(v.String())
	case string:
		writeCanonicalString(out, v)
	case []any:
		out.WriteByte('[')
		for k, element := range v {
			if k > 0 {
				out.WriteByte(',')
			}
			if err := writeCanonical(out, element); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.SortFunc(keys, func(a, b string) int {
			return slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		})
		out.WriteByte('{')
		for k, key := range keys {
			if k > 0 {
				out.WriteByte(',')
			}
			writeCanonicalString(out, key)
			out.WriteByte(':')
			if err := writeCanonical(out, v[key]); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	default:
		return fmt.Errorf("canonical JSON of a %T", v)
	}
	return nil
}

func writeCanonicalString(out *strings.Builder, s string) {
	const short = "\b\f\n\r\t\"\\"
	const letter = `bfnrt"\`
	out.WriteByte('"')
	for _, c := range s {
		if k := strings.IndexRune(short, c); k >= 0 {
			out.WriteByte('\\')
			out.WriteByte(letter[k])
		} else if c < ' ' {
			fmt.Fprintf(out, `\u%04x`, c)
		} else {
			out.WriteRune(c)
		}
	}
	out.WriteByte('"')
}
