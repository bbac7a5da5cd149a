// Package oci reads container images: it resolves references, picks the
// platform, verifies every byte against the digests that the manifest and the
// config name, and unpacks layers into spools of content and trees of inodes.
//
// It follows the OCI image specification 1.1 (image-layout.md, image-index.md,
// manifest.md, config.md, layer.md), the OCI distribution specification 1.1
// (pull, and push of an image that is complete) and Docker's image manifest version 2 schema 2. Of these it reads
//
//   - images in a registry ("docker://"), in an image layout directory ("oci:")
//     and in a tar of such a layout ("oci-archive:"),
//   - layers that are plain, gzip or zstd tars, told apart by their first bytes
//     as other tools do,
//   - SHA-256 digests.
//
// Not supported: schema 1 manifests, encrypted layers, xz and bzip2 layers,
// foreign layers that are only at another URL, and SHA-512 digests.
//
// [Open] resolves an image and reads its manifest and config; [Image.Unpack]
// reads its layers. The trees of layers are raw: whiteouts (".wh." names) are
// ordinary files in them, merging layers is the caller's task.
package oci
