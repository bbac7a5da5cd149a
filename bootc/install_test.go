package bootc

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"imgbuild/test/timing"
)

func TestInstallConfig(t *testing.T) {
	str := func(s string) *string { return &s }
	boolean := func(b bool) *bool { return &b }
	direct := []string{"direct"}
	tests := []struct {
		name  string
		arch  string
		files files
		want  InstallConfig
		warn  []string
	}{
		{"empty file", "amd64", files{"usr/lib/bootc/install/a.toml": ""}, InstallConfig{Block: direct, Stateroot: "default"}, nil},
		{
			"all keys", "amd64",
			files{"usr/lib/bootc/install/a.toml": `
			[install]
			root-fs-type = "xfs"
			block = ["tpm2-luks", "direct"]
			kargs = ["console=ttyS0 nosmt", "foo=bar"]
			karg-deletes = ["debug"]
			match-architectures = ["x86_64", "aarch64"]
			stateroot = "state-1"
			root-mount-spec = "LABEL=rootfs"
			boot-mount-spec = ""
			bootloader = "grub-cc"
			discoverable-partitions = true
			enforce-container-sigpolicy = false
			[install.filesystem.root]
			type = "ext4"
			[install.ostree]
			bls-append-except-default = 'grub_users=""'
			[install.bootupd]
			skip-boot-uuid = true`},
			InstallConfig{
				RootFSType: "ext4", Block: []string{"tpm2-luks", "direct"},
				Kargs: []string{"console=ttyS0 nosmt", "foo=bar"}, KargDeletes: []string{"debug"},
				Stateroot: "state-1", RootMountSpec: str("LABEL=rootfs"), BootMountSpec: str(""),
				BLSAppendExceptDefault: `grub_users=""`, SkipBootUUID: true, Bootloader: "grub-cc",
				DiscoverablePartitions: boolean(true), EnforceContainerSigpolicy: boolean(false),
			},
			nil,
		},
		{
			"order of names, then of directories", "amd64",
			files{
				"usr/lib/bootc/install/20.toml":       "[install]\nkargs=['lib20']\nkarg-deletes=['d20']\nstateroot='a'",
				"usr/local/lib/bootc/install/30.toml": "[install]\nkargs=['local30']\nblock=[]",
				"etc/bootc/install/10.toml":           "[install]\nkargs=['etc10']\nkarg-deletes=['d10']\nstateroot='b'",
				"run/bootc/install/30.toml":           "[install]\nkargs=['run30']\nblock=['tpm2-luks']",
			},
			InstallConfig{Kargs: []string{"etc10", "lib20", "run30"}, KargDeletes: []string{"d10", "d20"}, Stateroot: "a", Block: []string{"tpm2-luks"}},
			nil,
		},
		{
			"short form loses", "amd64",
			files{
				"usr/lib/bootc/install/1.toml": "install.filesystem.root.type='btrfs'",
				"usr/lib/bootc/install/2.toml": "install.root-fs-type='xfs'",
			},
			InstallConfig{RootFSType: "btrfs", Block: direct, Stateroot: "default"},
			nil,
		},
		{
			"scalars, last wins", "amd64",
			files{
				"usr/lib/bootc/install/1.toml": "install.root-fs-type='btrfs'\ninstall.bootloader='systemd'\ninstall.root-mount-spec='x'\ninstall.bootupd.skip-boot-uuid=true",
				"usr/lib/bootc/install/2.toml": "install.root-fs-type='xfs'\ninstall.bootloader='none'\ninstall.boot-mount-spec='y'\ninstall.bootupd={}",
			},
			InstallConfig{RootFSType: "xfs", Bootloader: "none", RootMountSpec: str("x"), BootMountSpec: str("y"), SkipBootUUID: true, Block: direct, Stateroot: "default"},
			nil,
		},
		{
			"architecture", "s390x",
			files{
				"usr/lib/bootc/install/1.toml": "[install]\nkargs=['x86']\nmatch-architectures=['x86_64']",
				"usr/lib/bootc/install/2.toml": "[install]\nkargs=['z']\nmatch-architectures=['s390x', 'x86_64']",
				"usr/lib/bootc/install/3.toml": "[install]\nkargs=['none']\nmatch-architectures=[]",
			},
			InstallConfig{Kargs: []string{"z"}, Block: direct, Stateroot: "default"},
			nil,
		},
		{
			"powerpc64 is both", "ppc64le",
			files{"usr/lib/bootc/install/1.toml": "[install]\nkargs=['p']\nmatch-architectures=['powerpc64']"},
			InstallConfig{Kargs: []string{"p"}, Block: direct, Stateroot: "default"},
			nil,
		},
		{
			"not read", "amd64",
			files{
				"usr/lib/bootc/install/.hidden.toml": "nonsense",
				"usr/lib/bootc/install/README":       "nonsense",
				"usr/lib/bootc/install/x.toml.bak":   "nonsense",
				"usr/lib/bootc/install/x.TOML":       "nonsense",
				"usr/lib/bootc/install/masked.toml":  "nonsense",
				"etc/bootc/install/masked.toml":      "-> /dev/null",
				"usr/lib/bootc/install/link.toml":    "-> x.TOML",
				"usr/lib/bootc/install/dir.toml/":    "",
			},
			InstallConfig{Block: direct, Stateroot: "default"},
			[]string{
				"usr/lib/bootc/install/dir.toml is ignored: not a regular file",
				"usr/lib/bootc/install/link.toml is ignored: not a regular file",
			},
		},
		{
			"linked directory", "amd64",
			files{"usr/lib/bootc/install": "-> ../../share/install", "usr/share/install/a.toml": "install.stateroot='linked'"},
			InstallConfig{Block: direct, Stateroot: "linked"},
			nil,
		},
		{
			"unknown repository option", "amd64",
			files{"usr/lib/bootc/install/a.toml": "install.ostree.other=1"},
			InstallConfig{Block: direct, Stateroot: "default"},
			[]string{"usr/lib/bootc/install/a.toml: unknown key install.ostree.other is ignored"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image, err := Inspect(makeTree(t, minimal(), tt.files), tt.arch)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, image.Install); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tt.warn, image.Warnings); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestHostileTOML: no text of the allowed size may take long.
func TestHostileTOML(t *testing.T) {
	for _, unit := range []string{"[", "{a=", "a.", "[a.a.a.a.a.a.a.a]\n", "[[a]]\n", "[[a.b.c]]\n", "a=1\n", "\"", "'''", "\\", "a=[1,", "a={b={c=1},d=[[[[", "é", "\x00"} {
		for _, prefix := range []string{"", "a=", "a=[", "[install]\n"} {
			text := prefix + strings.Repeat(unit, maxConfig/len(unit))
			timing.Within(t, 2*time.Second, func() time.Duration {
				start := time.Now()
				_, _ = parseTOML("p", text[:min(len(text), maxConfig)])
				return time.Since(start)
			})
			if t.Failed() {
				t.Fatalf("%q %q", prefix, unit)
			}
		}
	}
}
