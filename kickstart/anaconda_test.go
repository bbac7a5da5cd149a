package kickstart

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/test/pykickstart"
)

func anacondas() map[string]*Anaconda {
	hash := "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
	all := blueprints.Customizations{
		Hostname: ptr("host.example.com"), Kernel: &blueprints.Kernel{Append: `a=b "c=d e" f='g'`},
		Group: []blueprints.Group{{Name: "ops", GID: ptr(int64(2000))}, {Name: "x"}},
		User: []blueprints.User{
			{Name: "root", Password: &hash, Key: ptr("ssh-ed25519 AAAA root@example.com\n")},
			{Name: "admin", Description: ptr("It's #1"), Password: &hash, Key: ptr("ssh-ed25519 AAAA a\n# no\nssh-rsa BBBB b"), Home: ptr("/home/admin"),
				Shell: ptr("/bin/zsh"), Groups: []string{"wheel", "ops"}, UID: ptr(int64(1500)), GID: ptr(int64(2000))},
			{Name: "locked", Password: ptr("!")},
		},
		SSHKey:    []blueprints.SSHKey{{User: "admin", Key: "ssh-ed25519 CCCC\n"}, {User: "root", Key: "# two\nssh-ed25519 DDDD\nssh-rsa EEEE\n"}},
		Timezone:  &blueprints.Timezone{Timezone: ptr("Europe/Berlin"), NTPServers: []string{"ntp.example.com"}},
		Locale:    &blueprints.Locale{Languages: []string{"de_DE.UTF-8", "en_US.UTF-8"}, Keyboard: ptr("de")},
		Firewall:  &blueprints.Firewall{Ports: []string{"80:tcp", "imap:tcp"}, Services: &blueprints.FirewallServices{Enabled: []string{"https"}, Disabled: []string{"ssh"}}},
		Services:  &blueprints.Services{Enabled: []string{"sshd"}, Disabled: []string{"cups"}},
		Installer: &blueprints.Installer{SudoNopasswd: []string{"admin", "%wheel", "admin"}},
	}
	base := Anaconda{Payload: "container", Target: "registry.example.com/os:1", Transport: "registry", RootFS: "xfs"}
	with := func(f func(*Anaconda)) *Anaconda {
		a := base
		f(&a)
		return &a
	}
	return map[string]*Anaconda{
		"attended":   &base,
		"unattended": with(func(a *Anaconda) { a.Unattended = true }),
		"btrfs":      with(func(a *Anaconda) { a.Unattended, a.RootFS = true, "btrfs" }),
		"all":        with(func(a *Anaconda) { a.Unattended, a.Customizations = true, all }),
		"own":        with(func(a *Anaconda) { a.Own = "lang en_US.UTF-8\nautopart\n%post\necho\n%end" }),
		"odd target": with(func(a *Anaconda) { a.Transport, a.Target = "oci", "/path/with 'quotes'" }),
	}
}

const switchPost = `%post --erroronfail
set -e
bootc switch --mutate-in-place --transport registry registry.example.com/os:1
# what tests of media wait for
if [ -c /dev/ttyS0 ]; then
  echo "Install finished" > /dev/ttyS0 || true
fi
%end
`

