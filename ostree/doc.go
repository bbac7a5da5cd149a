// Package ostree writes what `bootc install` leaves of libostree on a disk: the
// objects and refs of a bare repository, the import of a container image into
// it, and a deployment. All of it is a function of trees in memory.
//
// The formats are those of libostree 2026.4 (src/libostree/ostree-core.h for
// the objects, GVariant 1.0 for their serialization), of ostree-ext 0.15 for
// container images, and of ostree-sysroot-deploy.c for deployments.
//
// Written is the repository mode "bare" with loose objects only: regular files,
// symbolic links, dirtree, dirmeta and commit objects, and the detached metadata
// of an encapsulated base. There are no static deltas, summaries or partial
// commits, and exactly one deployment.
//
// Read are the layers of an encapsulated commit (label ostree.final-diffid), of
// format versions 0 and 1 of ostree-ext's src/tar/export.rs. Signatures in
// detached metadata are kept, and not verified.
//
// Not part of the package: boot loader files, labels of SELinux, the composefs
// image (its bytes are a parameter), /etc/fstab and bound images.
package ostree
