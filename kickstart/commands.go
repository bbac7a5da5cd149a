package kickstart

import (
	"fmt"
	"path"
	"strings"
)

// spec is what is known of a command.
type spec struct {
	name      string
	aliases   []string
	options   []option
	args      int      // words without hyphens, at most
	once      bool     // whether a second one would undo the first
	conflicts []string // commands before it
	check     check    // of the words together, nil without
	why, hint string   // why all of it is refused
}

// check returns what pykickstart has against a command, "" for nothing.
type check func(p *parser, c *Command) string

func (f check) of(p *parser, c *Command) string {
	if f == nil {
		return ""
	}
	return f(p, c)
}

// Reasons that several options and commands share.
const (
	whyLUKS    = "imgbuild writes no LUKS"
	whyImage   = "what is installed is the container image"
	whyNet     = "the network is the image's business"
	whyWhole   = "the disk is erased and partitioned anew"
	whyText    = "the installer has one kind of screen, text on all consoles"
	whyDisks   = "the installer uses the disks that its kernel finds"
	whyAnaOnly = "is about Anaconda"
	hintNet    = "a profile of NetworkManager is a file: customizations.files"
	hintDrop   = "drop the line"
)

// needs returns a check that wants one word.
func needs(what string) check {
	return func(_ *parser, c *Command) string {
		if len(c.Args) == 0 {
			return what + " is missing"
		}
		return ""
	}
}

// required marks options without which a command is none.
func required(o option) option {
	o.required = true
	return o
}

// luks are the options about encryption.
func luks() []option {
	return []option{
		refuse(whyLUKS, flag, "--encrypted"), refuse(whyLUKS, text, "--passphrase"), refuse(whyLUKS, text, "--escrowcert"),
		refuse(whyLUKS, flag, "--backuppassphrase"), refuse(whyLUKS, text, "--cipher"), refuse(whyLUKS, text, "--luks-version"),
		refuse(whyLUKS, text, "--pbkdf"), refuse(whyLUKS, integer, "--pbkdf-memory"), refuse(whyLUKS, integer, "--pbkdf-time"),
		refuse(whyLUKS, integer, "--pbkdf-iterations"), refuse(whyLUKS, text, "--hw-passphrase"),
	}
}

// luksTogether is what pykickstart has against options of encryption.
func luksTogether(c *Command) string {
	if n, m := c.number("--pbkdf-time"), c.number("--pbkdf-iterations"); n != nil && m != nil && *n != 0 && *m != 0 {
		return "--pbkdf-time and --pbkdf-iterations exclude each other"
	}
	if c.text("--hw-passphrase") != "" && (!c.has("--encrypted") || !strings.HasPrefix(c.text("--luks-version"), "luks2-")) {
		return "--hw-passphrase is for LUKS2 with OPAL only"
	}
	return ""
}

// commands lists all commands of pykickstart's newest syntax: first those that are
// understood.
func commands() []spec {
	list := append(systemCommands(), storageCommands()...)
	return append(list, refusedCommands()...)
}