// What bootc-image-builder writes, line for line, but for what is safer.
func TestAnacondaFiles(t *testing.T) {
	for name, want := range map[string][2]string{
		"attended": {"%include /run/install/repo/osbuild-base.ks\n",
			"ostreecontainer --url=/run/install/repo/container --transport=oci\nlang en_US.UTF-8\nkeyboard us\ntimezone UTC --utc\n" +
				"network --device=link --bootproto=dhcp --onboot=on --activate\n" + switchPost},
		"unattended": {"%include /run/install/repo/osbuild-base.ks\nautopart --nohome --type=plain --fstype=xfs\nreboot --eject\n",
			"ostreecontainer --url=/run/install/repo/container --transport=oci\nrootpw --lock\nlang en_US.UTF-8\nkeyboard us\ntimezone UTC --utc\nclearpart --all\n" +
				"network --device=link --bootproto=dhcp --onboot=on --activate\n" + switchPost},
		"btrfs": {"%include /run/install/repo/osbuild-base.ks\nautopart --nohome --type=btrfs\nreboot --eject\n", ""},
		"own": {"%include /run/install/repo/osbuild-base.ks\nlang en_US.UTF-8\nautopart\n%post\necho\n%end\n",
			"ostreecontainer --url=/run/install/repo/container --transport=oci\n" + switchPost},
		"all": {"", `ostreecontainer --url=/run/install/repo/container --transport=oci
group --name=ops --gid=2000
group --name=x
rootpw --iscrypted '$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/'
sshkey --username=root 'ssh-ed25519 AAAA root@example.com'
user --name=admin --gecos='It'\''s #1' --shell=/bin/zsh --homedir=/home/admin --uid=1500 --gid=2000 --groups=wheel,ops --iscrypted --password='$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/'
sshkey --username=admin 'ssh-ed25519 AAAA a'
sshkey --username=admin 'ssh-rsa BBBB b'
user --name=locked --lock
sshkey --username=admin 'ssh-ed25519 CCCC'
sshkey --username=root 'ssh-ed25519 DDDD'
sshkey --username=root 'ssh-rsa EEEE'
lang de_DE.UTF-8 --addsupport=en_US.UTF-8
keyboard de
timesource --ntp-server=ntp.example.com
timezone Europe/Berlin --utc
services --disabled=cups --enabled=sshd
firewall --enabled --port=80:tcp --port=imap:tcp --service=https --remove-service=ssh
clearpart --all
network --device=link --bootproto=dhcp --onboot=on --activate --hostname=host.example.com
bootloader --append='a=b "c=d e" f='\''g'\'''
` + switchPost + `%post --erroronfail
set -e
mkdir -p /etc/sudoers.d
printf '%s\tALL=(ALL)\tNOPASSWD: ALL\n' %wheel >/etc/sudoers.d/%wheel
chmod 0440 /etc/sudoers.d/%wheel
printf '%s\tALL=(ALL)\tNOPASSWD: ALL\n' admin >/etc/sudoers.d/admin
chmod 0440 /etc/sudoers.d/admin
restorecon -rF /etc/sudoers.d || true
%end
`},
	} {
		main, base := anacondas()[name].Files()
		if d := cmp.Diff(want[0], main); d != "" && want[0] != "" {
			t.Errorf("%s: %s", name, d)
		}
		if d := cmp.Diff(want[1], base); d != "" && want[1] != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// All of it is what Anaconda reads.
func TestAnacondaSyntax(t *testing.T) {
	var texts, names []string
	for name, a := range anacondas() {
		main, base := a.Files()
		texts, names = append(texts, main, base, strings.Replace(main, "%include /run/install/repo/osbuild-base.ks\n", base, 1)), append(names, name, name, name)
	}
	answers, err := pykickstart.Check(texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, answer := range answers {
		if answer != "" {
			t.Errorf("%s: %s\n%s", names[i], answer, texts[i])
		}
	}
}

func TestCheckOwn(t *testing.T) {
	warnings, err := CheckOwn("ks.cfg", "text\nfrobnicate\npart / --onpart=sda1\n%packages\n@core\n%end\n%include /tmp/x\n%addon x\n%end\n")
	if err != nil || len(warnings) != 1 || warnings[0] != `ks.cfg: line 2: no command "frobnicate"` {
		t.Errorf("%q, %v", warnings, err)
	}
	_, err = CheckOwn("ks.cfg", "text\nostreecontainer --url=x\n")
	if err == nil || fault.ClassOf(err) != fault.Config || !strings.HasPrefix(err.Error(), "ks.cfg: line 2: ostreecontainer: the medium installs its own container") {
		t.Error(err)
	}
}
