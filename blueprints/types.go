package blueprints

// The types are the whole schema of osbuild's blueprints (github.com/osbuild/blueprint
// v1.32.0, package blueprint), the keys that imgbuild refuses included, so that a
// mistyped key is told from one that cannot be applied. The tag `key` has the
// name that a key has in TOML and JSON. Where a text may not be empty, the empty
// text is an absent key; pointers tell both apart.

// Blueprint is what a config file asks for.
type Blueprint struct {
	Name           string          `key:"name"`
	Description    string          `key:"description"`
	Version        string          `key:"version"`
	Distro         string          `key:"distro"`
	Architecture   string          `key:"architecture"`
	Packages       []Package       `key:"packages"`
	Modules        []Package       `key:"modules"`
	EnabledModules []EnabledModule `key:"enabled_modules"`
	Groups         []PackageGroup  `key:"groups"`
	Containers     []Container     `key:"containers"`
	Customizations Customizations  `key:"customizations"`
}

// Package is an RPM package, or a module of that name.
type Package struct {
	Name    string `key:"name,required"`
	Version string `key:"version"`
}

// EnabledModule is a stream of a module of RPM packages.
type EnabledModule struct {
	Name   string `key:"name,required"`
	Stream string `key:"stream"`
}

// PackageGroup is a group of RPM packages.
type PackageGroup struct {
	Name string `key:"name,required"`
}

// Container is a container image to embed.
type Container struct {
	Source       string `key:"source,required"`
	Name         string `key:"name"`
	TLSVerify    *bool  `key:"tls-verify"`
	LocalStorage bool   `key:"local-storage"`
}

// Customizations are the changes to the system.
type Customizations struct {
	Hostname           *string            `key:"hostname"`
	Kernel             *Kernel            `key:"kernel"`
	SSHKey             []SSHKey           `key:"sshkey"`
	User               []User             `key:"user" merge:"by=name"`
	Group              []Group            `key:"group" merge:"by=name"`
	Timezone           *Timezone          `key:"timezone"`
	Locale             *Locale            `key:"locale"`
	Firewall           *Firewall          `key:"firewall"`
	Services           *Services          `key:"services"`
	Filesystem         []Filesystem       `key:"filesystem" merge:"by=mountpoint"`
	Disk               *Disk              `key:"disk" merge:"replace"`
	InstallationDevice string             `key:"installation_device"`
	PartitioningMode   string             `key:"partitioning_mode" enum:"raw lvm auto-lvm"`
	FDO                *FDO               `key:"fdo"`
	OpenSCAP           *OpenSCAP          `key:"openscap"`
	Ignition           *Ignition          `key:"ignition"`
	Directories        []Directory        `key:"directories" merge:"last=path"`
	Files              []File             `key:"files" merge:"last=path"`
	Repositories       []Repository       `key:"repositories"`
	FIPS               *bool              `key:"fips"`
	Installer          *Installer         `key:"installer"`
	RPM                *RPM               `key:"rpm"`
	RHSM               *RHSM              `key:"rhsm"`
	CACerts            *CACerts           `key:"cacerts"`
	ContainersStorage  *ContainersStorage `key:"containers-storage"`
	Firstboot          *Firstboot         `key:"firstboot"`
	DNF                *DNF               `key:"dnf"`
	ISO                *ISO               `key:"iso"`
	SSHD               *SSHD              `key:"sshd"`
	Bootloader         *Bootloader        `key:"bootloader"`
}

// Kernel is about the kernel and its command line.
type Kernel struct {
	Name   string `key:"name"`
	Append string `key:"append" merge:"join"` // split by SplitKargs
}

// SSHKey is the old way to give a user a key.
type SSHKey struct {
	User string `key:"user,required"`
	Key  string `key:"key,required"`
}

