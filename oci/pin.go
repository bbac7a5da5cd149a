package oci

// Pin returns the reference with a digest in place of its tag or digest, where its
// transport can be asked for any digest: a registry. Else it returns r itself.
func (r Reference) Pin(digest string) Reference {
	if r.transport == TransportRegistry && reDigest.MatchString(digest) {
		r.digest = digest
	}
	return r
}
