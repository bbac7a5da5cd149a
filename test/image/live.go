package image

import (
	"bytes"
	"context"
	_ "embed"

	"imgbuild/content"
	"imgbuild/initramfs"
	"imgbuild/tree"
)

//go:embed live/init
var liveInit []byte

// LiveArg has the kernel run what Live puts into the initramfs.
const LiveArg = "rdinit=/live-init"

// Live returns the files by which the sample image, whose layout is given, starts
// from a live medium: an initramfs with a program that does what dracut's modules
// dmsquash-live, livenet and ostree do, and says that it has them. The kernel runs
// it with LiveArg.
func Live(layout string) ([]File, error) {
	name, data, err := ReadFile(layout, "usr/lib/modules/*/initramfs.img")
	if err != nil {
		return nil, err
	}
	root := tree.NewDir(0o755)
	for path, f := range map[string]*tree.Inode{
		"live-init":                  tree.NewFile(0o755, content.Bytes(liveInit)),
		"usr/lib/dracut/modules.txt": tree.NewFile(0o644, content.String("base\ndmsquash-live\nlivenet\nostree\n")),
	} {
		if err := tree.Put(root, path, f); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	if err := initramfs.Write(context.Background(), &b, root, initramfs.None); err != nil {
		return nil, err
	}
	b.Write(make([]byte, -b.Len()&511)) // as early microcode is followed by what is compressed
	return []File{{Name: name, Mode: 0o644, Data: append(b.Bytes(), data...)}}, nil
}