// systemCommands are about the installed system.
func systemCommands() []spec {
	return []spec{
		{name: "user", check: onceEach("user", "--name"), options: []option{
			required(apply(text, "--name")), apply(text, "--homedir"), apply(flag, "--iscrypted"), apply(flag, "--plaintext"), apply(text, "--password"),
			apply(text, "--shell"), apply(integer, "--uid"), apply(integer, "--gid"), apply(flag, "--lock"), apply(text, "--gecos"), apply(list, "--groups"),
		}},
		{name: "group", check: onceEach("group", "--name"), options: []option{required(apply(text, "--name")), apply(integer, "--gid")}},
		{name: "rootpw", args: 1, once: true, options: []option{
			apply(flag, "--iscrypted"), apply(flag, "--plaintext"), apply(flag, "--lock"), apply(flag, "--allow-ssh"),
		}, check: func(_ *parser, c *Command) string {
			if (len(c.Args) == 0 || c.Args[0] == "") && !c.has("--lock") {
				return "the password is missing"
			}
			return ""
		}},
		{name: "sshkey", args: 1, check: needs("the key"), options: []option{required(apply(text, "--username"))}},
		{name: "lang", args: 1, once: true, check: needs("the locale"), options: []option{apply(list, "--addsupport")}},
		{name: "keyboard", args: 1, once: true, options: []option{
			apply(text, "--vckeymap"), apply(list, "--xlayouts"), refuse("the image's desktop has its own ways to switch layouts", list, "--switch"),
		}, check: func(_ *parser, c *Command) string {
			if len(c.Args) == 0 && c.text("--vckeymap") == "" && len(c.list("--xlayouts")) == 0 {
				return "names neither a keymap nor layouts"
			}
			return ""
		}},
		{name: "timezone", args: 1, once: true, options: []option{
			apply(flag, "--utc", "--isUtc"), apply(list, "--ntpservers"),
			refuseHint("which program sets the clock is the image's business", "services --disabled=chronyd", flag, "--nontp"),
		}, check: func(_ *parser, c *Command) string {
			if len(c.Args) == 0 && len(c.options) == 0 {
				return "says nothing"
			}
			if c.has("--nontp") && len(c.list("--ntpservers")) > 0 {
				return "--nontp and --ntpservers exclude each other"
			}
			return ""
		}},
		{name: "timesource", options: []option{
			apply(text, "--ntp-server"), refuse("a pool is no key of a blueprint", text, "--ntp-pool"),
			refuseHint("which program sets the clock is the image's business", "services --disabled=chronyd", flag, "--ntp-disable"),
			refuse("a blueprint's servers have no authentication", flag, "--nts"),
		}, check: func(_ *parser, c *Command) string {
			n := 0
			for _, o := range []string{"--ntp-server", "--ntp-pool"} {
				if c.text(o) != "" {
					n++
				}
			}
			if c.has("--ntp-disable") {
				n++
			}
			if n != 1 {
				return "takes exactly one of --ntp-server, --ntp-pool and --ntp-disable"
			}
			return ""
		}},
		{name: "network", options: networkOptions(), check: checkNetwork},
		{name: "services", once: true, options: []option{apply(list, "--disabled"), apply(list, "--enabled")}, check: func(_ *parser, c *Command) string {
			if len(c.list("--disabled"))+len(c.list("--enabled")) == 0 {
				return "names no service"
			}
			return ""
		}},
		{name: "firewall", once: true, options: []option{
			apply(flag, "--disabled", "--disable"), apply(flag, "--enabled", "--enable"), apply(appends, "--port"),
			refuseHint("a blueprint has no interfaces in zones", "customizations.firewall.zones takes sources", appends, "--trust"),
			apply(appends, "--service"), apply(flag, "--ftp"), apply(flag, "--http"), apply(flag, "--smtp"), apply(flag, "--ssh"),
			apply(appends, "--remove-service"), apply(flag, "--use-system-defaults"),
		}},
		{name: "selinux", once: true, options: []option{apply(flag, "--disabled"), apply(flag, "--enforcing"), apply(flag, "--permissive")}},
		{name: "reboot", aliases: []string{"poweroff", "shutdown", "halt"}, once: true, options: []option{
			apply(flag, "--eject"), refuse("the machine starts through its firmware, so that its boot entry is proved", flag, "--kexec"),
		}},
	}
}

func refuseHint(why, hint string, k kind, names ...string) option {
	o := refuse(why, k, names...)
	o.hint = hint
	return o
}

// onceEach returns a check that wants the option to be different in each command.
func onceEach(command, option string) check {
	return func(p *parser, c *Command) string {
		return p.twice(command+" "+c.text(option), c.Line, quoteShort(c.text(option)))
	}
}

// twice returns a message where the key was there before.
func (p *parser) twice(key string, line int, what string) string {
	key = "\x00" + key // no command has this name
	if first := p.seen[key]; first > 0 {
		return fmt.Sprintf("%s is in line %d already", what, first)
	}
	p.seen[key] = line
	return ""
}

