package blockdev

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// holder is what uses a block device by the word of /proc.
type holder struct{ number, path, what string }

// holders returns all mounts and swaps.
func (h Host) holders() ([]holder, error) {
	text, err := os.ReadFile(h.proc("self/mountinfo"))
	if err != nil {
		return nil, err
	}
	var list []holder
	for line := range strings.Lines(string(text)) {
		// Documentation/filesystems/proc.rst, 3.5: ID PARENT MAJ:MIN ROOT MOUNTPOINT
		// OPTIONS [TAGS] - TYPE SOURCE SUPEROPTIONS
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 2 {
			continue
		}
		// btrfs has numbers of its own, and only the source names the device.
		list = append(list, holder{f[2], unescape(g[1]), "mounted at " + unescape(f[4])})
	}
	text, err = os.ReadFile(h.proc("swaps"))
	if err != nil {
		return list, nil // a kernel without swap
	}
	lines := bytes.Split(text, []byte("\n"))
	for _, line := range lines[1:] {
		if f := strings.Fields(string(line)); len(f) >= 2 && f[1] == "partition" {
			list = append(list, holder{"", unescape(f[0]), "in use as swap"})
		}
	}
	return list, nil
}

// unescape undoes the octal escapes of the kernel's tables.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// uses returns what keeps a disk and its partitions busy.
func (h Host) uses(name string, holders []holder) []Use {
	var uses []Use
	add := func(u Use) {
		if !slices.Contains(uses, u) {
			uses = append(uses, u)
		}
	}
	for _, part := range h.parts(name) {
		number := readLine(h.sys("class/block", part, "dev"))
		for _, holder := range holders {
			if holder.number != "" && holder.number == number || h.isNode(part, holder.path) {
				add(Use{part, holder.what})
			}
		}
		dir := filepath.Join(h.sys("block", name), "holders")
		if part != name {
			dir = filepath.Join(h.sys("block", name), part, "holders")
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			title := e.Name()
			if dm := readLine(h.sys("block", e.Name(), "dm/name")); dm != "" {
				title = dm
			}
			add(Use{part, "part of " + title})
			// What is on top of the holder tells more.
			for _, u := range h.uses(e.Name(), holders) {
				add(Use{part, "part of " + title + ", which is " + u.What})
			}
		}
	}
	return uses
}

// isNode tells whether a path names the block device.
func (h Host) isNode(name, path string) bool {
	if !strings.HasPrefix(path, "/") {
		return false
	}
	if filepath.Clean(path) == h.dev(strings.ReplaceAll(name, "!", "/")) {
		return true
	}
	real, err := filepath.EvalSymlinks(path)
	return err == nil && real == h.dev(strings.ReplaceAll(name, "!", "/"))
}

// FileSystems returns the kinds of file systems on disks that the kernel has at
// the moment; it may be able to load others.
func (h Host) FileSystems() []string {
	text, err := os.ReadFile(h.proc("filesystems"))
	if err != nil {
		return nil
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 1 {
			list = append(list, f[0]) // without "nodev"
		}
	}
	return list
}
