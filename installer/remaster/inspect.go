// Package remaster looks into finished installation media and changes them without
// making them anew: a kickstart, the target disk, kernel arguments.
//
// A medium of imgbuild has room for that in two files of fixed length: the kernel
// arguments in GRUB's directory (grub.KargsPath) and the settings of the installer
// (settings.Path). Changing them moves nothing; only the media checksum is taken
// again. Other ISOs are looked into, and not changed.
package remaster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"imgbuild/bootloader/grub"
	"imgbuild/formats/iso"
	"imgbuild/installer/medium"
	"imgbuild/installer/settings"
	"imgbuild/partition"
)

const (
	maxConfig   = 1 << 20 // bytes of a grub.cfg
	maxIndex    = 1 << 20 // bytes of an index.json
	maxListed   = 64      // entries of a menu that are shown
	sectorSize  = 512
	bootCodeEnd = 440
)

// Report is what is on an ISO. Sizes and offsets are in bytes.
type Report struct {
	VolumeID    string `json:"volume_id"`
	SystemID    string `json:"system_id,omitempty"`
	Application string `json:"application,omitempty"`
	Publisher   string `json:"publisher,omitempty"`
	Created     string `json:"created,omitempty"` // as the volume has it, YYYYMMDDhhmmsscc
	Size        int64  `json:"size"`
	RockRidge   bool   `json:"rock_ridge"`
	Joliet      bool   `json:"joliet"`
	Boot        []Boot `json:"boot"`
	// SystemArea is what is in front of the file system, for a start as a disk.
	SystemArea SystemArea `json:"system_area"`
	// Checksum is the media checksum that the ISO carries, "" without one. Verified
	// says, once that was looked at, whether it is right.
	Checksum string `json:"media_checksum,omitempty"`
	Verified *bool  `json:"verified,omitempty"`
	// Installer is what a medium of imgbuild installs, nil for any other.
	Installer *Installer `json:"installer,omitempty"`
	// Payload is the digest of the image in an OCI layout on the medium, "" without.
	Payload string      `json:"payload,omitempty"`
	Menu    []MenuEntry `json:"menu"`
	// Kargs are the kernel arguments that can be changed, which all entries have
	// behind their own.
	Kargs []string `json:"kargs"`
	// Settings are those of the installer, nil where the medium has no room for any.
	Settings *settings.Settings `json:"settings,omitempty"`
	// Kickstarts are files for Anaconda.
	Kickstarts []string `json:"kickstarts,omitempty"`
	Areas      []Area   `json:"areas"`
	Problems   []string `json:"problems,omitempty"`
}

// Boot is an entry of the boot catalog.
type Boot struct {
	Platform string `json:"platform"`       // bios, uefi
	Path     string `json:"path,omitempty"` // of the file with the same bytes, if there is one
	Offset   int64  `json:"offset"`
	Size     int64  `json:"size"` // 0 for up to the end
}

// SystemArea is what is in front of an ISO.
type SystemArea struct {
	BootCode   bool        `json:"boot_code"` // for a start by a BIOS as a disk
	Partitions []Partition `json:"partitions"`
}

// Partition is a partition of the ISO as a disk.
type Partition struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// Installer is what a medium of imgbuild installs.
type Installer struct {
	Title       string   `json:"title"`
	Arch        string   `json:"architecture"`
	Kernel      string   `json:"kernel"`
	Reference   string   `json:"reference"`
	Digest      string   `json:"digest"`
	ImageSize   int64    `json:"image_size"`
	Target      string   `json:"target_imgref,omitempty"` // where the installed system gets updates
	MinimumDisk int64    `json:"minimum_disk"`
	RootFS      []string `json:"root_fs,omitempty"`
	Config      bool     `json:"config"` // whether a configuration is part of it
}

// MenuEntry is an entry of GRUB's menu.
type MenuEntry struct {
	Title string `json:"title"`
	Args  string `json:"args"` // what is behind the kernel
}

// Area is a file that can be changed.
type Area struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Used   int64  `json:"used"`
}

