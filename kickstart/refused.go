package kickstart

// refusedCommands are the other commands of pykickstart, with the reason why each is
// refused.
func refusedCommands() []spec {
	var specs []spec
	add := func(why, hint string, names ...string) {
		for _, n := range names {
			specs = append(specs, spec{name: n, why: why, hint: hint})
		}
	}
	const (
		hintPackages = "RUN dnf install in the Containerfile"
		noLVM        = "imgbuild writes partitions and btrfs, no other volumes"
	)
	add(whyImage+", which the medium carries", hintDrop, "liveimg", "ostreesetup", "ostreecontainer", "bootc", "cdrom", "harddrive", "hmc", "install", "nfs", "url", "method")
	add("packages are installed when the image is built", hintPackages, "repo", "module")
	add(whyText, hintDrop, "text", "graphical", "cmdline", "vnc", "rdp", "autostep")
	add(whyAnaOnly, hintDrop, "updates", "rescue", "mediacheck", "logging", "sshpw", "driverdisk", "eula", "firstboot")
	add("the graphical environment is the image's", hintDrop, "skipx", "xconfig")
	add("authentication is configured when the image is built", "RUN authselect in the Containerfile", "auth", "authconfig", "authselect")
	add("a realm is joined by a program, and none of the image runs while it is installed", "%post", "realm")
	add(whyDisks, hintDrop, "device", "deviceprobe", "dmraid", "multipath", "nvdimm", "zfcp", "zipl", "fcoe", "iscsi", "iscsiname")
	add(noLVM, "part", "btrfs", "logvol", "volgroup", "raid", "snapshot", "stratispool", "stratisfs")
	add(whyWhole, "part", "mount")
	add("what the firmware needs is added to the partitions of part without it", hintDrop, "reqpart")
	return specs
}

// sectionSpec is what is known of a section.
type sectionSpec struct {
	name      string
	options   []option // of its header; nil takes anything
	stage     Stage
	why, hint string
	harmless  bool // whether it says nothing while it is empty
}

// sections lists the sections of pykickstart.
func sections() []sectionSpec {
	script := func(more ...option) []option {
		return append([]option{apply(flag, "--erroronfail"), apply(text, "--interpreter"), apply(text, "--log", "--logfile")}, more...)
	}
	packages := "packages are installed when the image is built"
	return []sectionSpec{
		{name: "%pre", options: script(), stage: Pre},
		{name: "%post", options: script(apply(flag, "--nochroot")), stage: Post},
		{name: "%pre-install", options: script(), why: "the installer writes the disk at once, and has nothing mounted before", hint: "%pre or %post --nochroot"},
		{name: "%onerror", options: script(), why: "on an error the installer says why, and offers a shell"},
		{name: "%traceback", options: script(), why: whyAnaOnly, hint: "drop the section"},
		{name: "%packages", why: packages, hint: "RUN dnf install in the Containerfile", harmless: true},
		{name: "%certificate", why: "certificates are a customization of a blueprint", hint: "customizations.cacerts"},
		{name: "%addon", why: "add-ons are parts of Anaconda", hint: "drop the section"},
		{name: "%anaconda", why: whyAnaOnly, hint: "drop the section", harmless: true},
	}
}
