package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

// sampleDir holds the files that later layers change, and those with metadata
// that is easily lost. check-features looks at them at boot.
const sampleDir = "usr/share/sample/"

// Whiteouts of the OCI image specification, "Representing changes".
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// Values of security.capability, as in the kernel's uapi/linux/capability.h.
const (
	capRevision2      = 0x02000000
	capEffective      = 0x00000001
	capNetBindService = 10
	capNetRaw         = 13
)

// addVictims adds the files of the base that the last layer removes or replaces.
func addVictims(base rootfs) {
	d := sampleDir + "layers/"
	for _, name := range []string{"gone-file", "gone-dir/sub/file", "opaque/old-file", "opaque/old-dir/file",
		"dir-to-file/x/file", "dir-to-link/x/file", "file-to-dir", "link-to-file-target"} {
		base.text(d+name, "base\n")
	}
	base.symlink(d+"link-to-file", "link-to-file-target")
	base.text(d+"kept/original", "base\n")
	base.put(d+"replaced", &node{typ: tar.TypeLink, mode: 0o644, link: d + "kept/original"})
	base.text("var/lib/sample/initial", "from the image\n")
}

// changes returns the last layer: whiteouts, replacements and new files.
func changes() rootfs {
	t := make(rootfs)
	d := sampleDir + "layers/"
	t.text(d+whiteout+"gone-file", "")
	t.text(d+whiteout+"gone-dir", "")
	t.text(d+"opaque/"+opaque, "")
	// Sorts before the marker, which must not remove it.
	t.text(d+"opaque/-first", "new\n")
	t.text(d+"opaque/new-dir/file", "new\n")
	t.text(d+"dir-to-file", "new\n")
	t.symlink(d+"dir-to-link", "kept")
	t.text(d+"file-to-dir/file", "new\n")
	t.text(d+"link-to-file", "new\n")
	// The other name of the hard link keeps what it was.
	t.file(d+"replaced", 0o640, []byte("new\n"))
	addFeatures(t)
	return t
}

// addFeatures adds files whose names, owners, modes or attributes are unusual.
func addFeatures(t rootfs) {
	d := sampleDir + "features/"
	script := []byte("#!/bin/sh\nexit 0\n")
	t.file(d+"bin/setuid", 0o4755, script)
	t.file(d+"bin/setgid", 0o2755, script).gid = 42
	t.file(d+"bin/capable", 0o755, script).xattrs = map[string]string{"security.capability": netCapabilities()}
	t.dir(d+"sticky", 0o1777)
	t.dir(d+"private", 0o700)

	t.text(d+"links/a", strings.Repeat("linked\n", 50_000))
	t.put(d+"links/b", &node{typ: tar.TypeLink, mode: 0o644, link: d + "links/a"})
	t.put(d+"links/deep/er/c", &node{typ: tar.TypeLink, mode: 0o644, link: d + "links/a"})
	t.symlink(d+"links/dangling", "/nonexistent/absolute")
	long := strings.Repeat("long-", 40)
	t.text(d+long+"/"+long+"/"+long+"file", "long\n")
	t.symlink(d+"links/long-target", "../"+long+"/"+long+"/"+long+"file")

	t.file(d+"owners/secret", 0o600, []byte("secret\n"))
	owned := t.text(d+"owners/user", "owned\n")
	owned.uid, owned.gid = 1000, 1000
	owned = t.text(d+"owners/large-ids", "owned\n")
	owned.uid, owned.gid = 3_000_000, 3_000_001
	t.text(d+"owners/empty", "")
	for _, name := range []string{"ünïcödé-日本語-🦊", "two words", "quote'd\"both", "back\\slash", "-dash", "$dollar;semi", "dot."} {
		t.text(d+"names/"+name, name+"\n")
	}
	t.text(d+"xattrs/text", "attribute\n").xattrs = map[string]string{"user.sample": "some text"}
	t.text(d+"xattrs/binary", "attribute\n").xattrs = map[string]string{"user.sample.binary": "\x00\xff\n\x00= "}
	t.dir(d+"xattrs", 0o755).xattrs = map[string]string{"user.sample.dir": "on a directory"}
}

// netCapabilities is the value of security.capability that getcap shows as
// cap_net_bind_service,cap_net_raw=ep.
func netCapabilities() string {
	b := binary.LittleEndian.AppendUint32(nil, capRevision2|capEffective)
	b = binary.LittleEndian.AppendUint32(b, 1<<capNetBindService|1<<capNetRaw)
	return string(append(b, make([]byte, 12)...))
}

// zeros is a file that is nearly all zeros, stored in full.
func zeros() []byte {
	const size = 4 << 20
	b := make([]byte, size)
	copy(b[size/2:], "middle")
	return append(b, "end"...)
}

// expectations are what check-features compares with.
type expectations struct {
	absent, stat, names, sums, links, lists, caps, xattrs strings.Builder
}

// addExpectations adds them to the last layer, where they are on top of base.
func addExpectations(last, base rootfs) {
	var e expectations
	d := sampleDir + "layers/"
	for _, name := range []string{"gone-file", "gone-dir", "opaque/old-file", "opaque/old-dir", whiteout + "gone-file", "opaque/" + opaque} {
		fmt.Fprintf(&e.absent, "/%s%s\n", d, name)
	}
	fmt.Fprintf(&e.lists, "/%sopaque\t-first/new-dir/\n/%sfile-to-dir\tfile/\n", d, d)
	for _, name := range []string{"ostree", "home", "usr/local"} {
		e.add(base, name)
	}
	for _, name := range base.paths() {
		if under(name, sampleDir+"features") || under(name, sampleDir+"base") || under(name, d+"kept") || name == "var/lib/sample/initial" {
			e.add(base, name)
		}
	}
	for _, name := range last.paths() {
		if strings.HasPrefix(name, sampleDir) && !strings.Contains(name, whiteout) {
			e.add(last, name)
		}
	}
	for name, b := range map[string]*strings.Builder{"absent": &e.absent, "stat": &e.stat, "stat.names": &e.names,
		"sha256": &e.sums, "links": &e.links, "lists": &e.lists, "caps": &e.caps, "xattrs": &e.xattrs} {
		last.text(sampleDir+"expect/"+name, b.String())
	}
}

// add records what the file of that name must be.
func (e *expectations) add(t rootfs, name string) {
	n := t[name]
	p := "/" + name
	for _, key := range []string{"user.sample", "user.sample.binary", "user.sample.dir"} {
		if v, ok := n.xattrs[key]; ok {
			fmt.Fprintf(&e.xattrs, "%s\t%s\t0x%s\n", p, key, hex.EncodeToString([]byte(v)))
		}
	}
	if _, ok := n.xattrs["security.capability"]; ok {
		fmt.Fprintf(&e.caps, "%s\tcap_net_bind_service,cap_net_raw=ep\n", p)
	}
	if n.typ == tar.TypeSymlink {
		fmt.Fprintf(&e.links, "%s\t%s\n", p, n.link)
		return
	}
	if n.typ == tar.TypeLink {
		n = t[n.link]
	}
	mode := modeFile | n.mode
	if n.typ == tar.TypeDir {
		mode = modeDir | n.mode
	}
	fmt.Fprintf(&e.stat, "%s: %x %d:%d\n", p, mode, n.uid, n.gid)
	e.names.WriteString(p + "\x00")
	if n.typ == tar.TypeDir {
		return
	}
	// sha256sum quotes backslashes, and not every implementation unquotes them.
	if !strings.Contains(path.Base(name), `\`) {
		fmt.Fprintf(&e.sums, "%x  %s\n", sha256.Sum256(n.data), p)
	}
}
