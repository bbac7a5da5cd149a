package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"imgbuild/attest"
	"imgbuild/fault"
	"imgbuild/pipeline"
	"imgbuild/sbom"
)

// recordFlags say what is written about the results.
type recordFlags struct {
	record            bool
	key, passwordFile string
	sboms             []string
}

func (f *recordFlags) register(s *pflag.FlagSet) {
	s.BoolVar(&f.record, "record", false, "write a record of the build beside the results: an in-toto statement with SLSA provenance, for imgbuild verify")
	s.StringArrayVar(&f.sboms, "sbom", nil, "write what the image's package database lists beside the results: spdx or cyclonedx, or attached for the SBOMs that are attached to the image; may be repeated")
	s.StringVar(&f.key, "sign-key", "", "PEM file with the private key that signs the record: ECDSA or Ed25519, also as cosign encrypts it")
	s.StringVar(&f.passwordFile, "sign-password-file", "", "file with the password of the key (default: $COSIGN_PASSWORD)")
}

// apply sets the options of a build about records.
func (f *recordFlags) apply(cmd *cobra.Command, of *flags, o *pipeline.Options) (err error) {
	r := &o.Records
	r.Record = f.record
	if r.Epoch = os.Getenv("SOURCE_DATE_EPOCH"); r.Epoch != "" {
		if n, err := strconv.ParseInt(r.Epoch, 10, 64); err != nil || n < 0 || n > maxEpoch {
			return fault.New(fault.Usage, fmt.Errorf("SOURCE_DATE_EPOCH=%q: no number of seconds since 1970", r.Epoch), "")
		}
	}
	for _, name := range f.sboms {
		format, err := sbom.ParseFormat(name)
		if err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--sbom %w", err), fault.HintOf(err))
		}
		r.SBOMs = append(r.SBOMs, format)
	}
	if f.passwordFile != "" && f.key == "" {
		return fault.New(fault.Usage, errors.New("--sign-password-file: there is no key that it could be for"), "add --sign-key FILE")
	}
	if f.key != "" {
		if r.Signer, err = f.readKey(); err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--sign-key %s: %w", f.key, err), "")
		}
	}
	r.Parameters = attest.Parameters{Image: o.Image.String(), Flags: shapingFlags(cmd.Flags(), of, o)}
	r.Inputs = append(append([]attest.Resource{}, of.config.inputs...), of.inputs...)
	return nil
}

// maxEpoch is the last second of the year 9999, the last one that documents can
// say.
const maxEpoch = 253402300799

func (f *recordFlags) readKey() (*attest.PrivateKey, error) {
	text, err := readKeyFile(f.key)
	if err != nil {
		return nil, err
	}
	return attest.ParsePrivateKey(text, func() ([]byte, error) {
		if f.passwordFile != "" {
			text, err := readKeyFile(f.passwordFile)
			return bytes.TrimRight(text, "\r\n"), err
		}
		if p, ok := os.LookupEnv("COSIGN_PASSWORD"); ok {
			return []byte(p), nil
		}
		return nil, errors.New("is encrypted: --sign-password-file or COSIGN_PASSWORD says the password")
	})
}

// readKeyFile reads a small file.
func readKeyFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, attest.MaxKey+1))
	if err == nil && len(text) > attest.MaxKey {
		err = fmt.Errorf("more than %d bytes", attest.MaxKey)
	}
	return text, err
}

// inputFile describes a file that a flag names.
func inputFile(flag, name string, text []byte) attest.Resource {
	return attest.Resource{
		Name: attest.DependencyFile, Digest: attest.SHA256(sha256.Sum256(text)),
		Annotations: map[string]string{"flag": "--" + flag, "path": name},
	}
}

// shaping lists the flags that shape a result, in the order that a record has
// them. Only these are taken from a record: none of them says where something is
// written, or holds a secret.
func shaping() []string {
	return []string{
		"type", "target-arch", "rootfs", "size", "root-size", "free-space", "layout", "target-imgref",
		"enforce-container-sigpolicy", "stateroot", "karg", "karg-delete", "no-default-kernel-args", "disable-selinux",
		"skip-bound-images", "config", "ignore-unsupported", "allow-paths", "seed", "sbom",
		"qcow2-compression", "compress", "vhd-subformat", "ova-name", "ova-cpus", "ova-memory", "ova-firmware",
		"ova-secure-boot", "ova-hardware-version", "containerdisk-format",
		"iso-target", "iso-unattended", "iso-wipe", "kickstart", "installer-payload-ref", "installer-program",
	}
}

// incidental lists the flags that do not shape a result.
func incidental() []string {
	return []string{
		"output", "chown", "no-output", "push", "format", "progress", "log-level", "verbose", "help",
		"cache", "no-cache", "cache-size", "tls-verify", "authfile", "creds", "registry-token", "registries-conf",
		"cert-dir", "pull", "local", "verify-key", "signature-policy", "registries-d", "stall-timeout", "limit", "record", "sign-key", "sign-password-file",
		"store", "rpmmd", "use-librepo", "build-container", "in-vm",
	}
}

// shapingFlags returns the flags that shape the result as they were given, and
// those whose defaults are this machine's.
func shapingFlags(s *pflag.FlagSet, f *flags, o *pipeline.Options) (list []string) {
	arch := o.Arch
	if arch == "" {
		arch = o.HostArch
	}
	for _, name := range shaping() {
		flag := s.Lookup(name)
		if flag == nil {
			continue
		}
		var values []string
		many, isList := flag.Value.(pflag.SliceValue)
		switch {
		case name == "target-arch":
			values = []string{arch}
		case name == "config":
			// Those that are read where none is named, too.
			for _, in := range f.config.inputs {
				if in.Annotations["flag"] == "--config" {
					values = append(values, in.Annotations["path"])
				}
			}
		case name == "type" && !flag.Changed:
			values = []string{string(pipeline.QCOW2)}
		case !flag.Changed:
		case isList:
			values = many.GetSlice()
		default:
			values = []string{flag.Value.String()}
		}
		for _, v := range values {
			list = append(list, "--"+name+"="+v)
		}
	}
	return list
}

// isShaping tells whether an argument of a record is a flag that shapes a result.
func isShaping(arg string) (name string, ok bool) {
	name, ok = flagName(arg)
	return name, ok && slices.Contains(shaping(), name)
}
