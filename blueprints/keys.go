package blueprints

import (
	"reflect"
	"strings"

	"imgbuild/document"
)

// KeyInfo is what is said about a key of the schema.
type KeyInfo struct {
	Path    string // with [] after lists: customizations.user[].name
	Type    string // string, integer, boolean, size, ..., a list of them, or the words it may be
	Refused bool
	Text    string // where the effect shows, or why there is none
	Since   string // version of imgbuild, "" for what is refused
}

// applied says where each key takes effect, in the order of the types, and since
// which version. A key that is missing here is below one of refusals.
func applied() [][3]string {
	return [][3]string{
		{"name", "manifest-*.json names the blueprint", "0.1"},
		{"description", "none; it is for people", "0.1"},
		{"version", "manifest-*.json, beside the name", "0.1"},
		{"distro", "the build stops unless the image is of it (`ID-VERSION_ID` of os-release)", "0.2"},
		{"architecture", "the build stops unless it is the image's", "0.2"},
		{"customizations.hostname", "`/etc/hostname`", "0.2"},
		{"customizations.kernel.append", "kernel command line (`/proc/cmdline`), before the arguments of `--karg`", "0.1"},
		{"customizations.sshkey[].user", "as `user[].name`; the account is made where there is none", "0.2"},
		{"customizations.sshkey[].key", "as `user[].key`", "0.2"},
		{"customizations.user[].name", "`/etc/passwd`, `shadow`, `group`, `gshadow`, `subuid`, `subgid`; an account of the image is changed", "0.2"},
		{"customizations.user[].description", "`/etc/passwd` (GECOS)", "0.2"},
		{"customizations.user[].password", "`/etc/shadow`; plain text is hashed as the image's `login.defs` says, a hash is taken as it is, an empty text locks the password", "0.2"},
		{"customizations.user[].key", "`.ssh/authorized_keys` in the home, one key a line", "0.2"},
		{"customizations.user[].home", "`/etc/passwd`; the directory is made from `/etc/skel`", "0.2"},
		{"customizations.user[].shell", "`/etc/passwd`", "0.2"},
		{"customizations.user[].groups", "`/etc/group`, `/etc/gshadow`", "0.2"},
		{"customizations.user[].uid", "`/etc/passwd`; it cannot change that of an existing account", "0.2"},
		{"customizations.user[].gid", "`/etc/passwd`, the primary group", "0.2"},
		{"customizations.user[].expiredate", "`/etc/shadow`, in days since 1970-01-01", "0.2"},
		{"customizations.user[].force_password_reset", "`/etc/shadow`: the first login asks for a new password", "0.2"},
		{"customizations.group[].name", "`/etc/group`, `/etc/gshadow`", "0.2"},
		{"customizations.group[].gid", "`/etc/group`", "0.2"},
		{"customizations.timezone.timezone", "`/etc/localtime`", "0.2"},
		{"customizations.timezone.ntpservers", "the configuration of chrony or systemd-timesyncd, whichever the image has", "0.2"},
		{"customizations.locale.languages", "`/etc/locale.conf`: the first is `LANG`", "0.2"},
		{"customizations.locale.keyboard", "`/etc/vconsole.conf`, and the layout of X11", "0.2"},
		{"customizations.firewall.ports", "default zone of firewalld in `/etc/firewalld`", "0.2"},
		{"customizations.firewall.services.enabled", "default zone of firewalld", "0.2"},
		{"customizations.firewall.services.disabled", "default zone of firewalld", "0.2"},
		{"customizations.firewall.zones[].name", "`/etc/firewalld/zones`", "0.2"},
		{"customizations.firewall.zones[].sources", "the zone's file", "0.2"},
		{"customizations.services.enabled", "links in `/etc/systemd/system`, as `systemctl enable` makes them", "0.2"},
		{"customizations.services.disabled", "links in `/etc/systemd/system`, as `systemctl disable` leaves them", "0.2"},
		{"customizations.services.masked", "links to `/dev/null` in `/etc/systemd/system`", "0.2"},
		{"customizations.filesystem[].mountpoint", "`/`, `/boot` or a path below `/var`: the least size of what is there, or a file system of its own, with a mount unit", "0.2"},
		{"customizations.filesystem[].minsize", "size of its partition, at least; 1 GiB (`/boot`: 500 MiB) in any case", "0.2"},
		{"customizations.filesystem[].size", "the same, by its old name", "0.2"},
		{"customizations.disk.type", "the partition table", "0.2"},
		{"customizations.disk.minsize", "size of the disk, at least", "0.2"},
		{"customizations.disk.start_offset", "room in front of the first partition, behind the partition table", "0.2"},
		{"customizations.disk.sector_size", "the partition table, and file systems: 512 or 4096", "0.2"},
		{"customizations.disk.partitions[].type", "what is in the partition; `lvm` is refused", "0.2"},
		{"customizations.disk.partitions[].minsize", "size of the partition, at least", "0.2"},
		{"customizations.disk.partitions[].part_type", "the partition table; without it the type follows from the content", "0.2"},
		{"customizations.disk.partitions[].part_label", "the partition table (`/dev/disk/by-partlabel`)", "0.2"},
		{"customizations.disk.partitions[].part_uuid", "the partition table (`/dev/disk/by-partuuid`)", "0.2"},
		{"customizations.disk.partitions[].mountpoint", "a mount unit in `/etc/systemd/system`; what the image has there moves to the partition", "0.2"},
		{"customizations.disk.partitions[].label", "the file system (`/dev/disk/by-label`)", "0.2"},
		{"customizations.disk.partitions[].fs_type", "the file system; `swap` gets a swap unit", "0.2"},
		{"customizations.disk.partitions[].subvolumes[].name", "the subvolume", "0.2"},
		{"customizations.disk.partitions[].subvolumes[].mountpoint", "a mount unit", "0.2"},
		{"customizations.partitioning_mode", "`raw` is the layout of every disk; `lvm` and `auto-lvm` are refused", "0.2"},
		{"customizations.ignition.embedded.config", "a configuration for Ignition in the image's `/boot`", "0.2"},
		{"customizations.ignition.firstboot.url", "`/boot/ignition.firstboot` and the kernel command line of the first boot", "0.2"},
		{"customizations.ignition.firstboot.empty", "`/boot/ignition.firstboot`", "0.2"},
		{"customizations.directories[].path", "the directory", "0.2"},
		{"customizations.directories[].user", "its owner; root without", "0.2"},
		{"customizations.directories[].group", "its group; root without", "0.2"},
		{"customizations.directories[].mode", "its permissions; 0755 without", "0.2"},
		{"customizations.directories[].ensure_parents", "missing parents are made; without it, that is an error", "0.2"},
		{"customizations.files[].path", "the file", "0.2"},
		{"customizations.files[].user", "its owner; root without", "0.2"},
		{"customizations.files[].group", "its group; root without", "0.2"},
		{"customizations.files[].mode", "its permissions; 0644 without", "0.2"},
		{"customizations.files[].data", "its content", "0.2"},
		{"customizations.files[].uri", "its content, from `file://` on the machine that builds, or from `https://`", "0.2"},
		{"customizations.files[].sha256", "digest that the content at `uri` must have; required with `https://`. imgbuild's own key", "0.2"},
		{"customizations.fips", "`fips=1` on the kernel command line, and the crypto policy", "0.2"},
		{"customizations.cacerts.pem_certs", "anchors below `/etc`, and the bundles that programs read", "0.2"},
		{"customizations.firstboot.scripts[].type", "which of the other keys there are", "0.2"},
		{"customizations.firstboot.scripts[].name", "name of the service", "0.2"},
		{"customizations.firstboot.scripts[].ignore_failure", "whether the scripts after it run in any case", "0.2"},
		{"customizations.firstboot.scripts[].after", "`After=` of the service", "0.2"},
		{"customizations.firstboot.scripts[].before", "`Before=` of the service", "0.2"},
		{"customizations.firstboot.scripts[].contents", "a service that runs it once", "0.2"},
		{"customizations.firstboot.scripts[].cacerts", "as `cacerts.pem_certs`", "0.2"},
		{"customizations.firstboot.scripts[].command", "a service that runs it once", "0.2"},
		{"customizations.firstboot.scripts[].job_template_url", "a service that calls it once", "0.2"},
		{"customizations.firstboot.scripts[].host_config_key", "the same service", "0.2"},
		{"customizations.dnf.config.set_releasever", "`/etc/dnf/vars/releasever`", "0.2"},
		{"customizations.sshd.password_authentication", "`/etc/ssh/sshd_config.d` (`sshd -T`)", "0.2"},
		{"customizations.sshd.client_alive_interval", "`/etc/ssh/sshd_config.d`", "0.2"},
		{"customizations.sshd.permit_root_login", "`/etc/ssh/sshd_config.d`", "0.2"},
		{"customizations.sshd.kbd_interactive_authentication", "`/etc/ssh/sshd_config.d`", "0.2"},
		{"customizations.bootloader.grub2.terminal_input", "`/boot/grub2/console.cfg`", "0.2"},
		{"customizations.bootloader.grub2.terminal_output", "`/boot/grub2/console.cfg`", "0.2"},
		{"customizations.bootloader.grub2.serial", "`/boot/grub2/console.cfg`", "0.2"},
	}
}

