package blueprints

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite docs/blueprint.md")

// TestDocs holds docs/blueprint.md to the code.
func TestDocs(t *testing.T) {
	const name = "../docs/blueprint.md"
	want := markdown(t)
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("docs/blueprint.md is not what the code says; go test ./blueprints -run TestDocs -update rewrites it (-want +got):\n%s", diff)
	}
}

const introduction = `<!-- Made from the code: go test ./blueprints -run TestDocs -update -->
# Blueprints

A blueprint says what the installed system is to have beyond its image: users,
files, services, kernel arguments. It is TOML or JSON, with the keys of
[osbuild's blueprints](https://osbuild.org/docs/user-guide/blueprint-reference/)
(schema of v1.32.0), so config files of bootc-image-builder work.

**Every key is applied or refused; none is ignored.** A refusal says why, and what to
write into the Containerfile instead. The verdict is the same for every type of disk,
and the same from ` + "`build`, `plan`, `inspect` and `config check`" + `.

` + "```toml" + `
[[customizations.user]]
name = "admin"
key = "ssh-ed25519 AAAA... admin@example.com"
groups = ["wheel"]

[customizations]
hostname = "host.example.com"

[customizations.services]
enabled = ["sshd"]
` + "```" + `

` + "```" + `
imgbuild config check config.toml
imgbuild --config config.toml registry.example.com/os:1
imgbuild config schema >blueprint.schema.json      # for editors
` + "```" + `

## Which files are read

1. Those given with ` + "`--config`" + `, by their endings .toml and .json; ` + "`-`" + ` is stdin, in either
   syntax. Without any: ` + "`/config.toml` or `/config.json`" + `, but not both.
2. From the image, the first of ` + "`config.json` and `config.toml` in `/usr/lib/image-builder/bootc`" + `,
   then in ` + "`/usr/lib/bootc-image-builder`" + `: of it only ` + "`customizations.filesystem` and\n   `customizations.disk`" + ` count, and these only where no file of yours has either of
   them. A warning names what else is in it.

A JSON file may be wrapped as ` + "`{\"blueprint\": {...}}`" + `, as older tools saved it. Files are
UTF-8 and at most 1 MiB.

## Several files

` + "`--config` may be repeated" + `. Tables are merged key by key, lists are joined (a text that is
there already is not added again), and of single values the later file's counts. Other
than that:

| key | |
|---|---|
| ` + "`user`, `group`, `firewall.zones`" + ` (by ` + "`name`), `filesystem` (by `mountpoint`)" + ` | entries of one name are merged as tables are |
| ` + "`files`, `directories` (by `path`)" + ` | the later entry replaces the earlier one |
| ` + "`kernel.append`" + ` | the arguments of all files, in their order; those of ` + "`--karg`" + ` come last |
| ` + "`disk`, `locale.languages`, `bootloader.grub2.terminal_*`" + ` | the later file's, as a whole |

## What is wrong

All problems are said at once, each with file, line and column, before an image is
fetched; what depends on the image, once it is known and before anything is made.
The exit code is 9, and 6 where all is well but something cannot be applied.
` + "`--ignore-unsupported`" + ` builds without that, with a warning at once and at the end.

## Users and groups

They come out as the image's own ` + "`useradd`" + `, ` + "`usermod`" + ` and ` + "`groupadd`" + ` would make them: by its
` + "`/etc/login.defs`" + `, ` + "`/etc/default/useradd`" + ` and ` + "`/etc/skel`" + `, groups first, then users, in the order
of the blueprint. A home is made unless ` + "`home`" + ` is empty; it has to be below ` + "`/var`" + `, where
` + "`/home`" + ` and ` + "`/root`" + ` lead. Backups and locks that the tools leave (` + "`/etc/passwd-`" + `, ` + "`/etc/.pwd.lock`" + `
and the like) are not made.

An account of the image is changed, in what the blueprint says of it; its uid stays.
` + "`groups`" + ` are all its supplementary groups from then on, and a warning names those that it leaves.
Accounts and groups that are not in ` + "`/etc`" + ` count as well: those of ` + "`/usr/lib/passwd`" + ` and ` + "`/usr/lib/group`" + `
(nss-altfiles), of userdb and of sysusers.d. Where one of them is to be changed or to get a
member, it is copied to ` + "`/etc`" + ` first.

A password is a hash of crypt(5), one of the locks ` + "`!`" + `, ` + "`!!`" + `, ` + "`*`" + ` and ` + "`!*`" + `, or plain text, which is hashed
by the ` + "`ENCRYPT_METHOD`" + ` of the image with a salt from the seed of the build; a warning says
that it was plain text. A new account without a password is locked until it gets one, and an
empty password locks one that exists.

## Settings

Each is written as its owner writes it. Accounts come first, then files and directories,
which may name them; services come last, so that a unit among the files can be enabled.

- **Services** are enabled, then disabled, then masked, as by ` + "`systemctl --root`" + `: by the ` + "`[Install]`" + ` sections
  of the image's units and drop-ins. Presets are left alone. A unit that is not in the image is
  an error, one without ` + "`[Install]`" + ` a warning.
- **Files** replace what is at their paths; a symbolic link there is replaced and not followed. A
  directory that is there gets the mode and the owners that are given.
- **The firewall** is firewalld's: zone files in ` + "`/etc/firewalld/zones`" + `, ports and services in those of the
  default zone.
- **Locales, keymaps and time zones** have to be in the image; a refusal names the package. Of
  ` + "`languages`" + ` the first is the system's. Time servers are those of chrony, and of systemd-timesyncd in a
  drop-in.
- **sshd** takes the first line of a keyword, so the drop-in comes before all others, and lines of
  ` + "`/etc`" + ` that come even before it are changed.
- **Certificates** become anchors, and are added to what ` + "`update-ca-trust`" + ` (` + "`/etc/pki/ca-trust/extracted`" + `) or
  ` + "`update-ca-certificates`" + ` (` + "`/etc/ssl/certs`" + `) made of those of the image. Other layouts are refused.
- **Scripts of the first boot** run one after the other when the network is up, in the first boot only,
  and the first one that fails ends it, unless it has ` + "`ignore_failure`" + `. One without ` + "`#!`" + ` is run by the shell.
- **Ignition** needs its dracut module in the initramfs and a GRUB configuration that asks for
  ` + "`/boot/ignition.firstboot`" + `; **FIPS** needs dracut's module ` + "`fips`" + ` in the initramfs.

## Where files may be

Directories below ` + "`/etc`; files below `/etc`, `/root`, `/usr/local/bin` and `/usr/local/sbin`" + `,
but not ` + "`/etc/fstab`, `/etc/shadow`, `/etc/passwd` and `/etc/group`. `--allow-paths PATH`" + ` adds
what is below a path; it has to be in ` + "`/etc` or `/var`" + `, as everything else of a running
system is its image's.

## Where it shows

What is applied is in the deployment's ` + "`/etc`, in `/var`, in `/boot`" + ` or on the kernel command line,
labelled by the image's SELinux policy; the image's own content never changes. So an upgrade
keeps it, as it keeps what an administrator changed. In an image with a unified kernel image,
or with a transient ` + "`/etc`" + `, none of it could take effect: it is refused there.

*Since* is the version of imgbuild that a key is applied since.
`

