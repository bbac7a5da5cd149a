// Package files puts files and directories of the configuration into the system.
package files

import (
	"context"
	"errors"

	"imgbuild/content"
	"imgbuild/customize"
)

// Config is the tables "files" and "directories".
type Config struct {
	Files       []File
	Directories []Directory
}

// Owner is a user or group, by name or by number. The zero value leaves it to the
// default: root.
type Owner struct {
	Name string
	ID   *int64
}

// Directory is one directory to make, or to change.
type Directory struct {
	Path        string
	User, Group Owner
	// Mode is the permissions in octal, or "" for 0755 or what a directory has.
	Mode string
	// EnsureParents makes missing parents.
	EnsureParents bool
}

// File is one file to write.
type File struct {
	Path        string
	User, Group Owner
	// Mode is the permissions in octal, or "" for 0644, or those of a local source.
	Mode string
	// Data is the content, unless there is a URI.
	Data string
	// URI is where the content is: file:// or https://.
	URI string
	// SHA256 is the digest of the content in hexadecimal digits, required for
	// https.
	SHA256 string
}

// Options widen what may be written.
type Options struct {
	// Allow are paths below which files and directories may be written as well.
	Allow []string
}

// Source gives the content of URIs.
type Source interface {
	// Fetch returns the content, whose digest is sha256 unless that is "", and
	// the permissions of a local file, 0 where there are none.
	Fetch(ctx context.Context, uri, sha256 string) (content.Ref, uint32, error)
}

// Validate returns everything that is wrong whatever the image.
func Validate(c Config, o Options) customize.Problems { return nil }

// Apply makes the directories, then writes the files. It comes after users and
// groups, whose names it looks up. src may be nil where no file has a URI. The
// error is customize.Problems where configuration and image do not fit; the system
// is to be given up after any error.
func Apply(ctx context.Context, sys *customize.System, c Config, o Options, src Source) (warnings customize.Problems, err error) {
	if len(c.Files)+len(c.Directories) > 0 {
		return nil, errors.New("files cannot be applied")
	}
	return nil, nil
}
