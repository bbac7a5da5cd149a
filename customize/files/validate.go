package files

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"imgbuild/customize"
	"imgbuild/fault"
)

// maxData is the size of the content that may stand in the configuration.
const maxData = 8 << 20

// widen is the hint for paths that are not allowed.
const widen = "--allow-paths allows more; whatever is outside of /etc and /var belongs into the Containerfile: COPY FILE PATH"

// Validate returns everything that is wrong whatever the image.
func Validate(c Config, o Options) customize.Problems {
	v := validator{at: map[string]string{}}
	for i, a := range o.Allow {
		if !strings.HasPrefix(a, "/") || path.Clean(a) != a {
			v.addf(fmt.Sprintf("allow-paths[%d]", i), "", "%q is not an absolute path, written plainly", a)
		}
	}
	directories, files := directoryPolicy().allow(o.Allow), filePolicy().allow(o.Allow)
	for i, d := range c.Directories {
		at := fmt.Sprintf("directories[%d]", i)
		v.path(at, d.Path, directories)
		v.owner(at, d.User, d.Group)
		v.mode(at, d.Mode)
	}
	isFile := map[string]string{}
	for i, f := range c.Files {
		at := fmt.Sprintf("files[%d]", i)
		v.path(at, f.Path, files)
		v.owner(at, f.User, f.Group)
		v.mode(at, f.Mode)
		v.content(at, f)
		isFile[f.Path] = at
	}
	check := func(at, p string) {
		if !strings.HasPrefix(p, "/") {
			return
		}
		for dir := path.Dir(path.Clean(p)); dir != "/"; dir = path.Dir(dir) {
			if file := isFile[dir]; file != "" {
				v.addf(at+".path", "", "%s is below %s, which is a file of %s", p, dir, file)
			}
		}
	}
	for i, d := range c.Directories {
		check(fmt.Sprintf("directories[%d]", i), d.Path)
	}
	for i, f := range c.Files {
		check(fmt.Sprintf("files[%d]", i), f.Path)
	}
	return v.problems
}

type validator struct {
	problems customize.Problems
	at       map[string]string // items by path
}

func (v *validator) add(field, hint string, err error) {
	v.problems.Add(field, fault.New(fault.Usage, err, hint))
}

func (v *validator) addf(field, hint, format string, args ...any) {
	v.add(field, hint, fmt.Errorf(format, args...))
}

func (v *validator) path(at, p string, allowed policy) {
	if err := allowed.check(p); err != nil {
		hint := ""
		if strings.Contains(err.Error(), "may") {
			hint = widen
		}
		v.add(at+".path", hint, err)
	}
	if other := v.at[p]; other != "" && p != "" {
		v.addf(at+".path", "", "%s is in %s already", p, other)
		return
	}
	v.at[p] = at
}

func (v *validator) owner(at string, user, group Owner) {
	v.add(at+".user", "", user.check(userName))
	v.add(at+".group", "", group.check(groupName))
}

var octal = regexp.MustCompile(`^0?[0-7]{3}$`)

func (v *validator) mode(at, mode string) {
	if mode != "" && !octal.MatchString(mode) {
		v.addf(at+".mode", `permissions are three octal digits, as "0644"`, "%q is not a mode", mode)
	}
}

// permissions returns a checked mode, or the default.
func permissions(mode string, otherwise uint32) uint32 {
	if mode == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(mode, 8, 12)
	if err != nil {
		panic("files: internal error: mode " + mode)
	}
	return uint32(n)
}

func (v *validator) content(at string, f File) {
	if len(f.Data) > maxData {
		v.addf(at+".data", "put the content into a file and name it: uri = \"file:///path\"", "is %d bytes long, more than the %d that a configuration may carry", len(f.Data), maxData)
	}
	sum := f.SHA256
	if b, err := hex.DecodeString(sum); sum != "" && (err != nil || len(b) != 32) {
		v.addf(at+".sha256", "", "%q is not a SHA-256 in 64 hexadecimal digits", sum)
	}
	if f.URI == "" {
		if sum != "" {
			v.addf(at+".sha256", "", "is for the content of a uri, and there is none")
		}
		return
	}
	if f.Data != "" {
		v.addf(at+".uri", "", "there is data as well")
	}
	u, err := url.Parse(f.URI)
	if err != nil {
		var why *url.Error
		if errors.As(err, &why) {
			err = why.Err // without the address, which may have a password
		}
		v.add(at+".uri", "", err)
		return
	}
	switch u.Scheme {
	case "file", "":
		if u.Host != "" && u.Host != "localhost" || u.RawQuery != "" || u.Fragment != "" || !path.IsAbs(u.Path) {
			v.addf(at+".uri", "a local file is named as file:///path", "%q does not name a local file by its absolute path", f.URI)
		}
	case "https":
		if u.Host == "" {
			v.addf(at+".uri", "", "%q has no host", u.Redacted())
		}
		if sum == "" {
			v.addf(at+".sha256", "sha256sum FILE prints it", "is missing: what comes over the network is used only with its digest")
		}
	default:
		v.addf(at+".uri", "file:// and https:// are", "%q: the scheme %s is not supported", u.Redacted(), u.Scheme)
	}
}

// byPath returns the order in which items are made: parents first.
func byPath(n int, at func(int) string) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(at(a), at(b)) })
	return order
}