// networkOptions are those of network, of which one is applied.
func networkOptions() []option {
	list := []option{apply(text, "--hostname")}
	no := func(k kind, names ...string) {
		for _, n := range names {
			list = append(list, refuseHint(whyNet, hintNet, k, n))
		}
	}
	for _, o := range []option{
		among("--bootproto", "dhcp", "bootp", "static", "query", "ibft"),
		among("--bindto", "mac"),
	} {
		o.why, o.hint = whyNet, hintNet
		list = append(list, o)
	}
	no(boolean, "--onboot")
	no(flag, "--nodns", "--notksdevice", "--noipv4", "--noipv6", "--activate", "--nodefroute", "--no-activate", "--ipv4-ignore-auto-dns", "--ipv6-ignore-auto-dns")
	no(text, "--dhcpclass", "--device", "--essid", "--ethtool", "--gateway", "--ip", "--mtu", "--nameserver", "--netmask", "--wepkey", "--ipv6",
		"--wpakey", "--bondslaves", "--bondopts", "--vlanid", "--ipv6gateway", "--teamslaves", "--teamconfig", "--interfacename",
		"--bridgeslaves", "--bridgeopts", "--ipv4-dns-search", "--ipv6-dns-search")
	return list
}

// checkNetwork is what pykickstart has against options of network together.
func checkNetwork(p *parser, c *Command) string {
	device := c.text("--device")
	for _, o := range []string{"--ipv4-dns-search", "--ipv6-dns-search", "--ipv4-ignore-auto-dns", "--ipv6-ignore-auto-dns"} {
		if device == "" && c.has(o) && (c.text(o) != "" || strings.HasSuffix(o, "dns") && strings.Contains(o, "ignore")) {
			return o + " is for a --device"
		}
	}
	if c.text("--bindto") == "mac" && c.text("--vlanid") != "" && c.text("--bondopts") == "" {
		return "--bindto=mac is not for a VLAN"
	}
	if opts := c.text("--bridgeopts"); opts != "" {
		if c.text("--bridgeslaves") == "" {
			return "--bridgeopts is for --bridgeslaves"
		}
		for _, o := range strings.Split(opts, ",") {
			if _, v, ok := strings.Cut(o, "="); !ok || v == "" || strings.Contains(v, "=") {
				return "--bridgeopts is not a list of KEY=VALUE"
			}
		}
	}
	if message := p.twice("network "+device, c.Line, "the device "+quoteShort(device)); message != "" {
		return message
	}
	return ""
}

// storageCommands are about disks.
func storageCommands() []spec {
	return []spec{
		{name: "ignoredisk", once: true, options: []option{apply(list, "--drives"), apply(list, "--only-use")}, check: func(_ *parser, c *Command) string {
			if (len(c.list("--drives")) > 0) == (len(c.list("--only-use")) > 0) {
				return "takes one of --drives and --only-use"
			}
			return ""
		}},
		{name: "clearpart", once: true, options: []option{
			apply(flag, "--all"), apply(flag, "--initlabel"), apply(flag, "--none"), apply(text, "--disklabel"), apply(list, "--drives"),
			refuseHint(whyWhole+": partitions of other systems do not stay", "clearpart --all", flag, "--linux"),
			refuseHint(whyWhole, "clearpart --all", list, "--list"), refuse("is about disks of s390x", flag, "--cdl"),
		}},
		{name: "zerombr"},
		{name: "autopart", once: true, conflicts: []string{"part", "raid", "volgroup", "logvol", "reqpart", "stratispool", "stratisfs"}, options: append(luks(),
			apply(flag, "--nolvm"), autopartType(), apply(text, "--fstype"), apply(flag, "--nohome"), apply(flag, "--noswap"),
			refuseHint("GRUB reads its configuration from a /boot that it can be sure of", "part lays out the disk without one", flag, "--noboot"),
			refuse("swap space as large as the memory is known by the machine only", flag, "--hibernation")), check: checkAutopart},
		{name: "part", aliases: []string{"partition"}, args: 1, conflicts: []string{"autopart", "mount"}, options: append(luks(),
			apply(flag, "--asprimary"), apply(text, "--fstype", "--type"), apply(flag, "--grow"), apply(integer, "--size"), apply(text, "--ondisk", "--ondrive"),
			apply(text, "--fsoptions"), apply(text, "--label"),
			refuse("a partition that grows takes all that is left", integer, "--maxsize"),
			refuse(whyWhole, flag, "--noformat"), refuse(whyWhole, text, "--onpart", "--usepart"), refuse(whyWhole, flag, "--resize"),
			refuseHint("the firmware's numbers say nothing to the kernel", "--ondisk", text, "--onbiosdisk"),
			refuseHint("the size is to be known when the medium is made", "--size", flag, "--recommended"),
			refuseHint("the size is to be known when the medium is made", "--size", flag, "--hibernation"),
			refuse("imgbuild formats by itself, not by mkfs", text, "--fsprofile"), refuse("imgbuild formats by itself, not by mkfs", text, "--mkfsoptions"),
		), check: checkPart},
		{name: "bootloader", once: true, options: []option{
			apply(text, "--append"), among("--location", "mbr", "partition", "none", "boot"), apply(text, "--boot-drive"),
			refuse("GRUB's menu has no password", text, "--password"), refuse("GRUB's menu has no password", flag, "--iscrypted"),
			refuse("GRUB's menu has no password", text, "--md5pass"), refuseHint("one disk is installed", "--boot-drive", list, "--driveorder"),
			refuse("the menu is the image's", integer, "--timeout"), refuse("there is one system to start", text, "--default"),
			refuse("the entry of the firmware goes first, as with bootc install", flag, "--leavebootorder"),
			refuse("the boot loader is the image's", flag, "--extlinux"), refuse("the boot loader is the image's", flag, "--sdboot"),
			refuse("without a boot loader the disk would not start", flag, "--disabled"),
			refuse("the boot loaders that the image brings are all installed", flag, "--nombr"),
		}, check: func(_ *parser, c *Command) string {
			switch {
			case strings.Contains(c.text("--boot-drive"), ","):
				return "--boot-drive names one disk"
			case c.has("--sdboot") && c.has("--extlinux"):
				return "--sdboot and --extlinux exclude each other"
			}
			return ""
		}},
	}
}

