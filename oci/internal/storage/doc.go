// Package storage reads images from the store of Podman, Buildah and CRI-O
// without their help: the on-disk format of containers/storage, as its version
// 1.59 writes it.
//
// A store is a directory, the graph root. For a driver D it has
//
//	D-images/images.json      images: names, top layer, names of their documents
//	D-images/ID/KEY           documents: manifests, the config
//	D-layers/layers.json      layers: parent and diff_id
//	D-layers/ID.tar-split.gz  headers and padding of the layer's tar
//	overlay/ID/diff           files of a layer, driver overlay
//	vfs/dir/ID                the same with all below it, driver vfs
//
// Layers are put together again from the recorded headers and the files' content,
// so what the driver made of whiteouts, hard links, owners and extended attributes
// does not matter. The result is the very tar that was unpacked.
//
// It reads the drivers overlay and vfs, additional image stores and a separate
// image store, and finds them by storage.conf, containers-storage.conf(5).
//
// Not supported: the drivers btrfs, zfs and aufs, overlay with composefs, layers
// of additional layer stores, and layers without recorded headers.
package storage
