package debian

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// DefaultMirror is the archive that is asked when nothing else is configured.
const DefaultMirror = "http://deb.debian.org/debian"

// MirrorVariable is the environment variable that overrides the mirror.
const MirrorVariable = "IMGBUILD_DEBIAN_MIRROR"

// HostMirror returns the archive to use on this machine: the value of
// [MirrorVariable], else the one that its apt uses, else [DefaultMirror].
func HostMirror() string {
	if m := os.Getenv(MirrorVariable); m != "" {
		return strings.TrimSuffix(m, "/")
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, name := range append([]string{"/etc/apt/sources.list"}, files...) {
		if ext := filepath.Ext(name); ext != ".list" && ext != ".sources" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if m := mirrorIn(text); m != "" {
			return m
		}
	}
	return DefaultMirror
}

// mirrorIn returns the first HTTP URI ending in /debian of an apt source list,
// in one-line or deb822 form, or "".
func mirrorIn(text []byte) string {
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		for _, f := range fields {
			f = strings.TrimSuffix(f, "/")
			if u, err := url.Parse(f); err == nil && (u.Scheme == "http" || u.Scheme == "https") &&
				strings.HasSuffix(u.Path, "/debian") {
				return f
			}
		}
	}
	return ""
}

// HostProxy returns the HTTP proxy of the machine's apt configuration, or nil.
// The usual environment variables come before it and are left to net/http.
func HostProxy() *url.URL {
	files, _ := filepath.Glob("/etc/apt/apt.conf.d/*")
	slices.Sort(files)
	var proxy *url.URL
	for _, name := range append(files, "/etc/apt/apt.conf") {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if u := proxyIn(text); u != nil {
			proxy = u
		}
	}
	return proxy
}

var proxySetting = regexp.MustCompile(`(?mi)^\s*Acquire::https?::Proxy\s+"([^"]+)"\s*;`)

// proxyIn returns the last proxy that an apt.conf sets in one line, or nil.
func proxyIn(text []byte) *url.URL {
	var proxy *url.URL
	for _, m := range proxySetting.FindAllSubmatch(text, -1) {
		if u, err := url.Parse(string(m[1])); err == nil && u.Host != "" {
			proxy = u
		}
	}
	return proxy
}