// autopartType is --type of autopart.
func autopartType() option {
	o := among("--type", "lvm", "btrfs", "plain", "partition", "thinp", "stratis")
	o.fold = true
	return o
}

// checkAutopart is what pykickstart has against options of autopart together.
func checkAutopart(_ *parser, c *Command) string {
	typ := strings.ToLower(c.text("--type"))
	switch {
	case c.text("--fstype") == "btrfs":
		return "btrfs is a --type, not an --fstype"
	case typ == "btrfs" && c.text("--fstype") != "":
		return "--fstype is not for --type=btrfs"
	case c.has("--hibernation") && c.has("--noswap"):
		return "--hibernation and --noswap exclude each other"
	case typ == "stratis":
		for _, o := range []string{"--luks-version", "--pbkdf", "--hw-passphrase", "--escrowcert", "--cipher", "--fstype"} {
			if c.text(o) != "" {
				return o + " is not for --type=stratis"
			}
		}
		if c.has("--backuppassphrase") {
			return "--backuppassphrase is not for --type=stratis"
		}
	}
	return luksTogether(c)
}

// checkPart is what pykickstart has against options of part together.
func checkPart(p *parser, c *Command) string {
	if len(c.Args) == 0 {
		return "the mount point is missing"
	}
	if where := c.Args[0]; strings.HasPrefix(where, "/") {
		c.Args[0] = path.Clean(where)
	}
	max := c.number("--maxsize")
	size := c.number("--size")
	switch {
	case c.text("--fstype") == "tmpfs" && (c.has("--grow") || max != nil && *max != 0):
		return "a tmpfs neither grows nor has a --maxsize"
	case c.has("--resize") && c.text("--onpart") == "":
		return "--resize is for --onpart"
	case c.has("--resize") && (size == nil || *size == 0):
		return "--resize needs a --size"
	case c.has("--noformat") && c.text("--mkfsoptions") != "":
		return "--mkfsoptions does nothing with --noformat"
	case c.text("--fsprofile") != "" && c.text("--mkfsoptions") != "":
		return "--fsprofile and --mkfsoptions exclude each other"
	}
	if c.Args[0] != "swap" {
		if message := p.twice("part "+c.Args[0], c.Line, quoteShort(c.Args[0])); message != "" {
			return message
		}
	}
	return luksTogether(c)
}
