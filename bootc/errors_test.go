package bootc

import (
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/tree"
)

func TestInspectErrors(t *testing.T) {
	long := strings.Repeat("#", maxConfig+1)
	tests := []struct {
		name  string
		files files
		class fault.Class
		want  string // in the message
		hint  string // in the hint
	}{
		{"no kernel", files{"usr/lib/modules/6.1/vmlinuz": "gone"}, fault.BadImage, "no kernel", "kernel package"},
		{"two kernels", files{"usr/lib/modules/6.2/vmlinuz": "k"}, fault.BadImage, "2 kernels in usr/lib/modules: 6.1, 6.2", "exactly one"},
		{"kernel is a directory", files{"usr/lib/modules/6.1/vmlinuz": "gone", "usr/lib/modules/6.1/vmlinuz/": ""}, fault.BadImage, "usr/lib/modules/6.1/vmlinuz is not a regular file", ""},
		{"kernel link to nothing", files{"usr/lib/modules/6.1/vmlinuz": "-> gone"}, fault.BadImage, "symbolic link to nothing", ""},
		{"kernel link loop", files{"usr/lib/modules/6.1/vmlinuz": "-> vmlinuz"}, fault.BadImage, "too many symbolic links", ""},
		{"kernel link to the host", files{"usr/lib/modules/6.1/vmlinuz": "-> /../../../../etc/passwd"}, fault.BadImage, "symbolic link to nothing", ""},
		{"empty kernel", files{"usr/lib/modules/6.1/vmlinuz": ""}, fault.BadImage, "vmlinuz is empty", ""},
		{"kernel version", files{"usr/lib/modules/6.1/vmlinuz": "gone", "usr/lib/modules/6 1/vmlinuz": "k"}, fault.BadImage, "kernel version", ""},
		{"modules is a file", files{"usr/lib/modules/6.1/vmlinuz": "gone", "usr/lib/modules/6.1/initramfs.img": "gone", "usr/lib/modules": "x"}, fault.BadImage, "usr/lib/modules is not a directory", ""},
		{"UKI", files{"boot/EFI/Linux/os.efi": "pe"}, fault.Unsupported, "unified kernel image, boot/EFI/Linux/os.efi", "vmlinuz"},
		{"UKI among the modules", files{"usr/lib/modules/6.1/vmlinuz": "gone", "usr/lib/modules/6.1/vmlinuz-virt.efi": "pe"}, fault.Unsupported, "usr/lib/modules/6.1/vmlinuz-virt.efi", ""},
		{"no prepare-root.conf", files{"usr/lib/ostree/prepare-root.conf": "gone"}, fault.BadImage, "no ostree/prepare-root.conf", "base image"},
		{"composefs", files{"usr/lib/ostree/prepare-root.conf": "[composefs]\nenabled=perhaps\n"}, fault.BadImage, `usr/lib/ostree/prepare-root.conf: composefs.enabled: "perhaps"`, ""},
		{"transient", files{"etc/ostree/prepare-root.conf": "[root]\ntransient=yes\n"}, fault.BadImage, `etc/ostree/prepare-root.conf: root.transient: "yes"`, ""},
		{"transient twice", files{"etc/ostree/prepare-root.conf": "[root]\ntransient=1\ntransient-ro=1\n"}, fault.BadImage, "both", ""},
		{"key file", files{"etc/ostree/prepare-root.conf": "\n[root]\nnonsense\n"}, fault.BadImage, "etc/ostree/prepare-root.conf:3: neither", ""},
		{"key file without group", files{"etc/ostree/prepare-root.conf": "a=b\n"}, fault.BadImage, "prepare-root.conf:1: key before", ""},
		{"no sysroot", files{"sysroot/": "gone"}, fault.BadImage, "no directory /sysroot", "mkdir /sysroot"},
		{"no boot", files{"boot/": "gone", "etc/ostree/prepare-root.conf": "[composefs]\nenabled=no\n"}, fault.BadImage, "no directory /boot", ""},
		{"var is a link", files{"var/": "gone", "var": "-> sysroot/var"}, fault.BadImage, "/var is not a directory", ""},
		{"no os-release", files{"usr/lib/os-release": "gone"}, fault.BadImage, "os-release", "usr/lib/os-release"},
		{"os-release without name", files{"usr/lib/os-release": "VERSION=1\n"}, fault.BadImage, "PRETTY_NAME", ""},
		{"large file", files{"usr/lib/os-release": long}, fault.BadImage, "usr/lib/os-release has 262145 bytes", ""},
		{"not UTF-8", files{"usr/lib/os-release": "ID=\xff"}, fault.BadImage, "usr/lib/os-release is not UTF-8", ""},
		{"no policy", files{"etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=mls\n"}, fault.BadImage, `names the policy "mls"`, "disabled"},
		{"no policy type", files{"etc/selinux/config": "SELINUX=permissive\n"}, fault.BadImage, "SELINUXTYPE", ""},
		{"policy elsewhere", files{"etc/selinux/config": "SELINUX=permissive\nSELINUXTYPE=../../x\n"}, fault.BadImage, "not the name of a policy", ""},
		{"kargs.d", files{"usr/lib/bootc/kargs.d/a.toml": "kargs = [\"a\"]\n\nargs = []\n"}, fault.BadImage, "usr/lib/bootc/kargs.d/a.toml:3: args: unknown key", ""},
		{"kargs.d for others", files{"usr/lib/bootc/kargs.d/a.toml": "kargs = [1]\nmatch-architectures = ['vax']"}, fault.BadImage, "a.toml:1: kargs: not a list of strings", ""},
		{"kargs.d without kargs", files{"usr/lib/bootc/kargs.d/a.toml": ""}, fault.BadImage, "a.toml: kargs: missing", ""},
		{"kargs.d link", files{"usr/lib/bootc/kargs.d/a.toml": "-> b"}, fault.BadImage, "a.toml is a symbolic link to nothing", ""},
		{"kargs.d newline", files{"usr/lib/bootc/kargs.d/a.toml": "kargs = [\"a=\\\"\\nlinux /evil\\\"\"]"}, fault.BadImage, "a.toml:1: kargs: control character", ""},
		{"kargs.d quote", files{"usr/lib/bootc/kargs.d/a.toml": "kargs = ['a=\"b']"}, fault.BadImage, "quote without its partner", ""},
		{"install config", files{"usr/lib/bootc/install/a.toml": "[install]\nkargs = 3"}, fault.BadImage, "usr/lib/bootc/install/a.toml:2: install.kargs: not a list of strings", ""},
		{"bound image", files{"usr/lib/bootc/bound-images.d/a.image": "[Image]\nImage=x\n"}, fault.BadImage, "not a symbolic link", "links to"},
		{"bound image link", files{"usr/lib/bootc/bound-images.d/a.image": "-> x"}, fault.BadImage, "leads to x", ""},
		{"bound image kind", files{"usr/lib/bootc/bound-images.d/a.pod": "-> /usr/lib/os-release"}, fault.BadImage, "neither an .image nor", ""},
		{"bound image without image", files{"usr/lib/bootc/bound-images.d/a.image": "-> /usr/lib/os-release"}, fault.BadImage, "no Image in [Image]", ""},
		{"bound image auth", files{"usr/lib/bootc/bound-images.d/a.image": "-> /a", "a": "[Image]\nImage=x\nAuthFile=y\n"}, fault.BadImage, "AuthFile", ""},
		{"bound image specifier", files{"usr/lib/bootc/bound-images.d/a.image": "-> /a", "a": "[Image]\nImage=x%a\n"}, fault.BadImage, "specifier", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			image, err := Inspect(makeTree(t, minimal(), tt.files), "amd64")
			if err == nil {
				t.Fatalf("no error: %+v", image)
			}
			if fault.ClassOf(err) != tt.class || !strings.Contains(err.Error(), tt.want) || !strings.Contains(fault.HintOf(err), tt.hint) {
				t.Errorf("class %d, hint %q: %v", fault.ClassOf(err), fault.HintOf(err), err)
			}
		})
	}
	if _, err := Inspect(makeTree(t, minimal()), "vax"); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("unknown architecture: %v", err)
	}
	if _, err := Inspect(tree.NewLink("x"), "amd64"); fault.ClassOf(err) != fault.BadImage {
		t.Errorf("root is a link: %v", err)
	}
}

