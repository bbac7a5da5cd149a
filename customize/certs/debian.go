package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// Where update-ca-certificates looks, and where it writes.
const (
	debianConf   = "/etc/ca-certificates.conf"
	debianCerts  = "/etc/ssl/certs"
	debianVendor = "/usr/share/ca-certificates"
	debianLocal  = "/usr/local/share/ca-certificates"
	// debianOwn is for the anchors where debianLocal belongs to the image. The
	// configuration names them by a way out of debianVendor.
	debianOwn    = "/etc/ca-certificates/imgbuild"
	debianHooks  = "/etc/ca-certificates/update.d"
	debianBundle = debianCerts + "/ca-certificates.crt"
)

// maxBundle bounds a bundle of certificates.
const maxBundle = 64 << 20

// addDebian adds anchors, and does what update-ca-certificates does then.
func addDebian(sys *customize.System, list []certificate) (warnings customize.Problems, err error) {
	dir := debianLocal
	if real, err := sys.RealPath(dir); err != nil || !strings.HasPrefix(real, "/var/") && !strings.HasPrefix(real, "/etc/") {
		dir = debianOwn
	}
	conf, err := sys.ReadFile(debianConf, maxBundle)
	if err != nil {
		return nil, err
	}
	for i, name := range names(list) {
		p := path.Join(dir, name+".crt")
		if err := sys.WriteFile(p, 0o644, encode(list[i].cert)); err != nil {
			return nil, err
		}
		if dir != debianOwn {
			continue
		}
		line := "../../.." + p + "\n"
		if !bytes.Contains(conf, []byte("\n"+line)) {
			if len(conf) > 0 && !bytes.HasSuffix(conf, []byte("\n")) {
				conf = append(conf, '\n')
			}
			conf = append(conf, line...)
		}
	}
	if dir == debianOwn {
		if err := sys.WriteFile(debianConf, 0o644, conf); err != nil {
			return nil, err
		}
	}
	if err := updateDebian(sys, conf); err != nil {
		return nil, err
	}
	if hooks := sys.Lookup(debianHooks); hooks != nil {
		for _, e := range hooks.Entries() {
			if e.Inode.IsFile() && e.Inode.Perm()&0o111 != 0 {
				warnings.Add(list[0].field, fault.New(fault.Unsupported, fmt.Errorf("%s/%s is not run, so what it keeps does not have the certificates", debianHooks, e.Name), ""))
			}
		}
	}
	return warnings, nil
}

// updateDebian is update-ca-certificates: links to all certificates, the bundle of
// them, and links by the hash of their names.
func updateDebian(sys *customize.System, conf []byte) error {
	var files []string
	for line := range bytes.Lines(conf) {
		l := strings.TrimRight(string(line), "\n")
		if l != "" && l[0] != '#' && l[0] != '!' {
			files = append(files, debianVendor+"/"+l)
		}
	}
	local, err := localFiles(sys)
	if err != nil {
		return err
	}
	var bundle bytes.Buffer
	for _, p := range append(files, local...) {
		text, err := sys.ReadFile(p, maxItem)
		if errors.Is(err, fs.ErrNotExist) {
			continue // update-ca-certificates warns and goes on
		}
		if err != nil {
			return err
		}
		if bundle.Len()+len(text) > maxBundle {
			return fault.New(fault.BadImage, fmt.Errorf("the certificates have more than %d bytes", maxBundle), "")
		}
		bundle.Write(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			bundle.WriteByte('\n')
		}
		if err := linkDebian(sys, p, text); err != nil {
			return err
		}
	}
	return sys.WriteFile(debianBundle, 0o644, bundle.Bytes())
}

// localFiles lists the .crt files below debianLocal, sorted.
func localFiles(sys *customize.System) (files []string, err error) {
	root := sys.Lookup(debianLocal)
	if root == nil {
		return nil, nil
	}
	err = tree.Walk(root, func(p string, _ *tree.Inode) error {
		full := path.Join(debianLocal, p)
		if i := sys.Lookup(full); strings.HasSuffix(p, ".crt") && i != nil && i.IsFile() {
			files = append(files, full)
		}
		return nil
	})
	slices.Sort(files)
	return files, err
}

var linkName = strings.NewReplacer(" ", "_", "(", "=", ")", "=", ",", "_")

// linkDebian makes the link to a certificate, and if it is new, that of its hash as
// openssl rehash does.
func linkDebian(sys *customize.System, file string, text []byte) error {
	name := linkName.Replace(strings.TrimSuffix(path.Base(file), ".crt")) + ".pem"
	p := path.Join(debianCerts, name)
	dir := sys.Lookup(debianCerts)
	if old := dir.Child(name); old != nil && old.IsLink() && old.Target == file && sys.Lookup(p) != nil {
		return nil
	}
	if err := sys.Link(p, file); err != nil {
		return err
	}
	certs, err := parsePEM(text)
	if err != nil || len(certs) != 1 {
		return nil // openssl rehash warns and goes on
	}
	hash, err := nameHash(certs[0].RawSubject)
	if err != nil {
		return nil // likewise
	}
	for n := 0; ; n++ {
		at := fmt.Sprintf("%s/%s.%d", debianCerts, hash, n)
		other, err := sys.ReadFile(at, maxItem)
		if err != nil {
			return sys.Link(at, name)
		}
		// It sees a duplicate only where the other file comes first.
		link := dir.Child(path.Base(at))
		if same, err := parsePEM(other); err == nil && len(same) == 1 && bytes.Equal(same[0].Raw, certs[0].Raw) && (!link.IsLink() || link.Target < name) {
			return nil
		}
	}
}
