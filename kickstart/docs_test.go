package kickstart

import (
	goflag "flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = goflag.Bool("update", false, "rewrite docs/kickstart.md")

const introduction = `<!-- Made from the code: go test ./kickstart -run TestDocs -update -->
# Kickstart files

` + "`imgbuild --type iso --kickstart FILE`" + `, or ` + "`installer.kickstart.contents`" + ` of a config,
tells imgbuild's installer what to do without being asked. The syntax is Anaconda's, as
pykickstart reads it: ` + "`ksvalidator`" + ` and imgbuild call the same files wrong. **What is
listed here is applied; everything else is refused when the medium is made**, with its
line and the reason, all at once; ` + "`imgbuild config check --type iso --kickstart FILE`" + ` says so
without an image. ` + "`--type bootc-installer`" + ` hands a kickstart to Anaconda,
which understands all of them.

` + "```" + `
lang en_US.UTF-8
timezone Europe/Berlin --utc
user --name=admin --groups=wheel --iscrypted --password=$6$...
sshkey --username=admin "ssh-ed25519 AAAA... admin@example.com"
ignoredisk --only-use=disk/by-id/nvme-EXAMPLE_1
clearpart --all
part /boot --fstype=ext4 --size=1024
part / --fstype=xfs --size=10240 --grow
%post --erroronfail
echo hello >/etc/motd
%end
reboot --eject
` + "```" + `

## What it means here

- The installer asks nothing **once there is ` + "`autopart` or `part`" + `**: these say what is to
  be on the disk. Without them the rest of the file is applied and the installer asks
  for the disk, and offers the one that is named.
- It takes the disk of ` + "`ignoredisk --only-use`, `part --ondisk`, `bootloader --boot-drive`" + `, or
  of ` + "`clearpart --drives`" + ` where that names one; names are those below /dev. They have to
  agree. ` + "`ignoredisk --drives`" + ` excludes disks.
- A disk that holds data is erased **only with ` + "`clearpart --all`" + `**. What is on it need not be
  anything known; ` + "`zerombr`" + ` adds nothing to that, and is refused without it.
- ` + "`autopart`" + ` is the layout that the image or imgbuild has, without /home and swap space;
  ` + "`--type=btrfs` and `--fstype`" + ` choose the root file system. The default of Anaconda, LVM, is
  not written: ` + "`--type=lvm`" + ` is refused. With ` + "`part`" + `, what the firmware boots by is added where
  it is missing, and of all partitions only / can grow. Sizes are MiB.
- ` + "`timezone` without `--utc`" + ` means that the machine's clock has local time, as with Anaconda.
- ` + "`keyboard --xlayouts`" + ` takes one layout without a variant; it names the keymap as well.
- ` + "`selinux`" + ` becomes an argument of the kernel, which goes before the image's configuration.
- ` + "`bootloader --location`" + ` is mbr: boot loaders go where the firmware looks for them.
- ` + "`--eject`" + ` adds nothing: a disc is ejected once its system is installed.
- A file on the medium can be read by everybody who has it: give passwords as hashes.

## Scripts

` + "`%pre`" + ` runs in the installer, whose programs are a shell and some tools of the image, before
the disk is touched. ` + "`%post`" + ` runs in the installed system as it will see itself, with its
file systems, /proc, /sys, /dev, /run and /tmp in place and /usr read-only; with
` + "`--nochroot`" + ` in the installer, where the system is at /mnt/sysroot and its physical root at
/mnt/sysimage. ` + "`--interpreter`, `--log` and `--erroronfail`" + ` are Anaconda's. What scripts make in
/etc and /var gets the SELinux label of the system's policy.

## Commands
`

func optionNames(s []option, applied bool) string {
	var list []string
	for _, o := range s {
		if (o.why == "") != applied {
			continue
		}
		names := strings.Join(o.names, "`, `")
		list = append(list, "`"+names+"`")
	}
	if len(list) == 0 {
		return "–"
	}
	return strings.ReplaceAll(strings.Join(list, ", "), "|", `\|`)
}

func markdown() string {
	var b strings.Builder
	b.WriteString(introduction)
	b.WriteString("\n| command | options | refused options |\n|---|---|---|\n")
	for _, s := range commands() {
		if s.why == "" {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.Join(append([]string{s.name}, s.aliases...), "`, `"), optionNames(s.options, true), optionNames(s.options, false))
		}
	}
	for _, s := range sections() {
		if s.why == "" {
			fmt.Fprintf(&b, "| `%s` | %s | – |\n", s.name, optionNames(s.options, true))
		}
	}
	b.WriteString("\n## Refused\n\n| command | why | instead |\n|---|---|---|\n")
	row := func(names, why, hint string) {
		if hint == "" {
			hint = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", names, why, hint)
	}
	row("`%include`, `%ksappend`", "a kickstart stands for itself", "put the lines of the file in its place")
	var names []string
	list := refusedCommands()
	for i, s := range list {
		names = append(names, "`"+s.name+"`")
		if i+1 == len(list) || list[i+1].why != s.why || list[i+1].hint != s.hint {
			row(strings.Join(names, ", "), s.why, s.hint)
			names = nil
		}
	}
	for _, s := range sections() {
		if s.why != "" {
			row("`"+s.name+"`", s.why, s.hint)
		}
	}
	return b.String()
}

// TestDocs holds docs/kickstart.md to the code.
func TestDocs(t *testing.T) {
	const name = "../docs/kickstart.md"
	want := markdown()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Errorf("docs/kickstart.md is not what the code says; go test ./kickstart -run TestDocs -update rewrites it (-want +got):\n%s", d)
	}
}
