package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"imgbuild/fault"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// trustFlags say which images are trusted.
type trustFlags struct {
	policy, registriesD string
	keys                []string
}

func (f *trustFlags) register(s *pflag.FlagSet) {
	s.StringArrayVar(&f.keys, "verify-key", nil, "public key of cosign or skopeo: the image has to be signed with it; may be repeated for several, one of which has to fit")
	s.StringVar(&f.policy, "signature-policy", "", "policy.json to use (default: $CONTAINERS_POLICY_JSON, then those of the user and the system; without any, signatures are not looked at)")
	s.StringVar(&f.registriesD, "registries-d", "", "directory with files *.yaml that say where signatures are (default: registries.d of the system and the user)")
}

// apply loads the policy and the keys.
func (f *trustFlags) apply(o *pipeline.Options) error {
	o.Access.RegistriesD = f.registriesD
	policy, err := oci.LoadPolicy(f.policy, oci.Options{Getenv: o.Getenv, Home: o.Home})
	if err != nil {
		return err
	}
	if len(f.keys) > 0 {
		if policy, err = policy.RequireKeys(f.keys...); err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--verify-key: %w", err), fault.HintOf(err))
		}
	}
	o.Access.Policy = policy
	return nil
}
