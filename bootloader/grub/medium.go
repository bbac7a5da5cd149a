package grub

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// MediumDir is GRUB's directory on a medium, KargsPath the file in it that
// [Kargs] makes. Both count from the root of the medium.
const (
	MediumDir = "boot/grub2"
	KargsPath = MediumDir + "/kargs.cfg"
)

// MediumMenu is the menu of an installation medium.
type MediumMenu struct {
	VolumeID string // by which GRUB finds the medium
	Timeout  int    // seconds until the default is started; below 0 it waits
	Default  int    // index in Entries
	Entries  []MediumEntry
}

// MediumEntry is a line of the menu.
type MediumEntry struct {
	Title   string
	Submenu string   // title of the submenu that the entry is in, with its neighbours of the same; or ""
	Kernel  string   // path on the medium, as in /images/pxeboot/vmlinuz
	Initrd  []string // paths on the medium
	Args    []string // kernel arguments, in front of those of KargsPath
	// Exit leaves GRUB, so that the firmware goes on with the next device.
	Exit bool
}

// mediumHead begins the configuration. A serial port is used beside the screen
// where GRUB drives the machine by itself; firmware of UEFI has consoles of its
// own. Nothing of it reaches the kernel.
const mediumHead = `# Written by imgbuild.
function load_video {
  # A GRUB that has the drivers in itself needs no file of them, and would wait
  # for a key over one that is missing.
  if [ -f ($root)/boot/grub2/$grub_cpu-$grub_platform/all_video.mod ]; then
    insmod all_video
  fi
}
search --no-floppy --set=root --label %s
set kargs=
# Submenus see what is exported.
export kargs
if [ -f ($root)/%s ]; then
  source ($root)/%s
fi
if [ "$grub_platform" = pc ]; then
  if serial --unit=0 --speed=115200; then
    terminal_input --append serial
    terminal_output --append serial
  fi
fi
set timeout_style=menu
set timeout=%d
set default=%s
set gfxpayload=keep

`

// MediumConfig returns the grub.cfg of a medium.
func MediumConfig(m MediumMenu) ([]byte, error) {
	if len(m.Entries) == 0 || m.Default < 0 || m.Default >= len(m.Entries) {
		return nil, fmt.Errorf("a menu of %d entries, the default is %d", len(m.Entries), m.Default)
	}
	var b strings.Builder
	fmt.Fprintf(&b, mediumHead, quote(m.VolumeID), KargsPath, KargsPath, m.Timeout, "'"+entryID(m, m.Default)+"'")
	open := ""
	for k, e := range m.Entries {
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("menu entry %q: %w", e.Title, err)
		}
		if e.Submenu != open {
			if open != "" {
				b.WriteString("}\n")
			}
			if open = e.Submenu; open != "" {
				fmt.Fprintf(&b, "submenu %s --id %s {\n", quote(open), submenuID(m, k))
			}
		}
		e.write(&b, k)
	}
	if open != "" {
		b.WriteString("}\n")
	}
	return []byte(b.String()), nil
}

// entryID returns the identifier by which GRUB finds an entry, through its
// submenu.
func entryID(m MediumMenu, k int) string {
	id := fmt.Sprintf("entry%d", k)
	if m.Entries[k].Submenu != "" {
		id = submenuID(m, k) + ">" + id
	}
	return id
}

// submenuID returns the identifier of the submenu of an entry: the number of the
// first entry in it.
func submenuID(m MediumMenu, k int) string {
	for k > 0 && m.Entries[k-1].Submenu == m.Entries[k].Submenu {
		k--
	}
	return fmt.Sprintf("menu%d", k)
}

// check refuses what would end the line or the word it is in.
func (e MediumEntry) check() error {
	texts := append([]string{e.Title, e.Submenu, e.Kernel}, e.Initrd...)
	for _, t := range append(texts, e.Args...) {
		if strings.ContainsAny(t, "\n\r\x00") {
			return fmt.Errorf("%q has more than one line", t)
		}
	}
	if e.Exit == (e.Kernel != "") {
		return errors.New("it needs a kernel, or to leave the menu")
	}
	return nil
}