// User is an account to make or to change.
type User struct {
	Name               string   `key:"name,required"`
	Description        *string  `key:"description"`
	Password           *string  `key:"password"` // plain or hashed as in shadow(5)
	Key                *string  `key:"key"`      // lines of authorized_keys
	Home               *string  `key:"home"`
	Shell              *string  `key:"shell"`
	Groups             []string `key:"groups"`
	UID                *int64   `key:"uid"`
	GID                *int64   `key:"gid"`
	ExpireDate         *int64   `key:"expiredate"` // days since 1970-01-01
	ForcePasswordReset *bool    `key:"force_password_reset"`
}

// Group is a group to make.
type Group struct {
	Name string `key:"name,required"`
	GID  *int64 `key:"gid"`
}

// Timezone is the local time.
type Timezone struct {
	Timezone   *string  `key:"timezone"`
	NTPServers []string `key:"ntpservers"`
}

// Locale is the language and the keyboard.
type Locale struct {
	Languages []string `key:"languages" merge:"replace"`
	Keyboard  *string  `key:"keyboard"`
}

// Firewall is what firewalld lets through.
type Firewall struct {
	Ports    []string          `key:"ports"` // PORT:PROTOCOL
	Services *FirewallServices `key:"services"`
	Zones    []FirewallZone    `key:"zones" merge:"by=name"`
}

// FirewallServices are services of firewalld.
type FirewallServices struct {
	Enabled  []string `key:"enabled"`
	Disabled []string `key:"disabled"`
}

// FirewallZone binds sources to a zone of firewalld.
type FirewallZone struct {
	Name    *string  `key:"name"`
	Sources []string `key:"sources"`
}

// Services are units of systemd.
type Services struct {
	Enabled  []string `key:"enabled"`
	Disabled []string `key:"disabled"`
	Masked   []string `key:"masked"`
}

// Ignition is about the first boot of images that configure themselves by
// Ignition.
type Ignition struct {
	Embedded  *IgnitionEmbedded  `key:"embedded"`
	FirstBoot *IgnitionFirstBoot `key:"firstboot"`
}

// IgnitionEmbedded is a configuration of Ignition.
type IgnitionEmbedded struct {
	Config string `key:"config"` // JSON, in base64
}

// IgnitionFirstBoot says where Ignition gets its configuration.
type IgnitionFirstBoot struct {
	URL   string `key:"url"`
	Empty bool   `key:"empty"`
}

// Directory is a directory to make.
type Directory struct {
	Path          string `key:"path,required"`
	User          *Owner `key:"user"`
	Group         *Owner `key:"group"`
	Mode          string `key:"mode"` // three octal digits, perhaps after a 0
	EnsureParents bool   `key:"ensure_parents"`
}

// File is a file to write.
type File struct {
	Path   string `key:"path,required"`
	User   *Owner `key:"user"`
	Group  *Owner `key:"group"`
	Mode   string `key:"mode"` // three octal digits, perhaps after a 0
	Data   string `key:"data"`
	URI    string `key:"uri"`
	SHA256 string `key:"sha256"` // of the content at URI; imgbuild's own key
}

// Owner is a user or a group, by name or number.
type Owner struct {
	Name string // "" for a number
	ID   uint32
}

// SSHD are settings of the OpenSSH server.
type SSHD struct {
	PasswordAuthentication       *bool  `key:"password_authentication"`
	ClientAliveInterval          *int64 `key:"client_alive_interval"` // seconds
	PermitRootLogin              string `key:"permit_root_login"`
	KbdInteractiveAuthentication *bool  `key:"kbd_interactive_authentication"`
}

// CACerts are certificate authorities to trust.
type CACerts struct {
	PEMCerts []string `key:"pem_certs"`
}

// Bootloader is about the boot loader of the disk.
type Bootloader struct {
	Grub2 *Grub2 `key:"grub2"`
}

// Grub2 is where GRUB's menu is shown.
type Grub2 struct {
	TerminalInput  []string `key:"terminal_input" merge:"replace"`
	TerminalOutput []string `key:"terminal_output" merge:"replace"`
	Serial         *string  `key:"serial"` // GRUB's command serial with its arguments
}
