package blueprints

// The types of this file are of customizations that imgbuild refuses.

// FDO is about FIDO device onboarding.
type FDO struct {
	ManufacturingServerURL  string `key:"manufacturing_server_url"`
	DiunPubKeyInsecure      string `key:"diun_pub_key_insecure"`
	DiunPubKeyHash          string `key:"diun_pub_key_hash"`
	DiunPubKeyRootCerts     string `key:"diun_pub_key_root_certs"`
	DiMfgStringTypeMacIface string `key:"di_mfg_string_type_mac_iface"`
}

// OpenSCAP is about hardening by a security profile.
type OpenSCAP struct {
	DataStream    string                 `key:"datastream"`
	ProfileID     string                 `key:"profile_id"`
	Tailoring     *OpenSCAPTailoring     `key:"tailoring"`
	JSONTailoring *OpenSCAPJSONTailoring `key:"json_tailoring"`
	PolicyID      string                 `key:"policy_id"`
}

// OpenSCAPTailoring are rules added to a profile and taken from it.
type OpenSCAPTailoring struct {
	Selected   []string `key:"selected"`
	Unselected []string `key:"unselected"`
}

// OpenSCAPJSONTailoring is a tailoring in a file of the image.
type OpenSCAPJSONTailoring struct {
	ProfileID string `key:"profile_id"`
	Filepath  string `key:"filepath"`
}

// Repository is a repository of RPM packages.
type Repository struct {
	ID             string   `key:"id,required"`
	BaseURLs       []string `key:"baseurls"`
	GPGKeys        []string `key:"gpgkeys"`
	Metalink       string   `key:"metalink"`
	Mirrorlist     string   `key:"mirrorlist"`
	Name           string   `key:"name"`
	Priority       *int64   `key:"priority"`
	Enabled        *bool    `key:"enabled"`
	GPGCheck       *bool    `key:"gpgcheck"`
	RepoGPGCheck   *bool    `key:"repo_gpgcheck"`
	SSLVerify      *bool    `key:"sslverify"`
	ModuleHotfixes *bool    `key:"module_hotfixes"`
	Filename       string   `key:"filename"`
	InstallFrom    bool     `key:"install_from"`
}

// Installer is about Anaconda, on installation media.
type Installer struct {
	Unattended   bool                 `key:"unattended"`
	SudoNopasswd []string             `key:"sudo-nopasswd"`
	Kickstart    *Kickstart           `key:"kickstart"`
	Modules      *InstallerModules    `key:"modules"`
	Bootloader   *InstallerBootloader `key:"bootloader"`
	Payload      *InstallerPayload    `key:"payload"`
	Wipe         bool                 `key:"wipe"` // installs onto disks that hold data; imgbuild's own key
}

// Kickstart is a kickstart file for Anaconda.
type Kickstart struct {
	Contents string `key:"contents"`
}

// InstallerModules are modules of Anaconda.
type InstallerModules struct {
	Enable  []string `key:"enable"`
	Disable []string `key:"disable"`
}

// InstallerBootloader is about the boot loader of installation media.
type InstallerBootloader struct {
	Grub2 *InstallerGrub2 `key:"grub2"`
}

// InstallerGrub2 is about the menu of installation media.
type InstallerGrub2 struct {
	MenuTimeout *int64 `key:"menu-timeout"` // seconds
}

// InstallerPayload is what installation media install beside the image.
type InstallerPayload struct {
	Flatpaks *Flatpaks `key:"flatpaks"`
}

// Flatpaks are the flatpaks on installation media.
type Flatpaks struct {
	Force []Flatpak `key:"force"`
}

// Flatpak are flatpaks of one registry.
type Flatpak struct {
	Registry   *FlatpakRegistry `key:"registry"`
	References []string         `key:"references"`
}

// FlatpakRegistry is a registry of flatpaks.
type FlatpakRegistry struct {
	RemoteName string `key:"remote_name"`
	URL        string `key:"url"`
}

// RPM is about the database of RPM packages.
type RPM struct {
	ImportKeys *RPMImportKeys `key:"import_keys"`
}

// RPMImportKeys are files of the image with keys to import.
type RPMImportKeys struct {
	Files []string `key:"files"`
}

// RHSM is about Red Hat's subscription manager.
type RHSM struct {
	Config *RHSMConfig `key:"config"`
}

// RHSMConfig is the configuration of the subscription manager and its plugins.
type RHSMConfig struct {
	DNFPlugins          *RHSMPlugins `key:"dnf_plugins"`
	SubscriptionManager *RHSMManager `key:"subscription_manager"`
}

// RHSMPlugins are plugins of DNF.
type RHSMPlugins struct {
	ProductID           *RHSMPlugin `key:"product_id"`
	SubscriptionManager *RHSMPlugin `key:"subscription_manager"`
}

// RHSMPlugin is a plugin of DNF.
type RHSMPlugin struct {
	Enabled *bool `key:"enabled"`
}

// RHSMManager is the file rhsm.conf.
type RHSMManager struct {
	RHSM      *RHSMManagerRHSM  `key:"rhsm"`
	RHSMCertd *RHSMManagerCertd `key:"rhsmcertd"`
}

// RHSMManagerRHSM is the section [rhsm].
type RHSMManagerRHSM struct {
	ManageRepos          *bool `key:"manage_repos"`
	AutoEnableYumPlugins *bool `key:"auto_enable_yum_plugins"`
}

// RHSMManagerCertd is the section [rhsmcertd].
type RHSMManagerCertd struct {
	AutoRegistration *bool `key:"auto_registration"`
}

// ContainersStorage is where embedded containers are kept.
type ContainersStorage struct {
	DestinationPath *string `key:"destination-path"`
}

// Firstboot are programs for the first boot.
type Firstboot struct {
	Scripts []FirstbootScript `key:"scripts"`
}

// FirstbootScript is a program for the first boot. Which keys beyond the first
// group it may have depends on its type.
type FirstbootScript struct {
	Type          string   `key:"type,required" enum:"custom satellite aap"`
	Name          string   `key:"name"`
	IgnoreFailure bool     `key:"ignore_failure"`
	After         []string `key:"after"`
	Before        []string `key:"before"`

	Contents string `key:"contents"` // custom

	CACerts        []string `key:"cacerts"`          // satellite, aap
	Command        string   `key:"command"`          // satellite
	JobTemplateURL string   `key:"job_template_url"` // aap
	HostConfigKey  string   `key:"host_config_key"`  // aap
}

// DNF is about the package manager.
type DNF struct {
	Config *DNFConfig `key:"config"`
}

// DNFConfig are settings of the package manager.
type DNFConfig struct {
	SetReleaseVer bool `key:"set_releasever"`
}

// ISO is about installation media.
type ISO struct {
	ApplicationID string `key:"application_id"`
	Publisher     string `key:"publisher"`
	VolumeID      string `key:"volume_id"`
}
