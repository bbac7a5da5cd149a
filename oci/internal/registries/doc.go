// Package registries reads registries.conf, containers-registries.conf(5) in
// version 2, and answers what is asked of it: from where an image is pulled, and
// which names a short name can stand for.
//
// It reads [[registry]] with prefix (also "*.example.com"), location, insecure,
// blocked, mirror-by-digest-only and [[registry.mirror]] with location, insecure
// and pull-from-mirror; unqualified-search-registries, short-name-mode,
// credential-helpers and [aliases]; the drop-in files of registries.conf.d; and
// version 1 files with [registries.search], [registries.insecure] and
// [registries.block].
//
// Not used: additional-layer-store-auth-helper. Keys that are not known are left
// alone, as Podman leaves them.
package registries
