package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"imgbuild/test/debian"
)

const usage = `usage: sample image -o DIR [-arch amd64|arm64] [-plain|-fedoralike] [-cache DIR] [-suite NAME]
       sample tools -o DIR [-cache DIR] [-suite NAME]

The Debian mirror is that of this machine's apt, or ` + debian.MirrorVariable + `.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sample: %v\n", err)
		os.Exit(1)
	}
}

// options are the flags of both commands.
type options struct {
	out        string // directory to make
	arch       string // Debian's name
	cache      string
	suite      string
	plain      bool   // image without bootupd
	fedoralike bool   // image with an ostree commit as its base, and SELinux
	mirror     string // default: that of the machine
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return flag.ErrHelp
	}
	var o options
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.Usage = func() {}
	fs.StringVar(&o.out, "o", "", "directory to make")
	fs.StringVar(&o.arch, "arch", "amd64", "architecture")
	fs.StringVar(&o.cache, "cache", "", "directory of downloaded packages")
	fs.StringVar(&o.suite, "suite", debian.DefaultSuite, "Debian release")
	fs.BoolVar(&o.plain, "plain", false, "leave bootupd's files out, so that there are only Debian's packages of shim and GRUB")
	fs.BoolVar(&o.fedoralike, "fedoralike", false, "image of an encapsulated ostree commit and SELinux; needs Linux on amd64")
	if err := fs.Parse(args[1:]); err != nil {
		return errors.Join(flag.ErrHelp, err)
	}
	if fs.NArg() > 0 || o.out == "" {
		return flag.ErrHelp
	}
	if o.cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		o.cache = filepath.Join(dir, "imgbuild", "debian")
	}
	switch args[0] {
	case "image":
		return buildImage(ctx, o)
	case "tools":
		return buildTools(ctx, o)
	}
	return flag.ErrHelp
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "sample: "+format+"\n", args...) }

// openArchive reads the index of the packages for arch.
func openArchive(ctx context.Context, o options) (*debian.Archive, error) {
	return debian.Open(ctx, debian.Options{Mirror: o.mirror, Suite: o.suite, Arch: o.arch, Cache: o.cache, Log: os.Stderr})
}
