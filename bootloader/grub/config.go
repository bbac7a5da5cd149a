package grub

import (
	"errors"
	"fmt"
	"strings"

	"imgbuild/bootloader/bls"
)

// ConfigOptions say what a grub.cfg of our own has to find.
type ConfigOptions struct {
	BootUUID string // of the file system that holds /boot
	Dir      string // /boot on that file system: "" or "/boot"
	// Script does without the command for boot loader entries; Upstream says
	// that there is one, and that it is that of GRUB 2.14.
	Script, Upstream bool
}

// ScriptModules are the modules that a GRUB needs to show boot loader entries
// by the script of [Config].
func ScriptModules() []string {
	return []string{"normal", "configfile", "test", "regexp", "search_fs_uuid", "linux"}
}

// Config returns a grub.cfg for an image that brings none. It looks for boot
// loader entries at every boot, so upgrades, which only write entries, do not
// outdate it. Like bootupd's it reads console.cfg and custom.cfg beside it.
func Config(o ConfigOptions) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# Written by imgbuild. The menu shows the boot loader entries that there are.
if [ -s $prefix/grubenv ]; then
  load_env
fi
search.fs_uuid %s root
if [ -f $prefix/console.cfg ]; then
  source $prefix/console.cfg
fi
function load_video {
  insmod all_video
}
set default=0
set timeout_style=menu
set timeout=1
`, o.BootUUID)
	switch {
	case o.Script:
		b.WriteString(strings.ReplaceAll(entriesScript, "@DIR@", o.Dir))
	case o.Upstream && o.Dir != "":
		b.Write(WithBLSPath([]byte(blsCommand + "\n")))
	default:
		b.WriteString(blsCommand + "\n")
	}
	b.WriteString(`if [ -f $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
`)
	return []byte(b.String())
}

// entriesScript makes menu entries of ostree's boot loader entries in a GRUB
// that has no command for them.
const entriesScript = `# This GRUB has no command for boot loader entries, so they are run as scripts:
# each line is a word with arguments. For title, version and options there are
# functions. linux, initrd and devicetree are commands, which no function can
# replace: without a root device they do nothing but complain. The files are
# found by the argument ostree= instead.
insmod regexp
function title {
  set entry_title="$*"
}
function version {
  set entry_version="$*"
}
function options {
  set dir=
  for arg in "$@"; do
    if regexp --set=1:name --set=2:checksum "^ostree=/ostree/boot[.][01][^/]*/([^/]+)/([0-9a-f]+)/" "$arg"; then
      set dir=($boot)@DIR@/ostree/$name-$checksum
    fi
  done
  set kernel=
  set ramdisk=
  if [ -n "$dir" ]; then
    for file in $dir/vmlinuz*; do
      if [ -f "$file" ]; then
        set kernel="$file"
      fi
    done
    for file in $dir/initramfs*; do
      if [ -f "$file" ]; then
        set ramdisk="$file"
      fi
    done
  fi
  if [ -n "$kernel" ]; then
    menuentry "$entry_title" --id "$entry_id" -- "$kernel" "$ramdisk" "$dir/devicetree" "$@" {
      set kernel="$2"
      set ramdisk="$3"
      set tree="$4"
      shift 4
      linux "$kernel" "$@"
      if [ -n "$ramdisk" ]; then
        initrd "$ramdisk"
      fi
      if [ -f "$tree" ]; then
        devicetree "$tree"
      fi
    }
  fi
}
set boot=$root
# ostree numbers the entries; the one with the highest number is the default.
for number in 9 8 7 6 5 4 3 2 1; do
  for entry in ($boot)@DIR@/loader/entries/ostree-$number.conf ($boot)@DIR@/loader/entries/ostree-$number-*.conf; do
    if [ -f "$entry" ]; then
      set entry_title=
      set entry_id=ostree-$number
      set root=none
      source "$entry"
      set root=$boot
    fi
  done
done
`

// CheckScript tells whether the script of [Config] shows a boot loader entry:
// its title and options must be plain words of GRUB's script language.
func CheckScript(e bls.Entry) error {
	for _, line := range []string{"title " + e.Title, "version " + e.Version, "options " + e.Options} {
		if err := checkWords(line); err != nil {
			return fmt.Errorf("boot loader entry, %q: %w, and this GRUB reads it as a script", line, err)
		}
	}
	if !strings.Contains(" "+e.Options, " ostree=/ostree/boot.") {
		return errors.New("boot loader entry without an argument ostree=")
	}
	return nil
}

// checkWords tells whether a line is one command of words, with balanced
// quotes.
func checkWords(line string) error {
	quote := byte(0)
	for k := 0; k < len(line); k++ {
		c := line[k]
		switch {
		case quote == '\'':
			if c == quote {
				quote = 0
			}
		case c == '\\':
			if k++; k == len(line) {
				return errors.New("a backslash at the end")
			}
		case c == '$':
			return fmt.Errorf("%q", c)
		case quote == '"':
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case strings.IndexByte(";|&<>{}", c) >= 0, c == '#' && line[k-1] == ' ':
			return fmt.Errorf("%q", c)
		}
	}
	if quote != 0 {
		return fmt.Errorf("%q without its end", quote)
	}
	return nil
}