// markdown returns docs/blueprint.md.
func markdown(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(introduction)
	section := ""
	for _, k := range Keys() {
		if s := sectionOf(k.Path); s != section {
			section = s
			fmt.Fprintf(&b, "\n### %s\n\n| key | value | where it shows | since |\n|---|---|---|---|\n", s)
		}
		text, since := k.Text, k.Since
		if k.Refused {
			text, since = "**refused**: "+k.Text, "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", strings.TrimPrefix(k.Path, "customizations."), k.Type, text, since)
	}
	b.WriteString("\n## Instead of what is refused\n\nA refusal prints these lines with the values of the blueprint.\n")
	c, _, _ := problems(t, Options{}, Source{"refused.toml", readExample(t, "refused.toml")})
	for _, f := range refusals() {
		if f.instead == nil {
			continue
		}
		fmt.Fprintf(&b, "\n`%s`:\n\n```dockerfile\n%s\n```\n", f.path, strings.Join(f.instead(&c.Blueprint), "\n"))
	}
	return b.String()
}

// sectionOf returns the heading that a key stands under.
func sectionOf(path string) string {
	if rest, ok := strings.CutPrefix(path, "customizations."); ok {
		name, _, _ := strings.Cut(rest, ".")
		return "customizations." + strings.TrimSuffix(name, "[]")
	}
	if i := strings.IndexByte(path, '['); i >= 0 {
		return path[:i]
	}
	return "The file itself"
}
