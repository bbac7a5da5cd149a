package customize

import (
	"bytes"
	"path"
	"strings"
)

// grubStatic is where images keep the parts of grub.cfg that bootupd installs.
const grubStatic = "/usr/lib/bootupd/grub2-static"

// maxGRUB bounds each part of GRUB's configuration.
const maxGRUB = 1 << 20

// GRUBConfigHas tells whether a text is in the static configuration of GRUB that
// the system's image has.
func GRUBConfigHas(s *System, text string) (bool, error) {
	files := []string{grubStatic + "/grub-static-pre.cfg"}
	if dir := s.Lookup(grubStatic + "/configs.d"); dir != nil {
		for _, e := range dir.Entries() {
			if strings.HasSuffix(e.Name, ".cfg") {
				files = append(files, path.Join(grubStatic, "configs.d", e.Name))
			}
		}
	}
	for _, p := range files {
		if f := s.Lookup(p); f == nil || !f.IsFile() {
			continue
		}
		conf, err := s.ReadFile(p, maxGRUB)
		if err != nil {
			return false, err
		}
		if bytes.Contains(conf, []byte(text)) {
			return true, nil
		}
	}
	return false, nil
}
