package pipeline

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"imgbuild/tree"
)

// shells are the shells that are looked for in an image, the best one first: one
// that has all the tools in itself, then those that need others.
func shells() []string {
	return []string{"usr/bin/busybox", "usr/bin/bash", "usr/bin/dash", "usr/bin/sh"}
}

// shellTools are what goes with a shell, of which an image has what it has.
func shellTools() []string {
	return []string{"cat", "ls", "cp", "mv", "rm", "mkdir", "ln", "chmod", "chown", "dd", "df", "sync", "sleep", "mount", "umount", "lsblk", "blkid",
		"dmesg", "less", "vi", "grep", "sed", "awk", "gawk", "mawk", "find", "tr", "cut", "head", "tail", "wc", "sort", "uname", "lspci", "lsusb",
		"ps", "kill", "env", "id", "stat", "chroot", "tee", "touch", "date", "basename", "dirname", "readlink", "sha256sum", "ip", "modprobe"}
}

// busyboxApplets are the names that busybox is called by.
func busyboxApplets() []string {
	return append([]string{"sh", "ash", "more", "clear", "hexdump", "xargs", "expr", "test", "[", "echo", "printf", "true", "false", "free", "lsmod", "insmod", "rmmod", "reset", "ping"}, shellTools()...)
}

const (
	maxShellFile = 64 << 20  // of a program or a library, bytes
	maxShell     = 256 << 20 // of all of them; with bash and every tool it is a tenth
	maxNeeded    = 1000      // libraries that a file may name; real ones name some dozens
)

// addShell copies a shell of the image into root, with some tools and all the
// libraries that these need.
func addShell(root, image *tree.Inode) error {
	c := &closure{root: root, image: image, left: maxShell}
	// /bin, /lib and so on are as in the image: dynamic programs name their
	// loader by them.
	for _, name := range []string{"bin", "sbin", "lib64", "usr/lib64", "usr/sbin"} {
		if i := tree.Lookup(image, name); i != nil && i.IsLink() {
			if err := c.link(name, i.Target); err != nil {
				return err
			}
		}
	}
	var shell string
	for _, name := range shells() {
		if err := c.add(name); err == nil {
			shell = name
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if shell == "" {
		return errors.New("the image has no shell")
	}
	if path.Base(shell) == "busybox" {
		for _, name := range busyboxApplets() {
			if err := c.link("usr/bin/"+name, "busybox"); err != nil {
				return err
			}
		}
	} else {
		for _, name := range shellTools() {
			for _, dir := range []string{"usr/bin/", "usr/sbin/"} {
				// What is not there, or not to be had, a shell does without.
				_ = c.add(dir + name)
			}
		}
	}
	if tree.Lookup(root, "bin") == nil {
		if err := c.link("bin", "usr/bin"); err != nil {
			return err
		}
	}
	if tree.Lookup(root, "usr/bin/sh") == nil {
		return c.link("usr/bin/sh", path.Base(shell))
	}
	return nil
}

// closure copies programs with what they are linked to.
type closure struct {
	root, image *tree.Inode
	left        int64 // bytes that files may still have
}

func (c *closure) link(name, target string) error {
	if tree.Lookup(c.root, name) != nil {
		return nil
	}
	return tree.Put(c.root, name, tree.NewLink(target))
}

// add copies a program and all that it needs. The error wraps fs.ErrNotExist where
// there is none.
func (c *closure) add(name string) error {
	for todo := []string{name}; len(todo) > 0; todo = todo[1:] {
		needed, err := c.copy(todo[0])
		if err != nil && todo[0] != name {
			err = fmt.Errorf("%s needs another file: %w", name, err)
		}
		if err != nil {
			return err
		}
		todo = append(todo, needed...)
	}
	return nil
}

// copy copies a program or a library, to the path that symbolic links lead from, and
// returns the paths of what it needs. What is there already needs nothing.
func (c *closure) copy(name string) (needed []string, err error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	i, err := tree.Resolve(c.image, name)
	if err != nil {
		return nil, err
	}
	if !i.IsFile() {
		return nil, &fs.PathError{Op: "copy", Path: name, Err: fs.ErrNotExist}
	}
	at := c.place(name)
	if tree.Lookup(c.root, at) != nil {
		return nil, nil
	}
	if i.Content.Size() > c.left {
		return nil, fmt.Errorf("%s: with it, the shell and its tools have more than %d bytes", name, maxShell)
	}
	c.left -= i.Content.Size()
	data, err := i.Content.ReadAll(maxShellFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f := tree.NewFile(i.Perm()&0o755, i.Content)
	if err := tree.Put(c.root, at, f); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, nil // a script; its interpreter is a shell
	}
	return c.libraries(name, data)
}

// place returns the path with the links of directories resolved that are the same
// in the initramfs.
func (c *closure) place(name string) string {
	for _, l := range []string{"bin", "sbin", "lib64", "lib", "usr/lib64", "usr/sbin"} {
		rest, ok := strings.CutPrefix(name, l+"/")
		if !ok {
			continue
		}
		if i := tree.Lookup(c.image, l); i != nil && i.IsLink() {
			if l == "lib" {
				return "lib/" + rest // modules and firmware are there: a directory
			}
			return strings.TrimPrefix(path.Join("/", path.Dir(l), i.Target, rest), "/")
		}
	}
	return name
}

// libraries returns the paths of the loader and the libraries of an ELF file.
func (c *closure) libraries(name string, data []byte) (paths []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		paths = append(paths, strings.TrimRight(string(b), "\x00"))
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(needed) > maxNeeded {
		return nil, fmt.Errorf("%s: it names %d libraries", name, len(needed))
	}
	dirs := libraryDirs(f)
	for _, lib := range needed {
		k := slices.IndexFunc(dirs, func(dir string) bool {
			i, err := tree.Resolve(c.image, dir+"/"+lib)
			return err == nil && i.IsFile()
		})
		if k < 0 || strings.Contains(lib, "/") {
			return nil, fmt.Errorf("%s: the image lacks its library %s", name, lib)
		}
		paths = append(paths, dirs[k]+"/"+lib)
	}
	return paths, nil
}

// libraryDirs are where the loader of an ELF file looks for libraries: its run
// path, then what distributions have.
func libraryDirs(f *elf.File) (dirs []string) {
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		list, _ := f.DynString(tag)
		for _, paths := range list {
			for dir := range strings.SplitSeq(paths, ":") {
				if strings.HasPrefix(dir, "/") {
					dirs = append(dirs, dir)
				}
			}
		}
	}
	triplet := map[elf.Machine]string{
		elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu", elf.EM_PPC64: "powerpc64le-linux-gnu",
		elf.EM_S390: "s390x-linux-gnu", elf.EM_RISCV: "riscv64-linux-gnu", elf.EM_386: "i386-linux-gnu", elf.EM_ARM: "arm-linux-gnueabihf",
	}[f.Machine]
	if triplet != "" {
		dirs = append(dirs, "usr/lib/"+triplet)
	}
	if f.Class == elf.ELFCLASS64 {
		dirs = append(dirs, "usr/lib64")
	}
	return append(dirs, "usr/lib", "lib64", "lib", "usr/lib64/systemd", "usr/lib/systemd")
}
