package oci

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
)

func TestDecompress(t *testing.T) {
	plain := makeTar(t, reg("a", strings.Repeat("compress me ", 300000)), reg("b", "b"))
	half := len(plain) / 2
	gz := func(b []byte, args ...string) []byte {
		return filter(t, b, "gzip", append([]string{"-nc"}, args...)...)
	}
	zst := func(b []byte, args ...string) []byte {
		return filter(t, b, "zstd", append([]string{"-qc"}, args...)...)
	}
	skippable := []byte("\x5a\x2a\x4d\x18\x04\x00\x00\x00skip")
	for name, blob := range map[string][]byte{
		"plain":               plain,
		"gzip":                gz(plain),
		"gzip members":        slices.Concat(gz(plain[:half]), gz(nil), gz(plain[half:], "-1")),
		"gzip padded":         append(gz(plain), make([]byte, 700)...),
		"zstd":                zst(plain),
		"zstd stream":         zst(plain, "-19", "--long=24", "--no-check"),
		"zstd frames":         slices.Concat(skippable, zst(plain[:half]), skippable, zst(plain[half:], "-1"), skippable),
		"zstd window 128 MiB": zst(plain, "--long=27"),
	} {
		t.Run(name, func(t *testing.T) {
			// Media types lie: it is told from the content.
			for _, mediaType := range []string{"", "application/vnd.docker.image.rootfs.diff.tar"} {
				l, err := unpackPart(t, part{plain: plain, blob: blob, mediaType: mediaType}, UnpackOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if l.Size != int64(len(plain)) || l.Tree.Len() != 2 {
					t.Errorf("size %d, %d entries", l.Size, l.Tree.Len())
				}
			}
		})
	}
	flip := func(b []byte, off int) []byte { b = bytes.Clone(b); b[off] ^= 0x10; return b }
	cutGz, cutZst := gz(plain), zst(plain)
	for name, c := range map[string]struct {
		blob  []byte
		class fault.Class
		text  string
	}{
		"gzip garbage":     {append(gz(plain), "garbage"...), fault.BadImage, "garbage"},
		"gzip padding":     {append(gz(plain), "\x00\x00x"...), fault.BadImage, "garbage"},
		"gzip truncated":   {cutGz[:len(cutGz)-9], fault.BadImage, "decompress: unexpected EOF"},
		"gzip no trailer":  {cutGz[:len(cutGz)-1], fault.BadImage, "decompress: unexpected EOF"},
		"gzip checksum":    {flip(cutGz, len(cutGz)-5), fault.BadImage, "decompress"},
		"gzip body":        {flip(cutGz, len(cutGz)/2), fault.BadImage, "decompress"},
		"gzip header only": {cutGz[:10], fault.BadImage, "decompress"},
		"gzip half header": {slices.Concat(cutGz, cutGz[:5]), fault.BadImage, "decompress"},
		"zstd garbage":     {append(zst(plain), "garbage"...), fault.BadImage, "decompress"},
		"zstd truncated":   {cutZst[:len(cutZst)-9], fault.BadImage, "decompress"},
		"zstd checksum":    {flip(cutZst, len(cutZst)-2), fault.BadImage, "decompress"},
		"xz":               {filter(t, plain, "xz", "-0c"), fault.Unsupported, "xz"},
		"bzip2":            {filter(t, plain, "bzip2", "-1c"), fault.Unsupported, "bzip2"},
		"empty":            {[]byte{}, fault.BadImage, "diff_id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpackPart(t, part{plain: plain, blob: c.blob}, UnpackOptions{})
			wantFault(t, err, c.class, c.text)
		})
	}
}

// TestWindow takes the windows that zstd takes without being told to: a frame
// header with the window, and an empty last block.
func TestWindow(t *testing.T) {
	for exponent, ok := range map[byte]bool{17: true, 18: false, 21: false} {
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0}
		cmd := exec.Command("zstd", "-dqc")
		cmd.Stdin = bytes.NewReader(frame)
		if err := cmd.Run(); (err == nil) != ok {
			t.Errorf("window of 2^%d: zstd says %v", 10+exponent, err)
		}
		_, err := unpackPart(t, part{blob: frame}, UnpackOptions{})
		if ok && err != nil {
			t.Error(err)
		} else if !ok {
			wantFault(t, err, fault.BadImage, "decompress")
		}
	}
}
