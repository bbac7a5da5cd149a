package oci

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"imgbuild/fault"
)

// The transports that can be opened, in the spelling of ostree-ext.
const (
	TransportRegistry      = "registry"
	TransportLayout        = "oci"
	TransportArchive       = "oci-archive"
	TransportDockerArchive = "docker-archive"
	TransportDir           = "dir"
	TransportStorage       = "containers-storage"
)

// Reference names an image: a transport, and a place and a tag or digest there.
// The zero Reference names nothing.
type Reference struct {
	transport string
	registry  string // host[:port]; of a registry or storage reference only
	place     string // repository, directory or file
	tag       string // "" where none was given and none is implied
	digest    string // "sha256:…" or ""
	store     string // "[…]", which store; of a storage reference only
	id        string // of an image, or the start of one; likewise
}

// The grammar of references is that of the distribution project, which Docker,
// Podman and skopeo share.
var (
	reDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	reTag    = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)
	reRepo   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	reHost   = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$`)
	// reOtherDigest is the general grammar of a digest in descriptor.md.
	reOtherDigest = regexp.MustCompile(`^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$`)
	// reImageID is an image id of containers/storage, or the start of one.
	reImageID = regexp.MustCompile(`^[0-9a-f]{3,64}$`)
	reDrive   = regexp.MustCompile(`^[A-Za-z]:[\\/]`)
)

const (
	defaultRegistry = "docker.io"
	// maxRepository is the longest registry and repository name that the
	// distribution project takes.
	maxRepository = 255
	// maxReference bounds what is looked at before any pattern is tried.
	maxReference = 8 << 10
)

// foreign are the transports of other tools that cannot be opened, each with
// what the user can do instead.
var foreign = map[string]string{
	"docker-daemon": "export it with: skopeo copy docker-daemon:IMAGE oci-archive:image.tar, then use oci-archive:image.tar",
	"ostree":        "export it with: skopeo copy ostree:IMAGE oci-archive:image.tar, then use oci-archive:image.tar",
	"sif":           "convert it with: skopeo copy sif:FILE oci-archive:image.tar, then use oci-archive:image.tar",
	"tarball":       "convert it with: skopeo copy tarball:FILE oci-archive:image.tar, then use oci-archive:image.tar",
}

// ParseReference parses
//
//	[docker://]NAME[:TAG][@DIGEST]
//	oci:DIR[:TAG][@DIGEST]
//	oci-archive:FILE[:TAG][@DIGEST]
//	docker-archive:FILE[:NAME[:TAG]|:@INDEX]
//	dir:DIR
//	containers-storage:[STORE]NAME[:TAG][@DIGEST][@ID]
//	containers-storage:[STORE]@ID
//
// where STORE, which may be left out, is written with its brackets:
// "[DRIVER@GRAPHROOT+RUNROOT:OPTIONS]", all but GRAPHROOT being optional.
//
// A NAME without a registry is one of Docker Hub; one with neither tag nor
// digest is tagged "latest". The error is of the class Unsupported for the
// transports of other tools, otherwise Usage.
func ParseReference(s string) (Reference, error) {
	bad := func(format string, args ...any) (Reference, error) {
		return Reference{}, fault.New(fault.Usage, fmt.Errorf("image reference %s: %w", clip(s), fmt.Errorf(format, args...)), "")
	}
	if s == "" {
		return Reference{}, fault.New(fault.Usage, fmt.Errorf("image reference is empty"), "")
	}
	if len(s) > maxReference || strings.ContainsRune(s, 0) {
		return bad("not a name")
	}
	scheme, rest, ok := strings.Cut(s, ":")
	if ok {
		if hint := foreign[scheme]; hint != "" {
			return Reference{}, fault.New(fault.Unsupported, fmt.Errorf("image reference %s: transport %s is not supported", clip(s), scheme), hint)
		}
		switch scheme {
		case "docker":
			name, ok := strings.CutPrefix(rest, "//")
			if !ok {
				return bad("a registry is written docker://NAME")
			}
			return parseName(name, bad)
		case TransportLayout, TransportArchive:
			return parsePlace(scheme, rest, bad)
		case TransportDockerArchive:
			return parseDockerArchive(rest, bad)
		case TransportDir:
			if rest == "" {
				return bad("a path is missing")
			}
			return Reference{transport: TransportDir, place: rest}, nil
		case TransportStorage:
			return parseStorage(rest, bad)
		}
		if strings.HasPrefix(rest, "//") {
			return bad("unknown transport %s", scheme)
		}
	}
	return parseName(s, bad)
}

// refError makes the error of a parser.
type refError func(format string, args ...any) (Reference, error)

func parseName(s string, bad refError) (Reference, error) {
	r := Reference{transport: TransportRegistry}
	name := s
	if n, digest, ok := strings.Cut(name, "@"); ok {
		if !reDigest.MatchString(digest) {
			return bad("digest %s is not sha256: and 64 hexadecimal digits", clip(digest))
		}
		name, r.digest = n, digest
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.Contains(name[i:], "/") {
		if r.tag = name[i+1:]; !reTag.MatchString(r.tag) {
			return bad("invalid tag %s", clip(r.tag))
		}
		name = name[:i]
	}
	if r.tag == "" && r.digest == "" {
		r.tag = "latest"
	}
	r.registry, r.place = defaultRegistry, name
	if host, repo, ok := strings.Cut(name, "/"); ok && (host == "localhost" || strings.ContainsAny(host, ".:") || strings.ToLower(host) != host) {
		r.registry, r.place = host, repo
	}
	if r.registry == "index.docker.io" {
		r.registry = defaultRegistry
	}
	if r.registry == defaultRegistry && !strings.Contains(r.place, "/") {
		r.place = "library/" + r.place
	}
	switch {
	case !reHost.MatchString(r.registry):
		return bad("invalid registry %s", clip(r.registry))
	case !reRepo.MatchString(r.place):
		return bad("invalid repository %s", clip(r.place))
	case len(r.registry)+1+len(r.place) > maxRepository:
		return bad("name longer than %d bytes", maxRepository)
	}
	return r, nil
}

func parsePlace(transport, s string, bad refError) (Reference, error) {
	r := Reference{transport: transport}
	if i := strings.LastIndexByte(s, '@'); i >= 0 && strings.HasPrefix(s[i+1:], "sha256:") {
		if r.digest = s[i+1:]; !reDigest.MatchString(r.digest) {
			return bad("digest %s is not sha256: and 64 hexadecimal digits", clip(r.digest))
		}
		s = strings.TrimSuffix(s[:i], ":")
	}
	drive := ""
	if reDrive.MatchString(s) {
		drive, s = s[:2], s[2:]
	}
	// The first colon ends the path, as in containers/image: the tag of a
	// layout can be a whole image name.
	place, tag, tagged := strings.Cut(s, ":")
	if r.place = drive + place; r.place == "" {
		return bad("a path is missing")
	}
	if tagged {
		if r.tag = tag; tag == "" || strings.HasPrefix(tag, "@") {
			return bad("invalid tag %s", clip(tag))
		}
	}
	return r, nil
}

// parseDockerArchive parses FILE[:NAME[:TAG]|:@INDEX]. A name is normalised, so
// that it can be compared with those of the archive.
func parseDockerArchive(s string, bad refError) (Reference, error) {
	drive := ""
	if reDrive.MatchString(s) {
		drive, s = s[:2], s[2:]
	}
	place, tag, tagged := strings.Cut(s, ":")
	r := Reference{transport: TransportDockerArchive, place: drive + place}
	if r.place == "" {
		return bad("a path is missing")
	}
	if !tagged {
		return r, nil
	}
	if index, ok := strings.CutPrefix(tag, "@"); ok {
		if n, err := strconv.ParseUint(index, 10, 16); err != nil || strconv.FormatUint(n, 10) != index {
			return bad("%s is not the number of an image", clip(index))
		}
		r.tag = tag
		return r, nil
	}
	named, err := parseName(tag, bad)
	if err != nil {
		return named, err
	}
	if named.digest != "" {
		return bad("the images of an archive have no digests")
	}
	r.tag = named.Name()
	return r, nil
}

// parseStorage parses [STORE]NAME[:TAG][@DIGEST][@ID] and [STORE]@ID.
func parseStorage(s string, bad refError) (Reference, error) {
	store := ""
	if strings.HasPrefix(s, "[") {
		i := strings.IndexByte(s, ']')
		if i < 0 {
			return bad("the store in [ has no ]")
		}
		if store, s = s[:i+1], s[i+1:]; len(store) == 2 {
			return bad("the store in [] has no path")
		}
	}
	id := ""
	if i := strings.LastIndexByte(s, '@'); i >= 0 && !strings.Contains(s[i:], ":") {
		if id, s = s[i+1:], s[:i]; !reImageID.MatchString(id) {
			return bad("%s is no digest, and no image id of 3 to 64 hexadecimal digits", clip(id))
		}
	}
	r := Reference{}
	switch {
	case s != "":
		var err error
		if r, err = parseName(s, bad); err != nil {
			return r, err
		}
	case id == "":
		return bad("names no image")
	}
	r.transport, r.store, r.id = TransportStorage, store, id
	return r, nil
}

// clip quotes s for an error message, cut to a readable length.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// Transport returns one of the constants, such as "registry".
func (r Reference) Transport() string { return r.transport }

// Tag returns the tag, or "".
func (r Reference) Tag() string { return r.tag }

// Digest returns the digest that the reference pins, or "".
func (r Reference) Digest() string { return r.digest }

// Registry returns host[:port] of a registry reference, otherwise "".
func (r Reference) Registry() string {
	if r.transport != TransportRegistry {
		return ""
	}
	return r.registry
}

// Path returns the directory or file of a layout or archive, and the repository
// within the registry otherwise.
func (r Reference) Path() string { return r.place }

// Name returns the reference without its transport: "quay.io/org/os:1" or
// "DIR:TAG".
func (r Reference) Name() string {
	var b strings.Builder
	if r.registry != "" {
		b.WriteString(r.registry + "/")
	}
	b.WriteString(r.place)
	if r.tag != "" {
		b.WriteString(":" + r.tag)
	}
	if r.digest != "" {
		b.WriteString("@" + r.digest)
	}
	if r.id != "" {
		b.WriteString("@" + r.id)
	}
	return b.String()
}

// String returns the normalised reference. [ParseReference] of it gives r.
func (r Reference) String() string {
	switch r.transport {
	case "":
		return ""
	case TransportRegistry:
		return "docker://" + r.Name()
	}
	return r.transport + ":" + r.store + r.Name()
}

// ImageRef returns the reference as ostree-ext and containers/image write it,
// in the names of refs and in origin files: "docker://quay.io/org/os:1",
// "oci:DIR:TAG". Which store an image was read from is no part of it: that of the
// installed system is another one.
func (r Reference) ImageRef() string {
	r.store = ""
	return r.String()
}