func TestInstallConfigErrors(t *testing.T) {
	for _, tt := range []struct{ content, want string }{
		{"install = 1", "a.toml:1: install: not a table"},
		{"[[install]]", "a.toml:1: install: not a table"},
		{"[install]\n[other]\nx=1", "a.toml:2: other: unknown key"},
		{"[install]\nkargs=[]\nkarg_deletes=[]", "a.toml:3: install.karg_deletes: unknown key"},
		{"[install]\nKargs=[]", "a.toml:2: install.Kargs: unknown key"},
		{"[install]\nmatch_architectures=['x86_64']", "a.toml:2: install.match_architectures: unknown key"},
		{"[install]\nmatch-architectures=['s390x']\nx=1", "a.toml:3: install.x: unknown key"},
		{"[install.filesystem]\nboot={}", "a.toml:2: install.filesystem.boot: unknown key"},
		{"[install.filesystem.root]\n\nlabel='x'", "a.toml:3: install.filesystem.root.label: unknown key"},
		{"[install]\nfilesystem = { root = { size = 1 } }", "a.toml:2: install.filesystem.root.size: unknown key"},
		{"[install.bootupd]\nx=1", "a.toml:2: install.bootupd.x: unknown key"},
		{"[install]\nroot-fs-type='zfs'", `a.toml:2: install.root-fs-type: "zfs" is none of xfs, ext4, btrfs`},
		{"install.filesystem.root.type='XFS'", "a.toml:1: install.filesystem.root.type"},
		{"[install]\nbootloader='lilo'", "a.toml:2: install.bootloader"},
		{"[install]\nblock=['luks']", `a.toml:2: install.block: "luks" is none of`},
		{"[install]\nblock='direct'", "a.toml:2: install.block: not a list of strings"},
		{"[install]\nkargs=[1]", "a.toml:2: install.kargs: not a list of strings"},
		{"[install]\nkargs=['']", "a.toml:2: install.kargs: empty kernel argument"},
		{"[install]\nstateroot='../x'", "a.toml:2: install.stateroot"},
		{"[install]\nstateroot=''", "a.toml:2: install.stateroot"},
		{"[install]\nstateroot=true", "a.toml:2: install.stateroot: not a string"},
		{"[install]\nroot-mount-spec='UUID=x init=/bin/sh'", "a.toml:2: install.root-mount-spec: space"},
		{"[install]\nbootupd.skip-boot-uuid='yes'", "a.toml:2: install.bootupd.skip-boot-uuid: not true or false"},
		{"[install]\n[install.ostree]\nbls-append-except-default=\"a\\n[core]\"", "a.toml:3: install.ostree.bls-append-except-default: control character"},
		{"[install]\nkargs = [", "a.toml:2: "},
		{"[install]\nkargs=[]\nkargs=[]", "a.toml:3: "},
		{"x = " + strings.Repeat("[", 30), "a.toml:1: nested too deep"},
	} {
		_, err := Inspect(makeTree(t, minimal(), files{"usr/lib/bootc/install/a.toml": tt.content}), "amd64")
		if err == nil || fault.ClassOf(err) != fault.BadImage || !strings.Contains(err.Error(), "usr/lib/bootc/install/"+tt.want) {
			t.Errorf("%q: %v", tt.content, err)
		}
	}
}
