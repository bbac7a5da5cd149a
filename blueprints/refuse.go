package blueprints

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"imgbuild/document"
	"imgbuild/fault"
)

// refusal is a key that is not applied, with all below it.
type refusal struct {
	path string
	why  string
	// instead returns the lines of a Containerfile that do the same, nil where
	// there are none.
	instead func(b *Blueprint) []string
}

// refusals lists what is not applied, because only what builds the image can do
// it, or because it is for other kinds of artefact.
func refusals() []refusal {
	const (
		packages = "packages are installed when the image is built"
		media    = "is for installation media, and a disk is none"
	)
	return []refusal{
		{"packages", packages, func(b *Blueprint) []string { return install(b.Packages) }},
		{"modules", packages, func(b *Blueprint) []string { return install(b.Modules) }},
		{"enabled_modules", packages, enableModules},
		{"groups", packages, installGroups},
		{"containers", "container images are bound to the image when it is built", bindContainers},
		{"customizations.kernel.name", "the kernel is the image's", swapKernel},
		{"customizations.installation_device", media, nil},
		{"customizations.fdo", "the client of device onboarding is a package, and packages are installed when the image is built", onboard},
		{"customizations.openscap", "a system is hardened by programs that run when the image is built", harden},
		{"customizations.repositories", packages + ", and repositories set up for that", addRepositories},
		{"customizations.installer", media, nopasswd},
		{"customizations.rpm", "the database of packages is the image's", importKeys},
		{"customizations.rhsm", "the subscription manager is configured when the image is built", subscription},
		{"customizations.containers-storage", "containers are bound to the image when it is built", storage},
		{"customizations.iso", media, nil},
	}
}

// refuse adds what is asked for and not applied.
func (c *Config) refuse(r *Report) {
	for _, f := range c.Options.Media.refusals() {
		if !asked(&c.Blueprint, f.path) {
			continue
		}
		p := c.problem(f.path, fault.New(fault.Unsupported, fmt.Errorf("not applied: %s", f.why), ""))
		if f.instead != nil {
			p.Lines = f.instead(&c.Blueprint)
		}
		if len(p.Lines) > 0 {
			p.Message += "; in the Containerfile:"
		}
		r.Problems = append(r.Problems, p)
	}
	c.refuseLVM(r)
	if m := c.Blueprint.Customizations.PartitioningMode; m == "lvm" || m == "auto-lvm" {
		r.Problems = append(r.Problems, c.problem("customizations.partitioning_mode", fault.New(fault.Unsupported,
			fmt.Errorf("not applied: %q would choose a layout by itself", m), "customizations.disk says what is to be on LVM")))
	}
}

// whyNoLVM says why volume groups are refused.
const whyNoLVM = "imgbuild writes no LVM: bootable containers do not start from it reliably (osbuild/images#2228)"

// lvmKeys are refused without being keys of all partitions.
func lvmKeys() []refusal {
	return []refusal{
		{"customizations.disk.partitions.name", whyNoLVM, nil},
		{"customizations.disk.partitions.logical_volumes", whyNoLVM, nil},
	}
}

// refuseLVM adds the volume groups.
func (c *Config) refuseLVM(r *Report) {
	d := c.Blueprint.Customizations.Disk
	if d == nil {
		return
	}
	for i, p := range d.Partitions {
		if p.Type == PartitionLVM {
			r.Problems = append(r.Problems, c.problem(fmt.Sprintf("customizations.disk.partitions[%d].type", i), fault.New(fault.Unsupported,
				fmt.Errorf("not applied: %q: %s", p.Type, whyNoLVM), "plain partitions and btrfs subvolumes work")))
		}
	}
}

// asked tells whether a blueprint asks for anything at or below a path without
// indices. Empty texts and lists, and switches that are off, ask for nothing:
// programs that write blueprints leave them.
func asked(b *Blueprint, path string) bool {
	v := reflect.ValueOf(b).Elem()
	for _, name := range strings.Split(path, ".") {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return false
			}
			v = v.Elem()
		}
		for _, k := range document.Keys(v.Type()) {
			if k.Name == name {
				v = v.Field(k.Index)
				break
			}
		}
	}
	return says(v)
}

// says tells whether a value asks for anything.
func says(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return false
		}
		return v.Elem().Kind() != reflect.Struct || says(v.Elem())
	case reflect.Slice:
		return v.Len() > 0
	case reflect.Struct:
		for _, k := range document.Keys(v.Type()) {
			if says(v.Field(k.Index)) {
				return true
			}
		}
		return false
	}
	return !v.IsZero()
}

