// Package cyclonedx writes software bills of materials in JSON by CycloneDX 1.6
// (ECMA-424, first edition): metadata, components and dependencies.
package cyclonedx

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"imgbuild/packages"
)

// bom is the root object.
type bom struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	SerialNumber string       `json:"serialNumber,omitempty"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Tools     tools     `json:"tools"`
	Component component `json:"component"`
}

type tools struct {
	Components []component `json:"components"`
}

type component struct {
	Type        string        `json:"type"`
	Ref         string        `json:"bom-ref,omitempty"`
	Publisher   string        `json:"publisher,omitempty"`
	Name        string        `json:"name"`
	Version     string        `json:"version,omitempty"`
	Description string        `json:"description,omitempty"`
	Hashes      []hash        `json:"hashes,omitempty"`
	Licenses    []license     `json:"licenses,omitempty"`
	CPE         string        `json:"cpe,omitempty"`
	PURL        string        `json:"purl,omitempty"`
	References  []externalRef `json:"externalReferences,omitempty"`
	Properties  []property    `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

// license is a choice of one of the two.
type license struct {
	License    *named `json:"license,omitempty"`
	Expression string `json:"expression,omitempty"`
}

type named struct {
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
}

type externalRef struct {
	URL  string `json:"url"`
	Type string `json:"type"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

const (
	imageRef = "image"
	osRef    = "os"
)

// Encode returns the SBOM as JSON, the same bytes for the same document.
func Encode(d *packages.Document) ([]byte, error) {
	out := &bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{
			Timestamp: d.Timestamp(),
			Tools:     tools{[]component{{Type: "application", Name: d.Tool, Version: d.Version}}},
			Component: component{
				Type: "container", Ref: imageRef, Name: d.Name, Version: d.Digest, PURL: d.PURL,
				Hashes: []hash{{"SHA-256", strings.TrimPrefix(d.Digest, "sha256:")}},
			},
		},
		Components: []component{system(d)},
	}
	refs := references(d)
	all := []string{osRef}
	licenses := packages.NewLicenses()
	for i, p := range d.Packages {
		out.Components = append(out.Components, installed(p, d.OS, refs[i], licenses))
		all = append(all, refs[i])
	}
	out.Dependencies = []dependency{{imageRef, all}, {Ref: osRef}}
	for i, p := range d.Packages {
		dep := dependency{Ref: refs[i]}
		for _, k := range p.Depends {
			dep.DependsOn = append(dep.DependsOn, refs[k])
		}
		out.Dependencies = append(out.Dependencies, dep)
	}
	text, err := packages.EncodeJSON(out)
	if err != nil {
		return nil, err
	}
	out.SerialNumber = serial(sha256.Sum256(text))
	return packages.EncodeJSON(out)
}

// serial makes a UUID of version 8 (RFC 9562) of the digest of all the rest.
func serial(sum [32]byte) string {
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// references names the packages: by their package URLs, which are one for each.
func references(d *packages.Document) []string {
	refs := make([]string, len(d.Packages))
	for i, p := range d.Packages {
		refs[i] = p.PURL(d.OS)
	}
	return packages.Distinct(refs, "#")
}

func system(d *packages.Document) component {
	c := component{Type: "operating-system", Ref: osRef, Name: d.SystemName(), Version: d.OS.VersionID, Description: d.OS.PrettyName}
	if packages.ValidCPE(d.OS.CPE) {
		c.CPE = d.OS.CPE
	}
	c.References = website(d.OS.HomeURL)
	return c
}

func installed(p *packages.Package, os packages.OS, ref string, licenses *packages.Licenses) component {
	c := component{
		Type: "library", Ref: ref, Publisher: p.Supplier, Name: p.Name, Version: p.Version, Description: p.Summary,
		PURL: p.PURL(os), References: website(p.Homepage),
	}
	switch e := licenses.Parse(p.License); {
	case e.Text == "":
	case e.ID:
		c.Licenses = []license{{License: &named{ID: e.Text}}}
	case len(e.Refs) > 0:
		// A name says it better than an identifier of our own.
		c.Licenses = []license{{License: &named{Name: strings.Join(strings.Fields(p.License), " ")}}}
	default:
		c.Licenses = []license{{Expression: e.Text}}
	}
	for _, q := range []property{{"imgbuild:arch", p.Arch}, {"imgbuild:source", p.Source}, {"imgbuild:source-version", p.SourceVersion}} {
		if q.Value != "" {
			c.Properties = append(c.Properties, q)
		}
	}
	return c
}

func website(s string) []externalRef {
	if s = packages.Website(s); s == "" {
		return nil
	}
	return []externalRef{{s, "website"}}
}
