// Package medium describes what is on an installation medium: which image it
// installs, and with which options. The description is written when the medium is
// made and read by the installer that starts from it.
//
// A medium has, below its root:
//
//	imgbuild/install.json    the description, JSON
//	imgbuild/files/N         what files of the configuration have as content
//	images/imgbuild.conf     what can be changed later, see package settings
//	images/pxeboot/          kernel and initramfs
//	container/               the image: an OCI image layout with its own blobs
package medium

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"imgbuild/oci"
)

// Paths on the medium.
const (
	Path    = "imgbuild/install.json"
	Files   = "imgbuild/files"
	Payload = "container"
	Kernel  = "images/pxeboot/vmlinuz"
	Initrd  = "images/pxeboot/initrd.img"
)

// Mount is where the installer mounts the medium, which the configuration names
// files by.
const Mount = "/run/imgbuild/medium"

// InMemory is where the medium is in the initramfs of a machine that was started over
// a network, with all that is on it.
const InMemory = "/medium"

// MaxSize bounds a description, in bytes.
const MaxSize = 8 << 20

// version is that of the format.
const version = 1

// Description says what a medium installs.
type Description struct {
	Version int `json:"version"`
	// Title names the system for people, as "Debian GNU/Linux 14".
	Title    string `json:"title"`
	VolumeID string `json:"volume_id"` // by which GRUB finds the medium
	Arch     string `json:"arch"`      // GOARCH name
	Kernel   string `json:"kernel"`    // version, of the modules in the initramfs
	Image    Image  `json:"image"`
	Build    Build  `json:"build"`
	// MinimumDisk is the size of the smallest disk that the system fits, in bytes.
	MinimumDisk int64 `json:"minimum_disk"`
	// RootFS are the root file systems that can be chosen from, the default first:
	// none or one where the image or the configuration decides.
	RootFS []string `json:"root_fs,omitempty"`
	// Admins is the group whose members may become root, "" without one.
	Admins string `json:"admins,omitempty"`
	// Unattended, Target, Wipe are what the settings of the medium are where they
	// say nothing.
	Unattended bool   `json:"unattended,omitempty"`
	Target     string `json:"target,omitempty"`
	Wipe       bool   `json:"wipe,omitempty"`
}

// Image is the image on a medium.
type Image struct {
	// Digest is that of its manifest on the medium, "sha256:…".
	Digest string `json:"digest"`
	// Reference is where the image came from.
	Reference string `json:"reference"`
	Size      int64  `json:"size"` // of all blobs, bytes
}

// Build are the options that the disk is made with, as of `imgbuild build`.
type Build struct {
	Target     string   `json:"target"`
	Stateroot  string   `json:"stateroot,omitempty"`
	RootFS     string   `json:"rootfs,omitempty"`
	Kargs      []string `json:"kargs,omitempty"`
	KargDelete []string `json:"karg_delete,omitempty"`
	NoDefaults bool     `json:"no_default_kernel_args,omitempty"`
	SELinuxOff bool     `json:"disable_selinux,omitempty"`
	SigPolicy  bool     `json:"enforce_container_sigpolicy,omitempty"`
	SkipBound  bool     `json:"skip_bound_images,omitempty"`
	RootSize   int64    `json:"root_size,omitempty"`  // bytes
	FreeSpace  int64    `json:"free_space,omitempty"` // bytes
	Seed       string   `json:"seed,omitempty"`
	// Limits are of what the image may cost.
	Limits oci.Limits `json:"limits"`
	// Layout is a disk.yaml, "" for that of the image or the default.
	Layout     string `json:"layout,omitempty"`
	LayoutName string `json:"layout_name,omitempty"`
	// Config is a blueprint as JSON, nil without one. Passwords are hashed.
	Config            json.RawMessage `json:"config,omitempty"`
	AllowPaths        []string        `json:"allow_paths,omitempty"`
	IgnoreUnsupported bool            `json:"ignore_unsupported,omitempty"`
}

// Encode returns the description as a file.
func (d *Description) Encode() ([]byte, error) {
	d.Version = version
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(b) >= MaxSize {
		return nil, fmt.Errorf("a description of %d bytes, and %d are possible", len(b), MaxSize)
	}
	return append(b, '\n'), nil
}

// Decode reads a description.
func Decode(b []byte) (*Description, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%s has more than %d bytes", Path, MaxSize)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%s: %w", Path, err)
	}
	if head.Version != version {
		return nil, fmt.Errorf("%s: version %d, and this installer knows %d", Path, head.Version, version)
	}
	r := json.NewDecoder(bytes.NewReader(b))
	r.DisallowUnknownFields()
	d := &Description{}
	if err := r.Decode(d); err != nil {
		return nil, fmt.Errorf("%s: %w", Path, err)
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", Path, err)
	}
	return d, nil
}

func (d *Description) check() error {
	switch {
	case !strings.HasPrefix(d.Image.Digest, "sha256:") || len(d.Image.Digest) != len("sha256:")+64:
		return fmt.Errorf("digest %.80q", d.Image.Digest)
	case d.VolumeID == "":
		return errors.New("no volume id")
	case d.Kernel == "" || path.Base(d.Kernel) != d.Kernel || d.Kernel == "..":
		return fmt.Errorf("kernel %.80q", d.Kernel)
	case d.MinimumDisk < 0 || d.Image.Size < 0 || d.Build.RootSize < 0 || d.Build.FreeSpace < 0:
		return errors.New("a negative size")
	}
	return nil
}