// Inspect looks into an ISO of size bytes. What is wrong with a part is in
// Problems; the error is of an ISO that cannot be read as one.
func Inspect(r io.ReaderAt, size int64) (*Report, error) {
	im, err := iso.Open(r, size)
	if err != nil {
		return nil, err
	}
	in := &inspection{im: im, r: r, report: &Report{
		VolumeID: im.VolumeID, SystemID: im.SystemID, Application: im.Application, Publisher: im.Publisher, Created: im.Created,
		Size: im.Blocks * iso.BlockSize, RockRidge: im.RockRidge, Joliet: im.Joliet,
		Boot: []Boot{}, Menu: []MenuEntry{}, Kargs: []string{}, Areas: []Area{}, SystemArea: SystemArea{Partitions: []Partition{}},
	}}
	if in.report.Size > size {
		in.problem(fmt.Errorf("the volume has %d bytes, the file %d: it is cut off", in.report.Size, size))
	}
	for _, step := range []func() error{in.boot, in.systemArea, in.checksum, in.installer, in.menu, in.kargs, in.settings, in.kickstarts} {
		if err := step(); err != nil {
			in.problem(err)
		}
	}
	return in.report, nil
}

// Verify compares an ISO with its media checksum.
func (r *Report) Verify(ctx context.Context, f io.ReaderAt, size int64, progress func(done, total int64)) error {
	im, err := iso.Open(f, size)
	if err != nil {
		return err
	}
	err = im.Verify(ctx, progress)
	if ok := err == nil; ok || errors.Is(err, iso.ErrChecksum) {
		r.Verified = &ok
	}
	return err
}

// inspection is one run of Inspect.
type inspection struct {
	im     *iso.Image
	r      io.ReaderAt
	report *Report
}

func (in *inspection) problem(err error) {
	in.report.Problems = append(in.report.Problems, err.Error())
}

