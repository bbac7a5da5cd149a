package fat

import (
	"bytes"
	"errors"
	"testing"
	"unicode"

	"imgbuild/fault"
	"imgbuild/tree"
)

// FuzzWrite makes a tree of the names and sizes in data and has fsck.vfat and
// mtools look at the volume.
func FuzzWrite(f *testing.F) {
	f.Add([]byte("EFI/BOOT/BOOTX64.EFI\x00a longer name\x00A LONGER NAM~1\x00x"), uint16(512), uint16(0), false)
	f.Add([]byte("\x00\x00//\x00..\x00.a\x00+\x00\xff\x00b."), uint16(4095), uint16(70), true)
	f.Add([]byte("LONGFI~1.TXT\x00longfilename.txt\x00longfi~2.txt\x00longfilename2.txt"), uint16(513), uint16(1), false)
	f.Add([]byte("\u00e4\u00f6\x00\U0001F600/\U0001F600\x00 a. b/ c"), uint16(1), uint16(4000), false)
	f.Fuzz(func(t *testing.T, names []byte, step, extra uint16, large bool) {
		if len(names) > 4096 {
			return
		}
		root := tree.NewDir(0o755)
		plain := true // names that mtools and the host can hold
		for i, name := range splitNames(names) {
			file := tree.NewFile(0o644, pattern(i, i*int(step)%70000))
			file.Mtime = when
			plain = plain && isPlain(name)
			if err := tree.Put(root, name, file); err != nil {
				continue // not a name, or a file where a directory would be
			}
		}
		opt := options
		if large {
			opt.SectorSize = 4096
		}
		// All that can be in data is less than what FAT16 has room for.
		opt.FAT16 = extra&1 == 1
		size, err := Size(root, int64(extra)*500, opt)
		if err != nil {
			// What is refused is a name, and the error says which.
			if e := new(fault.Error); !errors.As(err, &e) || e.Class != fault.BadImage {
				t.Fatal(err)
			}
			return
		}
		image := write(t, root, size, opt)
		fsck(t, image)
		if plain {
			extract(t, image, root)
		}
	})
}

func splitNames(b []byte) (names []string) {
	for _, name := range bytes.SplitN(b, []byte{0}, 64) {
		names = append(names, string(name))
	}
	return names
}

func isPlain(name string) bool {
	for _, r := range name {
		if r > 0xFFFF || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