// shell returns a word for a shell.
func shell(s string) string {
	plain := s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.:/@+=,%", r)
	})
	if plain {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// run returns a line that runs a program with the words.
func run(program string, words []string) string {
	line := "RUN " + program
	for _, w := range words {
		line += " " + shell(w)
	}
	return line
}

func install(list []Package) []string {
	var words []string
	for _, p := range list {
		name := p.Name
		if p.Version != "" && p.Version != "*" {
			name += "-" + p.Version
		}
		words = append(words, name)
	}
	return []string{run("dnf -y install", words) + " && dnf clean all"}
}

func enableModules(b *Blueprint) []string {
	var words []string
	for _, m := range b.EnabledModules {
		words = append(words, m.Name+":"+m.Stream)
	}
	return []string{run("dnf -y module enable", words)}
}

func installGroups(b *Blueprint) []string {
	var words []string
	for _, g := range b.Groups {
		words = append(words, g.Name)
	}
	return []string{run("dnf -y group install", words) + " && dnf clean all"}
}

// bindContainers makes a unit of Podman for each image, as bootc(8) binds them.
func bindContainers(b *Blueprint) []string {
	lines := []string{"RUN mkdir -p /usr/share/containers/systemd /usr/lib/bootc/bound-images.d"}
	for i, c := range b.Containers {
		unit := fmt.Sprintf("/usr/share/containers/systemd/bound-%d.image", i+1)
		lines = append(lines, fmt.Sprintf(`RUN printf '[Image]\nImage=%%s\n' %s >%s && ln -s %s /usr/lib/bootc/bound-images.d/`, shell(c.Source), unit, unit))
	}
	return lines
}

func swapKernel(b *Blueprint) []string {
	return []string{run("dnf -y swap --allowerasing kernel", []string{b.Customizations.Kernel.Name}) + " && dnf clean all"}
}

func onboard(*Blueprint) []string {
	return []string{"RUN dnf -y install fdo-client && dnf clean all && systemctl enable fdo-client-linuxapp.service"}
}

func harden(b *Blueprint) []string {
	o := b.Customizations.OpenSCAP
	stream := o.DataStream
	if stream == "" {
		stream = "/usr/share/xml/scap/ssg/content/ssg-rhel10-ds.xml"
	}
	words := []string{}
	if o.ProfileID != "" {
		words = append(words, "--profile", o.ProfileID)
	}
	if o.JSONTailoring != nil && o.JSONTailoring.Filepath != "" {
		words = append(words, "--tailoring-file", o.JSONTailoring.Filepath)
	}
	return []string{
		"RUN dnf -y install openscap-utils scap-security-guide && dnf clean all",
		run("oscap-im", append(words, stream)),
	}
}

func addRepositories(b *Blueprint) []string {
	var lines []string
	for _, r := range b.Customizations.Repositories {
		name := r.Filename
		if name == "" {
			name = r.ID
		}
		lines = append(lines, "COPY <<'REPO' /etc/yum.repos.d/"+strings.TrimSuffix(name, ".repo")+".repo", "["+r.ID+"]")
		set := func(key, value string) {
			if value != "" {
				lines = append(lines, key+"="+value)
			}
		}
		flag := func(key string, value *bool) {
			if value != nil {
				set(key, map[bool]string{false: "0", true: "1"}[*value])
			}
		}
		if r.Name == "" {
			r.Name = r.ID
		}
		set("name", r.Name)
		set("baseurl", strings.Join(r.BaseURLs, " "))
		set("metalink", r.Metalink)
		set("mirrorlist", r.Mirrorlist)
		var urls []string
		for _, k := range r.GPGKeys {
			if !strings.HasPrefix(k, "-----") { // a key itself has to be in a file
				urls = append(urls, k)
			}
		}
		set("gpgkey", strings.Join(urls, " "))
		if r.Priority != nil {
			set("priority", strconv.FormatInt(*r.Priority, 10))
		}
		flag("enabled", r.Enabled)
		flag("gpgcheck", r.GPGCheck)
		flag("repo_gpgcheck", r.RepoGPGCheck)
		flag("sslverify", r.SSLVerify)
		flag("module_hotfixes", r.ModuleHotfixes)
		lines = append(lines, "REPO")
	}
	return lines
}

func nopasswd(b *Blueprint) []string {
	var lines []string
	for _, who := range b.Customizations.Installer.SudoNopasswd {
		file := strings.Trim(strings.Map(func(r rune) rune {
			if r == '%' || r == '.' || r == '/' || r == '~' {
				return -1
			}
			return r
		}, who), " ")
		lines = append(lines, fmt.Sprintf(`RUN printf '%%s ALL=(ALL) NOPASSWD: ALL\n' %s >/etc/sudoers.d/%s`, shell(who), shell(file)))
	}
	return lines
}

func importKeys(b *Blueprint) []string {
	return []string{run("rpm --import", b.Customizations.RPM.ImportKeys.Files)}
}

func subscription(b *Blueprint) []string {
	var words, plugins []string
	set := func(key string, value *bool) {
		if value != nil {
			words = append(words, key+"="+map[bool]string{false: "0", true: "1"}[*value])
		}
	}
	plugin := func(name string, p *RHSMPlugin) {
		if p != nil && p.Enabled != nil {
			plugins = append(plugins, fmt.Sprintf("RUN sed -i 's/^enabled=.*/enabled=%s/' /etc/dnf/plugins/%s.conf", map[bool]string{false: "0", true: "1"}[*p.Enabled], name))
		}
	}
	c := b.Customizations.RHSM.Config
	if m := c.SubscriptionManager; m != nil {
		if m.RHSM != nil {
			set("--rhsm.manage_repos", m.RHSM.ManageRepos)
			set("--rhsm.auto_enable_yum_plugins", m.RHSM.AutoEnableYumPlugins)
		}
		if m.RHSMCertd != nil {
			set("--rhsmcertd.auto_registration", m.RHSMCertd.AutoRegistration)
		}
	}
	if p := c.DNFPlugins; p != nil {
		plugin("product-id", p.ProductID)
		plugin("subscription-manager", p.SubscriptionManager)
	}
	if len(words) == 0 {
		return plugins
	}
	return append([]string{run("subscription-manager config", words)}, plugins...)
}

func storage(b *Blueprint) []string {
	return []string{fmt.Sprintf(`RUN printf '[storage]\ndriver = "overlay"\ngraphroot = "%%s"\n' %s >/etc/containers/storage.conf`,
		shell(*b.Customizations.ContainersStorage.DestinationPath))}
}
