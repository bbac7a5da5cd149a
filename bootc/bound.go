package bootc

import (
	"errors"
	"fmt"
	"strings"
)

const boundDir = "usr/lib/bootc/bound-images.d"

// boundImages reads the references of the images that are to be on the disk
// with this one: symbolic links to Quadlet files.
func (r *reader) boundImages(image *Image) error {
	entries, err := r.entries(boundDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := boundDir + "/" + e.Name
		if !e.Inode.IsLink() {
			return bad(fmt.Errorf("%s is not a symbolic link", p), "bound images are links to .image or .container files")
		}
		i, err := r.file(p)
		if err != nil {
			return err
		}
		if i == nil {
			return bad(fmt.Errorf("%s leads to %s, which is not there", p, e.Inode.Target), "")
		}
		content, err := text(i, p)
		if err != nil {
			return err
		}
		ref, err := parseBound(extension(e.Name), content)
		if err != nil {
			return bad(fmt.Errorf("%s: %w", p, err), "")
		}
		image.BoundImages = append(image.BoundImages, ref)
	}
	return nil
}

// parseBound returns the reference in a Quadlet file with that extension.
func parseBound(extension, content string) (string, error) {
	group := map[string]string{"image": "Image", "container": "Container"}[extension]
	if group == "" {
		return "", errors.New("neither an .image nor a .container file")
	}
	unit := parseUnit(content)
	if _, ok := unit[[2]string{"Image", "AuthFile"}]; ok && extension == "image" {
		return "", errors.New("AuthFile is not supported for bound images")
	}
	ref := unit[[2]string{group, "Image"}]
	if ref == "" {
		return "", fmt.Errorf("no Image in [%s]", group)
	}
	if hasControl(ref) || strings.Contains(ref, " ") {
		return "", fmt.Errorf("%q is not an image reference", ref)
	}
	return unescapeSpecifiers(ref)
}

// parseUnit returns the values of a systemd unit by section and key. What is
// neither is passed over.
func parseUnit(content string) keyfile {
	unit := keyfile{}
	group := ""
	for line := range strings.Lines(content) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && line[len(line)-1] == ']':
			group = line[1 : len(line)-1]
		case ok:
			unit[[2]string{group, strings.TrimSpace(key)}] = strings.TrimSpace(value)
		}
	}
	return unit
}

// unescapeSpecifiers resolves %%. Other specifiers have no meaning here.
func unescapeSpecifiers(s string) (string, error) {
	plain := strings.ReplaceAll(s, "%%", "")
	if strings.Contains(plain, "%") {
		return "", fmt.Errorf("systemd specifier in %q", s)
	}
	return strings.ReplaceAll(s, "%%", "%"), nil
}
