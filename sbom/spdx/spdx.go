// Package spdx writes software bills of materials in JSON by SPDX 2.3 (ISO/IEC
// 5962 with its corrections): document creation information, packages,
// relationships and other licensing information.
//
// Files and snippets are not described.
package spdx

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"imgbuild/packages"
)

// document is section 6 with all that follows.
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creationInfo   `json:"creationInfo"`
	Packages          []spdxPackage  `json:"packages"`
	Relationships     []relationship `json:"relationships"`
	ExtractedLicenses []extracted    `json:"hasExtractedLicensingInfos,omitempty"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

// spdxPackage is section 7.
type spdxPackage struct {
	Name             string        `json:"name"`
	SPDXID           string        `json:"SPDXID"`
	VersionInfo      string        `json:"versionInfo,omitempty"`
	Supplier         string        `json:"supplier,omitempty"`
	DownloadLocation string        `json:"downloadLocation"`
	FilesAnalyzed    bool          `json:"filesAnalyzed"`
	Checksums        []checksum    `json:"checksums,omitempty"`
	Homepage         string        `json:"homepage,omitempty"`
	SourceInfo       string        `json:"sourceInfo,omitempty"`
	LicenseConcluded string        `json:"licenseConcluded"`
	LicenseDeclared  string        `json:"licenseDeclared"`
	CopyrightText    string        `json:"copyrightText"`
	Summary          string        `json:"summary,omitempty"`
	ExternalRefs     []externalRef `json:"externalRefs,omitempty"`
	Purpose          string        `json:"primaryPackagePurpose,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

// relationship is section 11.
type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// extracted is section 10.
type extracted struct {
	ID   string `json:"licenseId"`
	Text string `json:"extractedText"`
	Name string `json:"name"`
}

const (
	noAssertion = "NOASSERTION"
	documentID  = "SPDXRef-DOCUMENT"
	imageID     = "SPDXRef-image"
	osID        = "SPDXRef-os"
)

// Encode returns the SBOM as JSON, the same bytes for the same document.
func Encode(d *packages.Document) ([]byte, error) {
	out := &document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: documentID, Name: d.Name,
		CreationInfo: creationInfo{
			Created:  d.Timestamp(),
			Creators: []string{"Tool: " + d.Tool + "-" + d.Version},
		},
		Packages:      []spdxPackage{image(d), system(d)},
		Relationships: []relationship{{documentID, "DESCRIBES", imageID}, {imageID, "CONTAINS", osID}},
	}
	licenses, refs := packages.NewLicenses(), map[string]string{}
	ids := identifiers(d)
	for i, p := range d.Packages {
		expression := licenses.Parse(p.License)
		maps.Copy(refs, expression.Refs)
		out.Packages = append(out.Packages, installed(p, d.OS, ids[i], expression.Text))
		out.Relationships = append(out.Relationships, relationship{imageID, "CONTAINS", ids[i]})
		for _, k := range p.Depends {
			out.Relationships = append(out.Relationships, relationship{ids[i], "DEPENDS_ON", ids[k]})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(refs)) {
		out.ExtractedLicenses = append(out.ExtractedLicenses, extracted{id, "The package database names this licence: " + refs[id], refs[id]})
	}
	text, err := packages.EncodeJSON(out)
	if err != nil {
		return nil, err
	}
	// A namespace of its own for every document: that of all the rest of it.
	out.DocumentNamespace = fmt.Sprintf("https://example.com/imgbuild/spdx/%x", sha256.Sum256(text))
	return packages.EncodeJSON(out)
}

// identifiers names the packages.
func identifiers(d *packages.Document) []string {
	ids := make([]string, len(d.Packages))
	for i, p := range d.Packages {
		ids[i] = "SPDXRef-" + packages.Idstring(strings.Join([]string{string(p.Type), p.Name, p.Version, p.Arch}, "-"))
	}
	// A name may end as another's version begins.
	return packages.Distinct(ids, ".")
}

func image(d *packages.Document) spdxPackage {
	p := spdxPackage{
		Name: d.Name, SPDXID: imageID, VersionInfo: d.Digest, DownloadLocation: noAssertion,
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, CopyrightText: noAssertion, Purpose: "CONTAINER",
		Checksums: []checksum{{"SHA256", strings.TrimPrefix(d.Digest, "sha256:")}},
	}
	if d.PURL != "" {
		p.ExternalRefs = []externalRef{{"PACKAGE-MANAGER", "purl", d.PURL}}
	}
	return p
}

func system(d *packages.Document) spdxPackage {
	p := spdxPackage{
		Name: d.SystemName(), SPDXID: osID, VersionInfo: d.OS.VersionID, DownloadLocation: noAssertion, Homepage: packages.Website(d.OS.HomeURL),
		LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, CopyrightText: noAssertion, Summary: d.OS.PrettyName, Purpose: "OPERATING_SYSTEM",
	}
	if packages.ValidCPE(d.OS.CPE) {
		kind := "cpe22Type"
		if strings.HasPrefix(d.OS.CPE, "cpe:2.3:") {
			kind = "cpe23Type"
		}
		p.ExternalRefs = []externalRef{{"SECURITY", kind, d.OS.CPE}}
	}
	return p
}

func installed(p *packages.Package, os packages.OS, id, license string) spdxPackage {
	out := spdxPackage{
		Name: p.Name, SPDXID: id, VersionInfo: p.Version, Supplier: noAssertion, DownloadLocation: noAssertion,
		Homepage: packages.Website(p.Homepage), LicenseConcluded: noAssertion, LicenseDeclared: license, CopyrightText: noAssertion,
		Summary: p.Summary, ExternalRefs: []externalRef{{"PACKAGE-MANAGER", "purl", p.PURL(os)}},
	}
	if license == "" {
		out.LicenseDeclared = noAssertion
	}
	if p.Supplier != "" {
		out.Supplier = "Organization: " + supplier(p.Supplier)
	}
	switch {
	case p.Source != "" && p.SourceVersion != "":
		out.SourceInfo = "built from the source package " + p.Source + " " + p.SourceVersion
	case p.Source != "":
		out.SourceInfo = "built from the source package " + p.Source
	}
	return out
}

// supplier writes "Name <mail>" as SPDX has it.
func supplier(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	name, mail, ok := strings.Cut(s, "<")
	mail = strings.TrimSuffix(strings.TrimSpace(mail), ">")
	name = strings.NewReplacer("(", "[", ")", "]").Replace(strings.TrimSpace(name))
	if ok && name != "" && strings.Count(mail, "@") == 1 && !strings.ContainsAny(mail, " ()<>") {
		return name + " (" + mail + ")"
	}
	return strings.NewReplacer("(", "[", ")", "]").Replace(s)
}
