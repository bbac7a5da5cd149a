package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/formats/compressed"
	"imgbuild/formats/ova"
	"imgbuild/formats/qcow2"
	"imgbuild/formats/vhd"
	"imgbuild/oci"
	"imgbuild/pipeline"
)

// formatFlags are those of everything that writes disks, as typed.
type formatFlags struct {
	types                               []string
	compression, vhdSubformat, compress string
	container, push                     string
	ovaName, ovaMemory, ovaFirmware     string
	ovaCPUs, ovaHardware                int
	ovaSecureBoot                       bool
}

func (f *formatFlags) register(s *pflag.FlagSet) {
	s.StringVar(&f.compression, "qcow2-compression", "zlib", "compression of qcow2, also in a containerdisk: none, zlib, zstd or zstd:LEVEL")
	s.StringVar(&f.compress, "compress", "", "compress raw disks: gzip, xz or zstd, with :LEVEL for gzip and zstd")
	s.StringVar(&f.vhdSubformat, "vhd-subformat", "fixed", "kind of vhd: fixed or dynamic")
	s.StringVar(&f.ovaName, "ova-name", "", "name of the machine in an ova (default: image)")
	s.IntVar(&f.ovaCPUs, "ova-cpus", 0, "its virtual CPUs (default: 2)")
	s.StringVar(&f.ovaMemory, "ova-memory", "", "its memory, such as 8GiB (default: 4 GiB)")
	s.StringVar(&f.ovaFirmware, "ova-firmware", "", "its firmware: efi or bios (default: efi)")
	s.BoolVar(&f.ovaSecureBoot, "ova-secure-boot", false, "make it start only what is signed")
	s.IntVar(&f.ovaHardware, "ova-hardware-version", 0, "its virtual hardware, N of VMware's vmx-N (default: 15)")
	s.StringVar(&f.container, "containerdisk-format", "archive", "how containerdisk is kept: archive or layout, a tar or a directory")
	s.StringVar(&f.push, "push", "", "also push the containerdisk to a registry, as NAME[:TAG]")
}

// owners says of the flags that only some types heed which these are.
func owners() map[string][]pipeline.Type {
	m := map[string][]pipeline.Type{
		"qcow2-compression":    {pipeline.QCOW2, pipeline.ContainerDisk},
		"compress":             {pipeline.Raw, pipeline.AMI},
		"vhd-subformat":        {pipeline.VHD},
		"containerdisk-format": {pipeline.ContainerDisk},
		"push":                 {pipeline.ContainerDisk},
	}
	for _, name := range []string{"name", "cpus", "memory", "firmware", "secure-boot", "hardware-version"} {
		m["ova-"+name] = []pipeline.Type{pipeline.OVA}
	}
	return m
}

// parse returns the types and what the flags say of them.
func (f *formatFlags) parse(cmd *cobra.Command) (types []pipeline.Type, o pipeline.Formats, err error) {
	for _, name := range f.types {
		t, err := pipeline.ParseType(name)
		if err != nil {
			return nil, o, err
		}
		types = append(types, t)
	}
	asked := types
	if len(asked) == 0 {
		asked = []pipeline.Type{pipeline.QCOW2}
	}
	all := owners()
	maps.Copy(all, mediaOwners())
	for _, name := range slices.Sorted(maps.Keys(all)) {
		of := all[name]
		if cmd.Flags().Changed(name) && !slices.ContainsFunc(of, func(t pipeline.Type) bool { return slices.Contains(asked, t) }) {
			return nil, o, fault.New(fault.Usage, fmt.Errorf("--%s: is about type %s, which is not asked for", name, of[0]), fmt.Sprintf("add --type %s", of[0]))
		}
	}
	if f.compression == "" {
		// A command without the flag.
	} else if o.QCOW2.Compression, o.QCOW2.Level, err = qcow2.ParseCompression(f.compression); err != nil {
		return nil, o, fault.Default(fault.Usage, fmt.Errorf("--qcow2-compression: %w", err))
	}
	if f.compress != "" {
		c, level, err := compressed.ParseCompression(f.compress)
		if err != nil {
			return nil, o, fault.Default(fault.Usage, fmt.Errorf("--compress: %w", err))
		}
		o.Compress = &pipeline.Compress{Compression: c, Level: level}
	}
	if f.vhdSubformat != "" {
		if o.VHD, err = vhd.ParseSubformat(f.vhdSubformat); err != nil {
			return nil, o, fault.Default(fault.Usage, fmt.Errorf("--vhd-subformat: %w", err))
		}
	}
	if err := f.machine(cmd, &o.OVA); err != nil {
		return nil, o, err
	}
	return types, o, f.containerDisk(&o)
}

// machine reads the flags of an appliance.
func (f *formatFlags) machine(cmd *cobra.Command, o *ova.Options) error {
	o.Name, o.CPUs, o.HardwareVersion, o.SecureBoot = f.ovaName, f.ovaCPUs, f.ovaHardware, f.ovaSecureBoot
	// 0 is the default of the options, and nothing that a user can ask for.
	for name, value := range map[string]int{"ova-cpus": f.ovaCPUs, "ova-hardware-version": f.ovaHardware} {
		if cmd.Flags().Changed(name) && value == 0 {
			return fault.New(fault.Usage, fmt.Errorf("--%s 0: must be positive", name), "")
		}
	}
	if f.ovaFirmware != "" {
		var err error
		if o.Firmware, err = ova.ParseFirmware(f.ovaFirmware); err != nil {
			return fault.Default(fault.Usage, fmt.Errorf("--ova-firmware: %w", err))
		}
	}
	if f.ovaMemory != "" {
		n, err := blueprints.ParseSize(f.ovaMemory)
		if err == nil && n%(1<<20) != 0 {
			err = errors.New("no whole number of MiB")
		}
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--ova-memory: %w", err), "as in --ova-memory 4GiB")
		}
		o.MemoryMiB = int(n >> 20)
	}
	return nil
}

func (f *formatFlags) containerDisk(o *pipeline.Formats) error {
	switch f.container {
	case "", "archive":
	case "layout":
		o.ContainerLayout = true
	default:
		return fault.New(fault.Usage, fmt.Errorf("--containerdisk-format %q: unknown", f.container), "archive or layout")
	}
	if f.push != "" {
		ref, err := oci.ParseReference(f.push)
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--push: %w", err), "as in --push registry.example.com/vm:1")
		}
		o.Push = &ref
	}
	return nil
}

// typeUsage describes --type.
func typeUsage(what string, types []string) string {
	return what + ": " + strings.Join(types, ", ")
}
