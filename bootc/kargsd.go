package bootc

import "fmt"

const kargsDir = "usr/lib/bootc/kargs.d"

// kargsD reads the kernel arguments that the image has for the architecture.
func (r *reader) kargsD(image *Image) error {
	entries, err := r.entries(kargsDir)
	if err != nil {
		return err
	}
	var c cmdline
	for _, e := range entries {
		if extension(e.Name) != "toml" {
			continue
		}
		p := kargsDir + "/" + e.Name
		i, err := r.file(p)
		if err != nil {
			return err
		}
		if i == nil {
			return bad(fmt.Errorf("%s is a symbolic link to nothing", p), "")
		}
		content, err := text(i, p)
		if err != nil {
			return err
		}
		kargs, err := parseKargsD(p, content, r.arch)
		if err != nil {
			return err
		}
		c.add(kargs...)
	}
	for _, a := range c {
		image.Kargs = append(image.Kargs, a.text)
	}
	return nil
}

// parseKargsD returns the arguments of a file, or none where it is for other
// architectures.
func parseKargsD(p, content, arch string) ([]string, error) {
	top, err := parseTOML(p, content)
	if err != nil {
		return nil, err
	}
	kargs := top.kargs("kargs")
	if kargs == nil {
		top.fail("kargs", "missing")
	}
	if !top.matches(arch) {
		kargs = nil
	}
	top.end()
	return kargs, top.doc.err
}
