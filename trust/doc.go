// Package trust decides whether an image may be used: it reads the policy of
// containers-policy.json(5), the documents that signatures are made of, and
// registries.d, containers-registries.d(5), which says where signatures are.
// Fetching them is the caller's task.
//
// Of the policy it knows all requirements: insecureAcceptAnything, reject,
// signedBy (simple signing with OpenPGP keys, containers-signature(5)) and
// sigstoreSigned with public keys, with certificates of Fulcio and entries of
// Rekor, and with certificates of a PKI. signedBaseLayer, which nobody
// implements, and signedBy with other keys than GPGKeys are refused by name when
// they apply.
//
// Sigstore signatures are those that cosign attaches to an image by a tag
// (SIGNATURE_SPEC.md of cosign: a payload of simple signing and annotations), and
// sigstore bundles of version 0.1 to 0.3 (protobuf-specs, sigstore_bundle.proto)
// with an in-toto statement in a DSSE envelope. Entries of Rekor are of the kinds
// hashedrekord, dsse and intoto; they are verified without asking the log, by its
// signed entry timestamp or by its checkpoint and inclusion proof.
//
// Not supported: timestamps of RFC 3161, which policies have no keys for, and
// signed certificate timestamps, which containers/image does not look at either.
package trust
