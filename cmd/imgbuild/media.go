package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/installer/settings"
	"imgbuild/pipeline"
)

// mediaFlags are those about installation media, as typed.
type mediaFlags struct {
	program, target  string
	kickstart        string
	payload          string
	wipe, unattended bool
}

func (f *mediaFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.target, "iso-target", "", "disk that the installer of an iso takes, or offers where it asks: /dev/DISK, /dev/disk/by-id/NAME, serial=NUMBER, first-empty, smallest or largest (default: none; unattended: first-empty)")
	s.BoolVar(&f.unattended, "iso-unattended", false, "make the installer of an iso work without asking")
	s.BoolVar(&f.wipe, "iso-wipe", false, "let it erase a disk that holds data without asking")
	s.StringVar(&f.kickstart, "kickstart", "", "kickstart file for the installer of an iso or of bootc-installer, instead of installer.kickstart.contents of the config; - for stdin")
	s.StringVar(&f.payload, "installer-payload-ref", "", "image that a bootc-installer installs, where IMAGE is the installer, with Anaconda in it; or that a live-iso has in /container")
	s.StringVar(&f.program, "installer-program", "", "imgbuild for Linux on the target's architecture, which becomes the installer of an iso (default: this program)")
}

// mediaOwners says which types heed the flags.
func mediaOwners() map[string][]pipeline.Type {
	m := map[string][]pipeline.Type{}
	for _, name := range []string{"iso-target", "iso-unattended", "iso-wipe", "installer-program"} {
		m[name] = []pipeline.Type{pipeline.ISO, pipeline.AnacondaISO, pipeline.PXE}
	}
	m["kickstart"] = []pipeline.Type{pipeline.ISO, pipeline.AnacondaISO, pipeline.PXE, pipeline.BootcInstaller}
	m["installer-payload-ref"] = []pipeline.Type{pipeline.BootcInstaller, pipeline.LiveISO, pipeline.GenericISO}
	return m
}

// apply reads the flags of installation media.
func (f *mediaFlags) apply(o *pipeline.Options) {
	o.Media = pipeline.Media{Program: f.program, Settings: settings.Settings{Target: f.target, Wipe: f.wipe, Unattended: f.unattended}}
}

// readProgram notes which file the installer is.
func (f *flags) readProgram() error {
	name := f.media.program
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return fault.New(fault.Usage, fmt.Errorf("--installer-program: %w", err), "")
	}
	f.inputs = append(f.inputs, inputFile("installer-program", name, text))
	return nil
}

// mediumOf returns the kind of medium among the types, whatever their order: what is
// said about an installer is for it, where there is a live medium as well.
func mediumOf(types []pipeline.Type) (found blueprints.Media) {
	for _, t := range types {
		if m := t.Medium(); m != "" && (found == "" || found == blueprints.Live) {
			found = m
		}
	}
	return found
}
