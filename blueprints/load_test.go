package blueprints

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"imgbuild/fault"
	"imgbuild/toml"
)

// asJSON returns a TOML text in JSON.
func asJSON(t *testing.T, text string) string {
	t.Helper()
	top, err := toml.Decode(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	b, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// problems returns what is wrong with texts, without places.
func problems(t *testing.T, o Options, sources ...Source) (*Config, []string, fault.Class) {
	t.Helper()
	c, err := Load(sources, o)
	if err == nil {
		return c, nil, 0
	}
	var r *Report
	if !errors.As(err, &r) {
		t.Fatalf("no report: %v", err)
	}
	var list []string
	for _, p := range r.Problems {
		if p.At.File == "" && p.Path != "" {
			t.Errorf("no place: %v", p)
		}
		text := p.Path + ": " + p.Message
		if p.Hint != "" {
			text += " (" + p.Hint + ")"
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return c, list, fault.ClassOf(err)
}

// verdicts are blueprints and what is wrong with them; each is read in both
// syntaxes.
func verdicts() []struct {
	text  string
	want  []string
	class fault.Class
} {
	const disk = "[customizations.disk]\n"
	const part = disk + "[[customizations.disk.partitions]]\nminsize='1 GiB'\n"
	unsupported := func(path, why string) string { return "customizations." + path + ": not applied: " + why }
	lvm := func(i int) string {
		return unsupported(fmt.Sprintf("disk.partitions[%d].type", i), `"lvm": imgbuild writes no LVM: bootable containers do not start from it reliably (osbuild/images#2228) (plain partitions and btrfs subvolumes work)`)
	}
	return []struct {
		text  string
		want  []string
		class fault.Class
	}{
		{text: ""},
		{text: "name='x'\ndescription='y'\nversion='1.0.0'\ndistro='fedora-43'\narchitecture='x86_64'"},
		{text: "packages=[]\nmodules=[]\ngroups=[]\ncontainers=[]"},
		{text: "customizations.partitioning_mode='raw'"},
		{text: "customizations.installer.unattended=false"},
		{text: "[customizations.kernel]\nappend='quiet a=\"b c\"'"},
		{"[customizations.kernel]\nappend='a ostree=/x'", []string{`customizations.kernel.append: argument "ostree=/x" belongs to ostree (drop it; imgbuild writes the one of the deployment)`}, fault.Config},
		{"[customizations.kernel]\nappend='a=\"b c'", []string{`customizations.kernel.append: quote without its partner in kernel argument "a=\"b c"`}, fault.Config},
		{"[[packages]]\nname='vim'\n[[packages]]\nname='tmux'\nversion='3.*'",
			[]string{"packages: not applied: packages are installed when the image is built; in the Containerfile:"}, fault.Unsupported},
		{"[customizations.kernel]\nname='kernel-rt'", []string{unsupported("kernel.name", "the kernel is the image's; in the Containerfile:")}, fault.Unsupported},
		{"customizations.partitioning_mode='auto-lvm'", []string{unsupported("partitioning_mode", `"auto-lvm" would choose a layout by itself (customizations.disk says what is to be on LVM)`)}, fault.Unsupported},
		{"[customizations.installer.kickstart]\ncontents='x'", []string{unsupported("installer", "is for installation media, and a disk is none")}, fault.Unsupported},
		{"customizations.iso.volume_id='X'\ncustomizations.hostnam='x'",
			[]string{"customizations.hostnam: unknown key; did you mean hostname?", unsupported("iso", "is for installation media, and a disk is none")}, fault.Config},
		{"customizations=1", []string{"customizations: an integer, where a table belongs"}, fault.Config},

		// Upstream's checks of file systems.
		{"[[customizations.filesystem]]\nmountpoint='/'\nminsize='10 GiB'\nsize=1", []string{
			"customizations.filesystem[0].size: size and minsize cannot both be set (size is an alias for minsize)"}, fault.Config},
		{"[[customizations.filesystem]]\nmountpoint='/var'\nminsize=0\n[[customizations.filesystem]]\nmountpoint='var'\n[[customizations.filesystem]]\nmountpoint='/var//x'\nminsize='10 gb'", []string{
			"customizations.filesystem[0].minsize: must be greater than 0",
			`customizations.filesystem[0].mountpoint: path "/var" is not allowed: only /, /boot and paths below /var that are no links there can be file systems of their own`,
			"customizations.filesystem[1].minsize: missing",
			`customizations.filesystem[1].mountpoint: mountpoint "var" is not an absolute path`,
			`customizations.filesystem[2].minsize: size "10 gb": unknown unit "gb", want one of kB KiB MB MiB GB GiB TB TiB`,
			`customizations.filesystem[2].mountpoint: mountpoint "/var//x" is not a canonical path (did you mean "/var/x"?)`}, fault.Config},
		{"[[customizations.filesystem]]\nmountpoint='/'\nminsize=-1\n" + disk, []string{
			"customizations.disk: cannot combine disk and filesystem customizations",
			"customizations.filesystem[0].minsize: cannot be negative"}, fault.Config},

		// Upstream's checks of partitions.
		{disk + "type='mbr'\nsector_size=1000", []string{
			"customizations.disk.sector_size: sector_size must be a power of 2, got 1000",
			`customizations.disk.type: "mbr" is none of gpt, dos`}, fault.Config},
		{"[customizations.disk]\ntype='dos'\n" + strings.Repeat("[[customizations.disk.partitions]]\nminsize=1\nfs_type='swap'\n", 5), []string{
			`customizations.disk.partitions: "dos" partition table type only supports up to 4 partitions: got 5`}, fault.Config},
		{part + "type='raid'", []string{`customizations.disk.partitions[0].type: "raid" is none of plain, lvm, btrfs`}, fault.Config},
		{part + "fs_type='swap'\nmountpoint='/x'", []string{
			`customizations.disk.partitions[0].mountpoint: mountpoint for swap partition must be empty (got "/x")`}, fault.Config},
		{part + "fs_type='none'\nmountpoint='/x'\npart_type='xyz'\npart_uuid='1'\npart_label='" + strings.Repeat("é", 37) + "'", []string{
			`customizations.disk.partitions[0].mountpoint: mountpoint for none partition must be empty (got "/x")`,
			"customizations.disk.partitions[0].part_label: part_label is not a valid GPT label, it is too long",
			`customizations.disk.partitions[0].part_type: invalid part_type "xyz": must be a valid UUID for GPT partition tables or a 2-digit hex number for DOS partition tables`,
			`customizations.disk.partitions[0].part_uuid: invalid partition part_uuid "1" (must be a valid UUID)`}, fault.Config},
		{"[customizations.disk]\ntype='dos'\n[[customizations.disk.partitions]]\nminsize=1\nfs_type='ext4'\nmountpoint='/boot/efi'\npart_type='0fc63daf-8483-4772-8e79-3d69d8477de4'\npart_uuid='0fc63daf-8483-4772-8e79-3d69d8477de4'\npart_label='x'", []string{
			`customizations.disk.partitions[0].fs_type: unsupported filesystem type for "/boot/efi": ext4`,
			"customizations.disk.partitions[0].part_label: part_label is not supported for dos partition tables",
			`customizations.disk.partitions[0].part_type: invalid partition part_type "0fc63daf-8483-4772-8e79-3d69d8477de4" for partition table type "dos" (must be a 2-digit hex number)`,
			"customizations.disk.partitions[0].part_uuid: part_uuid is not supported for dos partition tables"}, fault.Config},
		{part + "fs_type='ext4'\nmountpoint='/'\n[[customizations.disk.partitions]]\nminsize=1\nfs_type='vfat'\nmountpoint='/boot'\nname='x'\n[[customizations.disk.partitions]]\nminsize=1\nfs_type='ext4'\nmountpoint='/'", []string{
			`customizations.disk.partitions[1].fs_type: unsupported filesystem type for "/boot": vfat`,
			`customizations.disk.partitions[1].name: not a key of partitions of type "plain"`,
			`customizations.disk.partitions[2].mountpoint: duplicate mountpoint "/" in partitioning customizations`}, fault.Config},
		{part + "type='lvm'\nname='vg'\nlabel='x'\nlogical_volumes=[{name='a',minsize=1,mountpoint='/',fs_type='ext4'},{name='a',minsize=1,mountpoint='/boot',fs_type='xfs'},{minsize=1,fs_type='swap',mountpoint='/s'},{mountpoint='x'}]", []string{lvm(0),
			`customizations.disk.partitions[0].label: not a key of partitions of type "lvm"`,
			`customizations.disk.partitions[0].logical_volumes[1].mountpoint: invalid mountpoint "/boot" for logical volume`,
			`customizations.disk.partitions[0].logical_volumes[1].name: duplicate LVM logical volume name "a" in volume group "vg" in partitioning customizations`,
			`customizations.disk.partitions[0].logical_volumes[2].mountpoint: mountpoint for swap logical volume with name "" in volume group "vg" must be empty`,
			`customizations.disk.partitions[0].logical_volumes[3].fs_type: unknown or invalid filesystem type (fs_type) for logical volume with mountpoint "x"`,
			`customizations.disk.partitions[0].logical_volumes[3].minsize: missing`,
			`customizations.disk.partitions[0].logical_volumes[3].mountpoint: invalid logical volume customization: mountpoint "x" is not an absolute path`}, fault.Config},
		{part + "type='btrfs'\n[[customizations.disk.partitions]]\nminsize=1\ntype='btrfs'\nsubvolumes=[{name='',mountpoint='/a'},{name='b',mountpoint='/a'},{name='b',mountpoint='/boot/efi'},{}]\n[[customizations.disk.partitions]]\nminsize=1\ntype='lvm'", []string{lvm(2),
			"customizations.disk.partitions: btrfs and lvm partitioning cannot be combined",
			"customizations.disk.partitions[0].subvolumes: btrfs volume requires subvolumes",
			"customizations.disk.partitions[1].subvolumes[0].name: btrfs subvolume with empty name in partitioning customizations",
			`customizations.disk.partitions[1].subvolumes[1].mountpoint: duplicate mountpoint "/a" in partitioning customizations`,
			`customizations.disk.partitions[1].subvolumes[2].mountpoint: invalid mountpoint "/boot/efi" for btrfs subvolume`,
			`customizations.disk.partitions[1].subvolumes[2].name: duplicate btrfs subvolume name "b" in partitioning customizations`,
			"customizations.disk.partitions[1].subvolumes[3].mountpoint: missing",
			"customizations.disk.partitions[1].subvolumes[3].name: missing"}, fault.Config},
		{disk + strings.Repeat("[[customizations.disk.partitions]]\nminsize=1\ntype='lvm'\n", 2), []string{lvm(0), lvm(1), "customizations.disk.partitions: multiple LVM volume groups are not yet supported"}, fault.Config},
		{disk + strings.Repeat("[[customizations.disk.partitions]]\nminsize=1\ntype='btrfs'\nsubvolumes=[{name='a',mountpoint='/'}]\n", 2), []string{
			"customizations.disk.partitions: multiple btrfs volumes are not yet supported",
			`customizations.disk.partitions[1].subvolumes[0].mountpoint: duplicate mountpoint "/" in partitioning customizations`}, fault.Config},

		{"[[customizations.firstboot.scripts]]\ntype='custom'\ncontents='x'\ncommand='y'\n[[customizations.firstboot.scripts]]\ntype='costum'", []string{
			`customizations.firstboot.scripts[0].command: not a key of scripts of type "custom"`,
			`customizations.firstboot.scripts[1].type: "costum" is none of custom, satellite, aap; did you mean custom?`}, fault.Config},
		{"[[customizations.files]]\npath='/etc/x'\nuser=-1\ngroup=1.5", []string{
			"customizations.files[0].group: a number with a fraction, where a name or a number belongs",
			"customizations.files[0].user: -1 is no user or group id"}, fault.Config},
	}
}

func TestVerdicts(t *testing.T) {
	for _, tc := range verdicts() {
		slices.Sort(tc.want)
		for _, s := range []Source{{"c.toml", []byte(tc.text)}, {"c.json", []byte(asJSON(t, tc.text))}, {"-", []byte(tc.text)}, {"-", []byte(asJSON(t, tc.text))}} {
			_, got, class := problems(t, Options{}, s)
			if !slices.Equal(got, tc.want) || class != tc.class {
				t.Errorf("%s %s\n got %q, class %d\nwant %q, class %d", s.Name, s.Text, got, class, tc.want, tc.class)
			}
		}
	}
}

func TestSyntax(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"c.yaml", "", ": neither .toml nor .json; name the file by its syntax"},
		{"c.json", "{} {}", ": data after the end of the table"},
		{"c.json", `{"blueprint":{"nam":"x"}}`, "nam: unknown key; did you mean name?"},
		{"c.json", `{"blueprint":{},"name":"x"}`, "blueprint: unknown key"},
	} {
		_, got, class := problems(t, Options{}, Source{tc.name, []byte(tc.text)})
		if len(got) != 1 || !strings.HasPrefix(got[0], tc.want) || class != fault.Config {
			t.Errorf("%s: %q, class %d, want %s", tc.text, got, class, tc.want)
		}
	}
}

// The places of problems in several files, in the order of the files and their
// lines, and the lines for a Containerfile below what they replace.
func TestReport(t *testing.T) {
	_, err := Load([]Source{
		{"b.toml", []byte("[customizations]\n  hostnme = 'x'\n[[groups]]\nname = 'development tools'\n")},
		{"a.json", []byte("{\"customizations\": {\n \"openscap\": {\"profile_id\": \"$(x)\"}}}")},
	}, Options{})
	want := []string{
		"b.toml:2:3: customizations.hostnme: unknown key; did you mean hostname?",
		"b.toml:3:3: groups: not applied: packages are installed when the image is built; in the Containerfile:",
		"    RUN dnf -y group install 'development tools' && dnf clean all",
		"a.json:2:2: customizations.openscap: not applied: a system is hardened by programs that run when the image is built; in the Containerfile:",
		"    RUN dnf -y install openscap-utils scap-security-guide && dnf clean all",
		"    RUN oscap-im --profile '$(x)' /usr/share/xml/scap/ssg/content/ssg-rhel10-ds.xml",
	}
	if got := fault.DetailsOf(err); !slices.Equal(got, want) || err.Error() != "3 problems in the configuration" {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
	_, err = Load([]Source{{"b.toml", []byte("[[groups]]\nname = 'x'")}}, Options{})
	if got := fault.DetailsOf(err); len(got) != 1 || got[0] != "    RUN dnf -y group install x && dnf clean all" || fault.HintOf(err) != "--ignore-unsupported builds without it" ||
		err.Error() != "b.toml:1:3: groups: not applied: packages are installed when the image is built; in the Containerfile:" {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
}

// Every refusal has a snippet that a blueprint with all its keys fills, or none at
// all.
func TestSnippets(t *testing.T) {
	c, _, _ := problems(t, Options{}, Source{"full.toml", readExample(t, "refused.toml")})
	for _, f := range refusals() {
		if !asked(&c.Blueprint, f.path) {
			t.Errorf("%s: not in the example", f.path)
			continue
		}
		if f.instead == nil {
			continue
		}
		lines := f.instead(&c.Blueprint)
		if len(lines) == 0 {
			t.Errorf("%s: no lines", f.path)
			continue
		}
		if !strings.HasPrefix(lines[0], "RUN ") && !strings.HasPrefix(lines[0], "COPY ") {
			t.Errorf("%s: %q", f.path, lines)
		}
	}
}

func TestIgnoreUnsupported(t *testing.T) {
	c, got, _ := problems(t, Options{IgnoreUnsupported: true}, Source{"c.toml", []byte("[[packages]]\nname='vim'\n[customizations]\nhostname='h'\n[customizations.kernel]\nname='rt'\nappend='quiet'")})
	want := []string{"ignored: c.toml:1:3: packages: not applied: packages are installed when the image is built",
		"ignored: c.toml:6:1: customizations.kernel.name: not applied: the kernel is the image's"}
	if len(got) > 0 || !slices.Equal(c.Ignored, want) {
		t.Errorf("%q, ignored %q", got, c.Ignored)
	}
	if asked := c.Asked(); len(c.Blueprint.Packages) > 0 || c.Blueprint.Customizations.Kernel.Name != "" || !slices.Equal(asked, []string{"customizations.hostname", "customizations.kernel"}) {
		t.Errorf("left %+v, %q", c.Blueprint, asked)
	}
	// What is wrong stays wrong.
	if _, got, class := problems(t, Options{IgnoreUnsupported: true}, Source{"c.toml", []byte("packges=[]\n[[packages]]\nname='vim'")}); len(got) != 1 || class != fault.Config {
		t.Errorf("%q, class %d", got, class)
	}
}

func TestMerge(t *testing.T) {
	c, got, _ := problems(t, Options{},
		Source{"a.toml", []byte("name='a'\n[customizations]\nhostname='a'\n[customizations.kernel]\nappend='quiet'\n[[customizations.user]]\nname='u'\ngroups=['wheel']\n[customizations.services]\nenabled=['x']")},
		Source{"b.json", []byte(`{"customizations":{"hostname":"b","kernel":{"append":"rw x=1"},"user":[{"name":"u","key":"ssh-ed25519 AAAA"},{"name":"v"}],"services":{"enabled":["x","y"],"masked":["z"]}}}`)})
	if len(got) > 0 {
		t.Logf("%q", got)
	}
	b := c.Blueprint.Customizations
	if *b.Hostname != "b" || c.Blueprint.Name != "a" || !slices.Equal(c.KernelArguments(), []string{"quiet", "rw", "x=1"}) ||
		len(b.User) != 2 || b.User[0].Key == nil || !slices.Equal(b.User[0].Groups, []string{"wheel"}) ||
		!slices.Equal(b.Services.Enabled, []string{"x", "y"}) || !slices.Equal(b.Services.Masked, []string{"z"}) {
		t.Errorf("%+v", b)
	}
}

func TestEmbed(t *testing.T) {
	load := func(text string) *Config {
		c, err := Load([]Source{{"c.toml", []byte(text)}}, Options{IgnoreUnsupported: true})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	embedded := Source{"/usr/lib/bootc-image-builder/config.toml", []byte("newer=1\n[[customizations.user]]\nname='u'\n[[customizations.filesystem]]\nmountpoint='/'\nminsize='5 GiB'")}
	c, err := Embed(load("customizations.hostname='h'"), embedded)
	if err != nil {
		t.Fatal(err)
	}
	if fs := c.Blueprint.Customizations.Filesystem; len(c.Ignored) > 0 || len(fs) != 1 || fs[0].MinSize != 5<<30 {
		t.Errorf("ignored %q, file systems %+v", c.Ignored, fs)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "not newer, customizations.user") || *c.Blueprint.Customizations.Hostname != "h" {
		t.Errorf("%q, %+v", c.Warnings, c.Blueprint)
	}
	if c, err = Embed(nil, embedded); err != nil || len(c.Blueprint.Customizations.Filesystem) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	_, err = Embed(nil, Source{"/c.toml", []byte("[[customizations.filesystem]]\nmountpoint='x'")})
	if fault.ClassOf(err) != fault.Config {
		t.Errorf("%v", err)
	}
}

func TestDigest(t *testing.T) {
	digest := func(text string) string {
		c, _, _ := problems(t, Options{}, Source{"c.toml", []byte(text)})
		d, err := c.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := digest("name='x'\n[customizations.kernel]\nappend='quiet'"); d != "" {
		t.Errorf("nothing asked for: %s", d)
	}
	a, b := digest("customizations.hostname='a'"), digest("customizations.hostname='b'")
	if a == "" || a == b || a != digest("name='y'\ncustomizations.hostname='a'") {
		t.Errorf("%s, %s", a, b)
	}
	user := func(password string) string {
		return digest("[[customizations.user]]\nname='u'\npassword='" + password + "'")
	}
	const hash = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
	if user("guess") != user("other") || user("guess") == user(hash) {
		t.Error("a password in plain text can be guessed by the digest")
	}
	var none *Config
	if d, err := none.Digest(); d != "" || err != nil || none.KernelArguments() != nil {
		t.Errorf("%s, %v", d, err)
	}
}

func TestSplitKargs(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "[]",
		"  quiet\t rw\n":          `["quiet" "rw"]`,
		`a="b c" d`:               `["a=\"b c\"" "d"]`,
		`dyndbg="file a +p; b" x`: `["dyndbg=\"file a +p; b\"" "x"]`,
		`"a b"`:                   `["\"a b\""]`,
	} {
		if got := fmt.Sprintf("%q", SplitKargs(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestRemove(t *testing.T) {
	c, _, _ := problems(t, Options{}, Source{"c.toml", []byte("[customizations]\nhostname='h'\nservices.enabled=['a','b','c']\n[[customizations.user]]\nname='u'\nshell='s'\n[[customizations.user]]\nname='v'\ngroups=['g','h']")})
	shared := c.Blueprint.Customizations.Services.Enabled
	c.Blueprint.remove([]string{"customizations.services.enabled[0]", "customizations.services.enabled[2]", "customizations.user[1].groups[0]",
		"customizations.user[0]", "customizations.hostname", "customizations.nothing[3].x", "customizations.user[9]", "", "x[", "customizations.firewall.zones[0]"})
	b := c.Blueprint.Customizations
	if b.Hostname != nil || !slices.Equal(b.Services.Enabled, []string{"b"}) || len(b.User) != 1 || b.User[0].Name != "v" || !slices.Equal(b.User[0].Groups, []string{"h"}) {
		t.Errorf("%+v", b)
	}
	if !slices.Equal(shared, []string{"a", "b", "c"}) {
		t.Errorf("the list that was shared: %q", shared)
	}
}

// Whatever the text, nothing panics, both syntaxes have bounded reports, and every
// problem has a place in its file.
func FuzzLoad(f *testing.F) {
	for _, tc := range verdicts() {
		f.Add(tc.text)
	}
	f.Add(`{"blueprint":{"customizations":{"kernel":{"append":"quiet"}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"c.toml", "c.json", "-"} {
			c, err := Load([]Source{{name, []byte(text)}, {name, []byte(text)}}, Options{})
			if c == nil {
				t.Fatal("no configuration")
			}
			for _, k := range c.KernelArguments() {
				if k == "" {
					t.Fatal("empty kernel argument")
				}
			}
			var r *Report
			if err != nil && (!errors.As(err, &r) || len(r.Problems) == 0 || fault.ClassOf(err) == fault.Internal) {
				t.Fatalf("error %v", err)
			}
			if _, err := c.Digest(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What users get wrong is said in one report, each at its place.
func TestBadInput(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrxPYuZ4jDdgrjzJ4MkPAAUO8bTuoHdDQCtvaM1lFTF"
	text := `[[customizations.user]]
name = "joe"
uid = 1500
key = "` + key + ` joe@example.com"
[[customizations.user]]
name = "joe"
[[customizations.user]]
name = "jörg"
[[customizations.user]]
name = "ann"
uid = 1500
password = "$6$broken"
key = """ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrxPYuZ4jDdgr
jzJ4MkPAAUO8bTuoHdDQCtvaM1lFTF"""
shell = "bash"
[[customizations.group]]
name = "g"
gid = 1600
[[customizations.group]]
name = "g"
gid = 1600
[[customizations.directories]]
path = "/var/lib/x"
[[customizations.directories]]
path = "/etc/x.d"
mode = "9999"
[[customizations.files]]
path = "/etc/passwd"
[[customizations.files]]
path = "/etc/file"
[[customizations.files]]
path = "/etc/file/below"
[[customizations.files]]
path = "/etc/file"
[[customizations.files]]
path = "/etc/remote"
uri = "https://example.com/x"
[customizations.services]
enabled = ["a b", "sshd"]
masked = ["sshd"]
`
	_, err := Load([]Source{{"c.toml", []byte(text)}}, Options{})
	if fault.ClassOf(err) != fault.Config {
		t.Fatal(err)
	}
	report := fault.DetailsOf(err)
	for _, want := range []string{
		"c.toml:6:1: customizations.user[1].name: ",
		"c.toml:8:1: customizations.user[2].name: ",
		"c.toml:11:1: customizations.user[3].uid: ",
		"c.toml:12:1: customizations.user[3].password: ",
		"c.toml:13:1: customizations.user[3].key: ",
		"c.toml:15:1: customizations.user[3].shell: ",
		"c.toml:20:1: customizations.group[1].name: ",
		"c.toml:21:1: customizations.group[1].gid: ",
		"c.toml:23:1: customizations.directories[0].path: ",
		"c.toml:26:1: customizations.directories[1].mode: ",
		"c.toml:28:1: customizations.files[0].path: ",
		"c.toml:32:1: customizations.files[2].path: ",
		"c.toml:34:1: customizations.files[3].path: ",
		"c.toml:35:1: customizations.files[4].sha256: ",
		"c.toml:39:12: customizations.services.enabled[0]: ",
		"c.toml:40:11: customizations.services.masked[0]: ",
	} {
		if !slices.ContainsFunc(report, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", strings.Join(report, "\n"))
	}
}
