package oci

import (
	"fmt"
	"strings"

	"imgbuild/fault"
	"imgbuild/trust"
)

// Access says how registries and local stores are reached, beyond what every
// image needs.
type Access struct {
	// Creds are "USER:PASSWORD" for the registry of the image, instead of those
	// of credentials files. Mirrors do not get them.
	Creds string
	// RegistryToken is a bearer token for that registry, used as it is.
	RegistryToken string
	// RegistriesConf is the registries.conf to read instead of those of the
	// user and the system. Their registries.conf.d are read with it, as Podman
	// does.
	RegistriesConf string
	// CertDir has the certificates of registries, *.crt, *.cert and *.key,
	// instead of the directories certs.d.
	CertDir string
	// Local says whether names are looked up in the local store of Podman and
	// Buildah, too.
	Local Local
	// Pull says when a registry is asked.
	Pull PullPolicy
	// Policy decides which images may be used. Nil accepts all of them.
	Policy *trust.Policy
	// RegistriesD is the directory that says where signatures are, instead of
	// those of the user and the system.
	RegistriesD string
	// root is put before the absolute paths of the system's configuration.
	root string
}

// Local says when names are looked up in the local store.
type Local string

// The choices of Local.
const (
	LocalDefault Local = ""    // names of the registry "localhost", and with PullMissing or PullNever all
	LocalFirst   Local = "yes" // all names, before a registry is asked
	LocalNever   Local = "no"
)

// PullPolicy says when a registry is asked for what a name stands for.
type PullPolicy string

// The policies. The empty one is PullAlways.
const (
	PullAlways  PullPolicy = "always"
	PullMissing PullPolicy = "missing" // when neither the local store nor the cache has the image
	PullNever   PullPolicy = "never"
)

// ParsePull parses a policy. The error is of the class Usage.
func ParsePull(s string) (PullPolicy, error) {
	switch p := PullPolicy(s); p {
	case "", PullAlways, PullMissing, PullNever:
		return p, nil
	}
	return "", fault.New(fault.Usage, fmt.Errorf("pull policy %s: unknown", clip(s)), "the policies are always, missing and never")
}

// CheckCreds checks the form of credentials. The error is of the class Usage and
// does not show them.
func CheckCreds(s string) error {
	if user, _, ok := strings.Cut(s, ":"); s != "" && (!ok || user == "") {
		return fault.New(fault.Usage, fmt.Errorf("credentials are not of the form USER:PASSWORD"), "")
	}
	return nil
}

// local tells whether the local store is to be asked for ref before a registry.
func (a *Access) local(ref Reference) bool {
	switch a.Local {
	case LocalNever:
		return false
	case LocalFirst:
		// A registry that has to be asked in any case is asked.
		return a.Pull != PullAlways
	}
	return a.Pull == PullMissing || a.Pull == PullNever || ref.registry == "localhost"
}