// write writes the entry.
func (e MediumEntry) write(b *strings.Builder, k int) {
	fmt.Fprintf(b, "menuentry %s --id entry%d {\n", quote(e.Title), k)
	if e.Exit {
		b.WriteString("  exit\n}\n")
		return
	}
	b.WriteString("  load_video\n  linux " + word(e.Kernel))
	for _, a := range e.Args {
		b.WriteString(" " + word(a))
	}
	b.WriteString(" $kargs\n")
	if len(e.Initrd) > 0 {
		b.WriteString("  initrd")
		for _, i := range e.Initrd {
			b.WriteString(" " + word(i))
		}
		b.WriteString("\n")
	}
	b.WriteString("}\n")
}

// word returns s as one word of GRUB's script language, without quotes where it
// needs none.
func word(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.,:=_-+@%") == "" {
		return s
	}
	return quote(s)
}

// MediumStub returns a grub.cfg that hands over to that of the medium with the
// label: GRUB looks for one beside itself, and each vendor's in another place.
func MediumStub(volumeID string) []byte {
	return fmt.Appendf(nil, "search --no-floppy --set=root --label %s\nset prefix=($root)/%s\nconfigfile ($root)/%s/grub.cfg\n", quote(volumeID), MediumDir, MediumDir)
}

// SizeKargs is the length in bytes of the file of kernel arguments, which is
// changed in place on a finished medium. Linux takes 2048 bytes on most machines.
const SizeKargs = 4096

// kargsHead and kargsTail are around the arguments in the file.
const (
	kargsHead = "# Arguments of all entries; `imgbuild iso customize` changes them in place.\nset kargs='"
	kargsTail = "'\n"
)

// Kargs returns the file at KargsPath: arguments that all entries of the menu
// have behind their own. It is filled up with a comment.
func Kargs(args []string) ([]byte, error) {
	for _, a := range args {
		if err := CheckKarg(a); err != nil {
			return nil, err
		}
	}
	b := []byte(kargsHead + strings.Join(args, " ") + kargsTail)
	if len(b) >= SizeKargs {
		return nil, fmt.Errorf("kernel arguments of %d bytes, and %d are reserved for them", len(b)-len(kargsHead)-len(kargsTail), SizeKargs-1-len(kargsHead)-len(kargsTail))
	}
	b = append(b, bytes.Repeat([]byte{'#'}, SizeKargs-1-len(b))...)
	return append(b, '\n'), nil
}

// CheckKarg tells whether an argument can stand in the file. GRUB would put a
// backslash in front of quotes, and split the argument at blanks.
func CheckKarg(arg string) error {
	if arg == "" {
		return errors.New("kernel argument without a character")
	}
	for _, c := range []byte(arg) {
		if c <= ' ' || c == 0x7f || c == '\'' || c == '"' || c == '\\' {
			return fmt.Errorf("kernel argument %q: %q is not possible in it", arg, c)
		}
	}
	return nil
}

// ParseKargs returns the arguments in a file that Kargs made.
func ParseKargs(b []byte) ([]string, error) {
	rest, ok := bytes.CutPrefix(b, []byte(kargsHead))
	if !ok || len(b) != SizeKargs {
		return nil, errors.New("no file of kernel arguments as imgbuild makes it")
	}
	text, rest, ok := bytes.Cut(rest, []byte(kargsTail))
	comment, ends := bytes.CutSuffix(rest, []byte("\n"))
	if !ok || !ends || len(bytes.Trim(comment, "#")) != 0 {
		return nil, errors.New("the file of kernel arguments was changed by hand")
	}
	args := strings.Fields(string(text))
	for _, a := range args {
		if err := CheckKarg(a); err != nil {
			return nil, err
		}
	}
	return args, nil
}
