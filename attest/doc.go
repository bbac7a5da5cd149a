// Package attest says what was made of what, and signs it: in-toto Attestation
// Framework 1.0 (spec/v1/statement.md, resource_descriptor.md), the predicate SLSA
// Provenance 1.0 (slsa.dev/spec/v1.0/provenance) and DSSE 1.0.2 (envelope.md,
// protocol.md).
//
// Of these it has
//
//   - statements with that one predicate, whose digests are SHA-256,
//   - envelopes in JSON of the type application/vnd.in-toto+json, with signatures by
//     ECDSA on P-256, P-384 and P-521 (RFC 6979, so that equal input gives equal
//     bytes) and Ed25519,
//   - keys in PEM: PKCS #8, SEC 1, SubjectPublicKeyInfo, and the encrypted private
//     keys of cosign.
//
// Not supported: certificates, transparency logs, RSA, keys in hardware.
package attest
