package bootc

import (
	"slices"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/fault"
	"imgbuild/tree"
)

// sampleISO is that of the documentation of image-builder.
const sampleISO = `label: bootc-generic
kernel_args:
  - console=ttyS0
grub2:
  timeout: 5
  default: 1
  entries:
    - name: Boot Linux
      linux: ${kernelpath} ${root}
      initrd: ${initrdpath}
    - name: Boot Linux With debug
      linux: ${kernelpath} ${root} rd.debug=1
      initrd: ${initrdpath}
`

func isoRoot(t *testing.T, path, text string) *tree.Inode {
	t.Helper()
	root := tree.NewDir(0o755)
	if err := tree.Put(root, path, tree.NewFile(0o644, content.String(text))); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestReadISO(t *testing.T) {
	for _, dir := range []string{"usr/lib/image-builder/bootc/", "usr/lib/bootc-image-builder/"} {
		c, err := ReadISO(isoRoot(t, dir+"iso.yaml", sampleISO))
		if err != nil {
			t.Fatal(err)
		}
		if c.Label != "bootc-generic" || !slices.Equal(c.KernelArgs, []string{"console=ttyS0"}) || *c.GRUB.Timeout != 5 || *c.GRUB.Default != 1 || len(c.GRUB.Entries) != 2 {
			t.Errorf("%+v", c)
		}
		e := &c.GRUB.Entries[1]
		words, err := e.Expand(e.Linux, map[string]string{"kernelpath": "/images/pxeboot/vmlinuz", "root": "console=ttyS0 a=b"})
		if err != nil || strings.Join(words, "|") != "/images/pxeboot/vmlinuz|console=ttyS0|a=b|rd.debug=1" {
			t.Errorf("%q, %v", words, err)
		}
	}
	if c, err := ReadISO(tree.NewDir(0o755)); err != nil || c.Label != "" || c.GRUB.Timeout != nil {
		t.Errorf("without one: %+v, %v", c, err)
	}
}

func TestReadISORefused(t *testing.T) {
	for text, want := range map[string]string{
		"labels: x":                            "line 1: field labels not found",
		"label: [x]":                           "line 1",
		"grub2: {entries: [{linux: a}]}":       "grub2.entries[0]: no name",
		"grub2: {entries: [{name: a}]}":        "grub2.entries[0]: no kernel",
		"grub2: {default: -1}":                 "there is no entry -1",
		"kernel_args: [\"a\\nb\"]":             "more than one line",
		"grub2: {timeout: 99999999}":           "99999999 seconds",
		strings.Repeat("#", maxISOYAML) + "\n": "limit",
	} {
		_, err := ReadISO(isoRoot(t, "usr/lib/image-builder/bootc/iso.yaml", text))
		if err == nil || !strings.Contains(err.Error(), want) || fault.ClassOf(err) != fault.BadImage {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	e := &ISOMenuEntry{Name: "x"}
	for _, line := range []string{"${kernel}", "${", "a ${root"} {
		if words, err := e.Expand(line, map[string]string{"root": "r"}); err == nil {
			t.Errorf("%q is %q", line, words)
		}
	}
	// Hundreds of entries can share such a line.
	if _, err := e.Expand(strings.Repeat("${root}", 1000), map[string]string{"root": strings.Repeat("r", 100)}); fault.ClassOf(err) != fault.BadImage {
		t.Errorf("a line of 100 kB: %v", err)
	}
}

func FuzzParseISO(f *testing.F) {
	f.Add([]byte(sampleISO))
	f.Add([]byte("label: &a x\nkernel_args: [*a, *a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseISO(text)
		if err != nil {
			return
		}
		for i := range c.GRUB.Entries {
			e := &c.GRUB.Entries[i]
			words, err := e.Expand(e.Linux, map[string]string{"root": "r"})
			if err == nil && len(words) > len(e.Linux) {
				t.Errorf("%q: %q", e.Linux, words)
			}
		}
	})
}