// Keys returns all keys of the schema in the order of the types.
func Keys() []KeyInfo {
	rows := map[string][3]string{}
	for _, row := range append(applied(), appliedToMedia()...) {
		rows[row[0]] = row
	}
	var list []KeyInfo
	eachKey(reflect.TypeFor[Blueprint](), "", func(path string, t reflect.Type, words []string) {
		k := KeyInfo{Path: path, Type: typeName(t)}
		if len(words) > 0 {
			k.Type = strings.Join(words, ", ")
		}
		if row, ok := rows[path]; ok {
			k.Text, k.Since = row[1], row[2]
		} else if f := refusedAt(path); f != nil {
			k.Refused, k.Text = true, f.why
		}
		list = append(list, k)
	})
	return list
}

// refusedAt returns the refusal that a key is under, or nil.
func refusedAt(path string) *refusal {
	plain := strings.ReplaceAll(path, "[]", "")
	for _, f := range append(refusals(), lvmKeys()...) {
		if plain == f.path || strings.HasPrefix(plain, f.path+".") {
			return &f
		}
	}
	return nil
}

// eachKey calls fn for every key that has a value of its own, no table.
func eachKey(t reflect.Type, path string, fn func(path string, t reflect.Type, words []string)) {
	for _, k := range document.Keys(t) {
		at, inner := k.Name, indirect(k.Type)
		if path != "" {
			at = path + "." + k.Name
		}
		if inner.Kind() == reflect.Slice && isTable(indirect(inner.Elem())) {
			at, inner = at+"[]", indirect(inner.Elem())
		}
		if isTable(inner) {
			eachKey(inner, at, fn)
			continue
		}
		fn(at, inner, k.Enum)
	}
}

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// isTable tells whether values of a type are tables.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[Owner]()
}

// typeName names the values of a type for people.
func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Size]():
		return "size"
	case t == reflect.TypeFor[Owner]():
		return "name or number"
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case t.Kind() == reflect.Int64:
		return "integer"
	case t.Kind() == reflect.Bool:
		return "boolean"
	}
	return "string"
}
