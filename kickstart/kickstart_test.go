package kickstart

import (
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/layouts"
	"imgbuild/test/pykickstart"
)

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t *testing.T, text string) *File {
	t.Helper()
	f, err := Parse("ks.cfg", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(fault.DetailsOf(err), "\n"))
	}
	return f
}

func ptr[T any](v T) *T { return &v }

func TestSettings(t *testing.T) {
	f := parse(t, read(t, "full.ks"))
	s := f.Settings
	hash := "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
	want := blueprints.Customizations{
		Hostname: ptr("host.example.com"),
		Kernel:   &blueprints.Kernel{Append: `enforcing=1 quiet nosmt "x=a b"`},
		SSHKey: []blueprints.SSHKey{{User: "admin",
			Key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqgmYnJ0yWPHjjcL6y1bJDHBJEaSzP3aCWm4vVqg0FI admin@example.com"}},
		User: []blueprints.User{
			{Name: "root", Password: ptr("!")},
			{Name: "admin", Description: ptr("The Admin"), Password: &hash, Home: ptr("/home/admin"), Shell: ptr("/bin/bash"),
				Groups: []string{"wheel", "operators"}, UID: ptr(int64(1500)), GID: ptr(int64(2000))},
			{Name: "guest", Password: ptr("!")},
		},
		Group:    []blueprints.Group{{Name: "operators", GID: ptr(int64(2000))}},
		Timezone: &blueprints.Timezone{Timezone: ptr("Europe/Berlin"), NTPServers: []string{"ntp.example.com"}},
		Locale:   &blueprints.Locale{Languages: []string{"de_DE.UTF-8", "en_US.UTF-8", "fr_FR.UTF-8@euro"}, Keyboard: ptr("de-nodeadkeys")},
		Firewall: &blueprints.Firewall{Ports: []string{"8080:tcp", "53:udp", "631:tcp"},
			Services: &blueprints.FirewallServices{Enabled: []string{"https", "ssh"}, Disabled: []string{"cockpit"}}},
		Services: &blueprints.Services{Enabled: []string{"sshd", "chronyd"}, Disabled: []string{"cups"}},
		SSHD:     &blueprints.SSHD{PermitRootLogin: "yes"},
	}
	if d := cmp.Diff(want, s.Customizations); d != "" {
		t.Error(d)
	}
	layout := &layouts.Layout{
		Table: layouts.GPT, SectorSize: 512, Grain: layouts.MiB, Compact: true, Mounts: layouts.MountsUnits, AddFirmware: true,
		Partitions: []layouts.Partition{
			{Size: 600 << 20, FS: &layouts.FileSystem{Type: "vfat", Mount: "/boot/efi", Options: "umask=0077,shortname=winnt"}},
			{Size: 1 << 30, FS: &layouts.FileSystem{Type: "ext4", Mount: "/boot", Label: "boot", Options: "defaults"}},
			{Size: 2 << 30, FS: &layouts.FileSystem{Type: "swap"}},
			{Size: 10 << 30, FS: &layouts.FileSystem{Type: "xfs", Mount: "/", Options: "defaults"}},
			{Size: 4 << 30, FS: &layouts.FileSystem{Type: "ext4", Mount: "/var/lib/data", Label: "data", Options: "noatime,nodev"}},
		},
	}
	if d := cmp.Diff(layout, s.Layout); d != "" {
		t.Error(d)
	}
	if s.Target != "/dev/disk/by-id/nvme-example_1" || !s.Wipe || !s.Unattended || s.End != EndReboot || !s.Eject {
		t.Errorf("target %q, wipe %v, unattended %v, end %q, eject %v", s.Target, s.Wipe, s.Unattended, s.End, s.Eject)
	}
	if at := s.Places["customizations.user[2]"]; at.String() != "ks.cfg:10" {
		t.Errorf("user 2 is at %v", at)
	}
	scripts := []Script{
		{Stage: Pre, Line: 26, Interpreter: "/bin/bash", Log: "/tmp/pre.log", ErrorOnFail: true,
			Body: "# A comment of the script, and %signs.\n%d is not a section\necho \"before\"\n"},
		{Stage: Post, Line: 32, Interpreter: "/bin/sh", NoChroot: true, Body: "echo \"%post in a line\" >/tmp/x\n"},
	}
	if d := cmp.Diff(scripts, f.Scripts); d != "" {
		t.Error(d)
	}
	r, err := layouts.Resolve(&layouts.Request{Arch: "amd64", Firmware: layouts.Firmware{UEFI: true, BIOS: true}, RootFS: "ext4", Base: s.Layout})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.Check(); len(p) > 0 {
		t.Error(p)
	}
	if p, _ := r.CheckFirmware(layouts.Firmware{UEFI: true, BIOS: true}); len(p) > 0 {
		t.Error(p)
	}
}

func TestAutopart(t *testing.T) {
	s := parse(t, read(t, "autopart.ks")).Settings
	want := &Settings{
		Customizations: blueprints.Customizations{
			Kernel: &blueprints.Kernel{Append: "enforcing=0"},
			User:   []blueprints.User{{Name: "root", Password: ptr("secret # no comment")}}, Timezone: &blueprints.Timezone{Timezone: ptr("Europe/Berlin")},
			Locale:   &blueprints.Locale{Keyboard: ptr("us")},
			Services: &blueprints.Services{Disabled: []string{"firewalld.service"}},
			Files:    []blueprints.File{{Path: "/etc/adjtime", Data: "0.0 0 0.0\n0\nLOCAL\n"}},
		},
		RootFS: "xfs", Target: "/dev/vda", Exclude: []string{"/dev/sda", "/dev/sdb"}, Wipe: true, Unattended: true, End: EndPowerOff,
	}
	s.Places = nil
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
}

// Nothing but a script asks for nothing: the installer is to ask, and to erase
// nothing on its own.
func TestSafeByDefault(t *testing.T) {
	s := parse(t, "lang en_US\n%post\ntrue\n%end\n").Settings
	if s.Unattended || s.Wipe || s.Target != "" || s.End != EndAsk {
		t.Errorf("%+v", s)
	}
	if s = parse(t, "autopart\n").Settings; s.Wipe {
		t.Error("autopart alone allows to erase a disk")
	}
}

// All that is wrong is said, with its line and what to do.
func TestProblems(t *testing.T) {
	for _, c := range []struct {
		text  string
		class fault.Class
		want  []string
	}{
		{"frobnicate\nUser --name=x\nuser --uid=1\n", fault.Config, []string{
			`line 1: no command "frobnicate"`, `line 2: no command "User" (user is one)`, `line 3: user: --name is missing`}},
		{"url --url=http://example.com/\n", fault.Unsupported, []string{
			"line 1: url: not applied: what is installed is the container image, which the medium carries (drop the line)"}},
		{"\n%include /tmp/x\n%packages\n@core\n%end\n", fault.Unsupported, []string{
			"line 2: %include: not applied: a kickstart stands for itself: what the file will hold cannot be checked when the medium is made (put the lines of the file in its place)",
			"line 3: %packages: not applied: packages are installed when the image is built (RUN dnf install in the Containerfile)"}},
		{"part / --size=1024 --encrypted --passphrase=x\n", fault.Unsupported, []string{
			"line 1: part --encrypted: not applied: imgbuild writes no LUKS", "line 1: part --passphrase: not applied: imgbuild writes no LUKS"}},
		{"autopart --type=lvm\n", fault.Unsupported, []string{"line 1: autopart --type: not applied: imgbuild writes no LVM (--type=plain)"}},
		{"%post\ntrue\n", fault.Config, []string{"line 1: %post: has no %end"}},
		{"%pre --log\ntrue\n%end\n", fault.Config, []string{"line 1: %pre --log: needs a value"}},
		{"part /home --size=1 --grow\npart / --grow --ondisk=sda\nignoredisk --only-use=sdb\n", fault.Config, []string{
			"line 1: part --grow: not applied: the partition of / takes the room that is left, and no other (part / --grow)",
			"line 2: part --ondisk: /dev/sda, and line 3 names /dev/sdb: one disk is installed"}},
		{"network --hostname=a --bootproto=dhcp\n", fault.Unsupported, []string{
			"line 1: network --bootproto: not applied: the network is the image's business (a profile of NetworkManager is a file: customizations.files)"}},
		{"user --name=a --iscrypted --password=secret\n", fault.Config, []string{
			"line 1: user --iscrypted: the password is no hash that crypt(5) knows (openssl passwd -6 makes one)"}},
		{"rootpw \"unclosed\n", fault.Config, nil},
		{"rootpw \"unclosed", fault.Config, []string{"line 1: a quotation is not closed"}},
		{"reboot\npoweroff\n", fault.Config, []string{"line 2: poweroff: is in line 1 already"}},
		{"clearpart --all --drives=sda\nignoredisk --only-use=sdb\n", fault.Config, []string{
			"line 1: clearpart --drives: does not name /dev/sdb, which line 2 installs to"}},
		{"zerombr\nautopart\n", fault.Unsupported, []string{
			"line 1: zerombr: not applied: a disk that holds anything, whatever it is, is erased with clearpart --all only (clearpart --all)"}},
		{"ignoredisk --only-use=LABEL=x\n", fault.Unsupported, []string{
			`line 1: ignoredisk --only-use: not applied: "LABEL=x" names a file system, not a disk (sda, or disk/by-id/NAME)`}},
	} {
		if c.want == nil {
			c.text, c.want = strings.TrimSpace(c.text), []string{"line 1: a quotation is not closed"}
		}
		_, err := Parse("ks.cfg", []byte(c.text))
		var r *Report
		if !errors.As(err, &r) {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		var got []string
		for _, p := range r.Problems {
			got = append(got, p.Error())
		}
		if d := cmp.Diff(c.want, got); d != "" || fault.ClassOf(err) != c.class {
			t.Errorf("%q: class %d\n%s", c.text, fault.ClassOf(err), d)
		}
	}
}

// Every option of every command that is understood is applied or refused: none is
// accepted and ignored.
func TestNoOptionIsIgnored(t *testing.T) {
	for _, s := range commands() {
		if _, ok := translations()[s.name]; !ok && s.why == "" {
			t.Errorf("%s: accepted, and nothing is done with it", s.name)
		}
	}
	source := ""
	for _, name := range []string{"settings.go", "disks.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		source += string(text)
	}
	// Restated by what is done anyway, or by the rest of the command.
	neutral := []string{
		"clearpart --initlabel", "part --asprimary", "autopart --nohome", "autopart --noswap", "autopart --nolvm", "firewall --enabled",
		"firewall --ftp", "firewall --http", "firewall --smtp", "firewall --ssh", // by their names
	}
	for _, s := range commands() {
		for _, o := range s.options {
			if o.why == "" && !strings.Contains(source, `"`+o.names[0]+`"`) && !slices.Contains(neutral, s.name+" "+o.names[0]) {
				t.Errorf("%s %s: accepted, and nothing reads it", s.name, o.names[0])
			}
		}
	}
}

// corpus are files of all kinds: whole ones, single lines, and lines made by chance.
func corpus(t testing.TB) []string {
	texts := []string{read(t, "full.ks"), read(t, "autopart.ks")}
	for line := range strings.Lines(read(t, "lines.ks")) {
		if line = strings.TrimRight(line, "\n"); line != "" {
			texts = append(texts, strings.ReplaceAll(line, "␤", "\n")+"\n")
		}
	}
	r := rand.New(rand.NewSource(1))
	for range 1200 {
		texts = append(texts, randomFile(r))
	}
	return texts
}

func randomFile(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.Intn(len(list))] }
	known := commands()
	var b strings.Builder
	for range 1 + r.Intn(3) {
		s := &known[r.Intn(len(known))]
		for s.why != "" {
			s = &known[r.Intn(len(known))]
		}
		b.WriteString(pick(append(slices.Clone(s.aliases), s.name, s.name)...))
		for range r.Intn(4) {
			b.WriteString(pick(" ", " ", "\t", "  "))
			if r.Intn(5) == 0 || len(s.options) == 0 {
				b.WriteString(pick("word", "/", "/boot", "swap", "'two words'", "a\\ b", `"q\"x"`, "-x", "-5", "#c", "w#c", "''", "--bogus", "--bogus=1", "é"))
				continue
			}
			o := s.options[r.Intn(len(s.options))]
			name := pick(o.names...)
			if r.Intn(6) == 0 {
				name = name[:3+r.Intn(len(name)-2)]
			}
			b.WriteString(name)
			if (o.kind == flag) == (r.Intn(12) == 0) {
				b.WriteString(pick("=", "=", " "))
				b.WriteString(pick(append(slices.Clone(o.choices), "1", "x", "1_0", "+7", " 5", "''", "yes", "a,b", "'a b'", "-1", "-x", "99999999999", "btrfs", "luks2-x", "k=v", "")...))
			}
		}
		b.WriteString("\n")
	}
	if r.Intn(4) == 0 {
		b.WriteString(pick("%pre", "%post", "%post --nochroot", "%pre --nochroot", "%addon a b", "%packages", "%nothing", "%post --interpreter=/bin/sh --erroronfail", "%onerror --log x", "%pre --log=/x y"))
		b.WriteString("\n" + pick("echo\n", "", "%foo\n", "%end#\n", " # x\n", "%post\n", "%include x\n", "%include\n") + pick("%end\n", "%end\n", " %end x\n", "", "%end"))
	}
	return b.String()
}

// TestAgreement compares the verdicts with pykickstart's: what is called bad syntax
// it refuses, and what it refuses is refused.
func TestAgreement(t *testing.T) {
	texts := corpus(t)
	answers, err := pykickstart.Check(texts)
	if err != nil {
		t.Fatal(err)
	}
	accepted, refused := 0, 0
	for i, text := range texts {
		_, err := Parse("ks.cfg", []byte(text))
		var r *Report
		if err != nil && !errors.As(err, &r) && strings.TrimSpace(text) != "" {
			t.Fatalf("%q: %v", text, err)
		}
		syntax, value := "", strings.TrimSpace(text) == ""
		if r != nil {
			for _, p := range r.Problems {
				switch p.Kind {
				case Syntax:
					syntax = p.Error()
				case Value:
					value = true
				}
			}
		}
		switch answer := answers[i]; {
		case answer == "" && syntax != "":
			t.Errorf("pykickstart takes\n%s\nand we say %s", text, syntax)
		case answer != "" && syntax == "" && !value:
			t.Errorf("pykickstart says %s of\n%s\nand we take it", strings.TrimSpace(answer), text)
		case answer == "":
			accepted++
		default:
			refused++
		}
		if t.Failed() && i > 200 && accepted+refused < i-20 {
			t.Fatal("and so on")
		}
	}
	if accepted < 200 || refused < 300 {
		t.Errorf("%d files are sound and %d are not: the corpus proves little", accepted, refused)
	}
	t.Logf("%d files taken by both, %d refused by both", accepted, refused)
}

func FuzzParse(f *testing.F) {
	for _, text := range corpus(f)[:300] {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("ks.cfg", text)
		if (file == nil) == (err == nil) {
			t.Fatal("neither a file nor an error, or both")
		}
		if err != nil && fault.ClassOf(err) == fault.Internal {
			t.Fatalf("an error without a class: %v", err)
		}
		if file == nil {
			return
		}
		if file.Settings.Target != "" && !strings.HasPrefix(file.Settings.Target, "/dev/") {
			t.Fatalf("target %q", file.Settings.Target)
		}
		if l := file.Settings.Layout; l != nil {
			if _, err := layouts.Resolve(&layouts.Request{Arch: "amd64", Firmware: layouts.Firmware{UEFI: true}, RootFS: "ext4", Base: l}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
