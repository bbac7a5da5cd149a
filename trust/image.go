package trust

import (
	"path/filepath"
	"strings"
)

// The transports, by their names in a policy.
const (
	Docker        = "docker"
	OCI           = "oci"
	OCIArchive    = "oci-archive"
	DockerArchive = "docker-archive"
	Dir           = "dir"
	Storage       = "containers-storage"
)

// Image is what a policy knows of an image: where it comes from. The functions
// that make one are below.
type Image struct {
	transport string
	name      *named   // nil where the transport has no Docker-like names
	scopes    []string // in which requirements are looked for, in turn
}

// InRegistry returns the image of a name in a registry, host[:port]/path; tag
// and digest may be empty, but not both.
//
// containers/image knows no names with both. Here such a name is one by digest:
// what the tag stands for does not matter then.
func InRegistry(name, tag, digest string) *Image {
	img := &Image{transport: Docker, name: &named{name: name, tag: tag, digest: digest}}
	if digest != "" {
		img.name.tag = ""
		img.scopes = append(img.scopes, name+"@"+digest)
	}
	if tag != "" {
		img.scopes = append(img.scopes, name+":"+tag)
	}
	img.scopes = append(img.scopes, nameScopes(name)...)
	return img
}

// nameScopes returns the namespaces of a name, the narrowest first: the
// repository, what it is in, the host, and wildcards of the host's domains.
func nameScopes(name string) []string {
	var list []string
	for {
		list = append(list, name)
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			break
		}
		name = name[:i]
	}
	host, _, _ := strings.Cut(name, ":")
	for {
		_, parent, ok := strings.Cut(host, ".")
		if !ok {
			return list
		}
		list = append(list, "*."+parent)
		host = parent
	}
}

// InPath returns the image of the transports oci, oci-archive and dir at an
// absolute path without symbolic links.
func InPath(transport, path string) *Image {
	img := &Image{transport: transport}
	for path = filepath.Clean(path); ; {
		parent := filepath.Dir(path)
		if parent == path { // the root is no scope: "" stands for it
			return img
		}
		img.scopes = append(img.scopes, path)
		path = parent
	}
}

// InDockerArchive returns an image of the transport docker-archive, which has no
// scopes. The name, which may be empty, is that in the archive.
func InDockerArchive(name string) *Image {
	img := &Image{transport: DockerArchive}
	if n, err := parseNamed(name); err == nil && name != "" {
		img.name = &n
	}
	return img
}

// InStorage returns an image of the local store of Podman: by its name, which may
// be empty, with tag or digest, and by its id, which may be empty.
func InStorage(driver, root, name, tag, digest, id string) *Image {
	img := &Image{transport: Storage}
	store := "[" + driver + "@" + root + "]"
	if name != "" {
		img.name = &named{name: name, tag: tag, digest: digest}
		full := store + img.name.String()
		if id != "" {
			img.scopes = append(img.scopes, full+"@"+id)
		}
		img.scopes = append(img.scopes, full)
		if tag != "" && digest != "" {
			img.scopes = append(img.scopes, store+name+":"+tag)
			img.name.tag = ""
		}
		for ; name != ""; name = name[:max(0, strings.LastIndexByte(name, '/'))] {
			img.scopes = append(img.scopes, store+name)
		}
	} else if id != "" {
		img.scopes = append(img.scopes, store+"@"+id)
	}
	img.scopes = append(img.scopes, store, "["+root+"]")
	return img
}

// Name returns the Docker-like name of the image without tag and digest, or "".
func (i *Image) Name() string {
	if i.name == nil {
		return ""
	}
	return i.name.name
}