// optional returns a file, or nil where there is none.
func (in *inspection) optional(path string, limit int64) ([]byte, error) {
	b, err := in.im.ReadFile(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (in *inspection) boot() error {
	at := map[int64]int{}
	for _, e := range in.im.Boot {
		if !e.Bootable {
			continue
		}
		b := Boot{Platform: e.PlatformName(), Offset: e.Block * iso.BlockSize, Size: int64(e.Sectors) * sectorSize}
		if b.Platform == "uefi" && e.Sectors < 2 {
			b.Size = 0
		}
		at[b.Offset] = len(in.report.Boot)
		in.report.Boot = append(in.report.Boot, b)
	}
	return in.im.Walk(func(path string, f *iso.File) error {
		if f.IsDir() || f.Size == 0 {
			return nil
		}
		if k, ok := at[f.Extents[0].Off]; ok && in.report.Boot[k].Path == "" {
			in.report.Boot[k].Path = path
		}
		return nil
	})
}

func (in *inspection) systemArea() error {
	code := make([]byte, bootCodeEnd)
	if _, err := in.r.ReadAt(code, 0); err != nil {
		return err
	}
	a := &in.report.SystemArea
	a.BootCode = len(bytes.Trim(code, "\x00")) > 0
	table, err := partition.Read(in.r, in.report.Size, sectorSize)
	if errors.Is(err, partition.ErrNoTable) {
		return nil
	}
	if err != nil {
		return err
	}
	number := 0
	for _, p := range table.Partitions {
		if number++; p.Number != 0 {
			number = p.Number
		}
		a.Partitions = append(a.Partitions, Partition{number, p.Name, p.Type.String(), p.Start, p.Size})
	}
	return nil
}

func (in *inspection) checksum() (err error) {
	in.report.Checksum, err = in.im.Checksum()
	return err
}

// installer reads the description of a medium of imgbuild, and what image any
// medium has.
func (in *inspection) installer() error {
	b, err := in.optional(medium.Path, medium.MaxSize)
	if err != nil {
		return err
	}
	if b != nil {
		d, err := medium.Decode(b)
		if err != nil {
			return err
		}
		in.report.Installer = &Installer{
			Title: d.Title, Arch: d.Arch, Kernel: d.Kernel, Reference: d.Image.Reference, Digest: d.Image.Digest, ImageSize: d.Image.Size,
			Target: d.Build.Target, MinimumDisk: d.MinimumDisk, RootFS: d.RootFS, Config: len(d.Build.Config) > 0,
		}
	}
	if b, err = in.optional(medium.Payload+"/index.json", maxIndex); b == nil || err != nil {
		return err
	}
	var index struct {
		Manifests []struct {
			Digest string `json:"digest"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return fmt.Errorf("%s/index.json: %w", medium.Payload, err)
	}
	if len(index.Manifests) > 0 {
		in.report.Payload = index.Manifests[0].Digest
	}
	return nil
}

// menu reads the menu of the first configuration of GRUB there is.
func (in *inspection) menu() error {
	for _, path := range []string{grub.MediumDir + "/grub.cfg", "EFI/BOOT/grub.cfg", "boot/grub/grub.cfg"} {
		b, err := in.optional(path, maxConfig)
		if err != nil {
			return err
		}
		if in.report.Menu = append(in.report.Menu, menuOf(string(b))...); len(in.report.Menu) > 0 {
			return nil
		}
	}
	return nil
}

// menuOf returns the entries in a configuration of GRUB, as far as they are
// written in the usual way.
func menuOf(text string) (menu []MenuEntry) {
	title := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		command, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch command {
		case "menuentry":
			title = firstWord(rest)
		case "linux", "linuxefi", "linux16":
			if title == "" || len(menu) == maxListed {
				continue
			}
			_, args, _ := strings.Cut(rest, " ")
			args = strings.TrimSpace(strings.TrimSuffix(args, "$kargs"))
			menu = append(menu, MenuEntry{Title: title, Args: args})
			title = ""
		}
	}
	return menu
}

// firstWord returns the first word of a line, without its quotes.
func firstWord(s string) string {
	if s == "" || s[0] != '\'' && s[0] != '"' {
		word, _, _ := strings.Cut(s, " ")
		return word
	}
	var out strings.Builder
	for rest := s; ; {
		text, after, ok := strings.Cut(rest[1:], rest[:1])
		out.WriteString(text)
		// 'a'\''b' is one word with a quote in it.
		if !ok || !strings.HasPrefix(after, `\'`) {
			return out.String()
		}
		out.WriteByte('\'')
		if rest = after[2:]; rest == "" || rest[0] != s[0] {
			return out.String()
		}
	}
}

// area notes a file that can be changed.
func (in *inspection) area(path string, used int) error {
	f, err := in.im.Lookup(path)
	if err != nil {
		return err
	}
	in.report.Areas = append(in.report.Areas, Area{Path: path, Offset: f.Extents[0].Off, Size: f.Size, Used: int64(used)})
	return nil
}

func (in *inspection) kargs() error {
	b, err := in.optional(grub.KargsPath, grub.SizeKargs)
	if b == nil || err != nil {
		return err
	}
	args, err := grub.ParseKargs(b)
	if err != nil {
		return fmt.Errorf("%s: %w", grub.KargsPath, err)
	}
	in.report.Kargs = append(in.report.Kargs, args...)
	return in.area(grub.KargsPath, len(bytes.TrimRight(b, "#\n")))
}

func (in *inspection) settings() error {
	b, err := in.optional(settings.Path, maxSettings)
	if b == nil || err != nil {
		return err
	}
	s, err := settings.Decode(b)
	if err != nil {
		return fmt.Errorf("%s: %w", settings.Path, err)
	}
	in.report.Settings = s
	return in.area(settings.Path, len(bytes.TrimRight(b, "\x00")))
}

// kickstarts looks for what Anaconda reads.
func (in *inspection) kickstarts() error {
	for _, path := range []string{"osbuild.ks", "osbuild-base.ks", "ks.cfg"} {
		if _, err := in.im.Lookup(path); err == nil {
			in.report.Kickstarts = append(in.report.Kickstarts, "/"+path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
