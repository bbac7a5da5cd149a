package firewalld

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/tree"
)

// offline returns the path of firewall-offline-cmd and the directory of the
// package that it is from.
func offline(t testing.TB) (program, lib string) {
	t.Helper()
	program, err := exec.LookPath("firewall-offline-cmd")
	if err != nil {
		t.Fatalf("%v: make tools fetches it", err)
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		t.Fatal(err)
	}
	lib = filepath.Join(filepath.Dir(real), "../root/usr/lib/firewalld")
	if _, err := os.Stat(lib); err != nil {
		t.Fatalf("%v: put .cache/tools/bin of make tools first in PATH", err)
	}
	return program, lib
}

// image returns a system with the firewalld of a package, and the files of /etc
// by name below it.
func image(t testing.TB, lib string, files map[string]string) *customize.System {
	t.Helper()
	root, etc := tree.NewDir(0o755), tree.NewDir(0o755)
	put := func(dir *tree.Inode, p, text string) {
		if err := tree.Put(dir, p, tree.NewFile(0o644, content.String(text))); err != nil {
			t.Fatal(err)
		}
	}
	put(root, "usr/sbin/firewalld", "x")
	for _, kind := range []string{"zones", "services", "policies", "ipsets"} {
		entries, err := os.ReadDir(filepath.Join(lib, kind))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(lib, kind, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			put(root, "usr/lib/firewalld/"+kind+"/"+e.Name(), string(text))
		}
	}
	services, err := os.ReadFile("/etc/services")
	if err == nil {
		put(etc, "services", string(services))
	}
	for _, kind := range []string{"zones", "services", "policies"} {
		if _, err := tree.MkdirAll(etc, "firewalld/"+kind); err != nil {
			t.Fatal(err)
		}
	}
	put(etc, "firewalld/firewalld.conf", "DefaultZone=public\n")
	for p, text := range files {
		put(etc, "firewalld/"+p, text)
	}
	return customize.New(root, etc, tree.NewDir(0o755), 0, func(string) []byte { return nil })
}

// real calls firewall-offline-cmd as osbuild's stage does, and returns the zone
// files, or ok false where a call fails.
func real(t testing.TB, program, lib string, files map[string]string, c Config) (zones map[string]string, ok bool, said string) {
	t.Helper()
	dir := t.TempDir()
	write := func(p, text string) {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("firewalld.conf", "DefaultZone=public\n")
	for _, kind := range []string{"zones", "services", "policies", "helpers", "icmptypes", "ipsets"} {
		if err := os.MkdirAll(filepath.Join(dir, kind), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for p, text := range files {
		write(p, text)
	}
	call := func(args ...string) int {
		cmd := exec.Command(program, append([]string{"--system-config", dir, "--default-config", lib}, args...)...)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		said += strings.Join(args, " ") + ": " + string(out)
		if _, isExit := err.(*exec.ExitError); err != nil && !isExit {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode()
	}
	if len(c.Ports)+len(c.Enabled)+len(c.Disabled) > 0 {
		var args []string
		for _, p := range c.Ports {
			args = append(args, "--port="+p)
		}
		for _, s := range c.Enabled {
			args = append(args, "--service="+s)
		}
		for _, s := range c.Disabled {
			args = append(args, "--remove-service="+s)
		}
		if call(args...) != 0 {
			return nil, false, said
		}
	}
	for _, z := range c.Zones {
		// osbuild asks with --info-zone; each call takes most of a second.
		_, inEtc := os.Stat(filepath.Join(dir, "zones", z.Name+".xml"))
		_, inLib := os.Stat(filepath.Join(lib, "zones", z.Name+".xml"))
		if inEtc != nil && inLib != nil && call("--new-zone="+z.Name) != 0 {
			return nil, false, said
		}
		args := []string{"--zone=" + z.Name}
		for _, s := range z.Sources {
			args = append(args, "--add-source="+s)
		}
		if call(args...) != 0 {
			return nil, false, said
		}
	}
	zones = map[string]string{}
	entries, err := os.ReadDir(filepath.Join(dir, "zones"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".old") {
			continue // what firewalld keeps of the file before
		}
		text, err := os.ReadFile(filepath.Join(dir, "zones", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		zones[e.Name()] = string(text)
	}
	return zones, true, said
}

// ours returns the zone files that this package leaves.
func ours(t testing.TB, sys *customize.System) map[string]string {
	t.Helper()
	zones := map[string]string{}
	for _, e := range sys.Lookup("/etc/firewalld/zones").Entries() {
		text, err := e.Inode.Content.ReadAll(maxZone)
		if err != nil {
			t.Fatal(err)
		}
		zones[e.Name] = string(text)
	}
	return zones
}

func compare(t *testing.T, files map[string]string, c Config) (warnings customize.Problems, err error) {
	t.Helper()
	program, lib := offline(t)
	want, ok, said := real(t, program, lib, files, c)
	sys := image(t, lib, files)
	warnings, err = Apply(sys, c)
	if (err == nil) != ok {
		t.Fatalf("%+v: firewall-offline-cmd %v\n%s\nthis: %v", c, ok, said, err)
	}
	if err != nil {
		return warnings, err
	}
	got := ours(t, sys)
	if _, has := got["public.xml"]; !has {
		// --new-zone writes the default zone as well, as it is.
		z, err := (&firewall{sys: sys, known: services{}}).read("public")
		if err != nil {
			t.Fatal(err)
		}
		if want["public.xml"] == string(z.encode()) {
			delete(want, "public.xml")
		}
	}
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%+v: %s: got\n%s\nwant\n%s\n%s", c, name, got[name], want[name], said)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%+v: %d zones, want %d", c, len(got), len(want))
	}
	return warnings, err
}

// everything is a zone file with everything that one can have.
const everything = `<?xml version="1.0" encoding="utf-8"?>
<!-- all of it -->
<zone target="DROP" version="1" ingress-priority="5">
  <forward/>
  <short>A &amp; B &lt;"'&gt;</short>
  <description>Two
lines</description>
  <source address="192.0.2.0/24"/><source address="00:11:22:33:44:55"/>
  <interface name="eth0"/>
  <port port="10" protocol="tcp"/><port port="5-9" protocol="tcp"/><port port="8-12" protocol="tcp"/><port port="8" protocol="udp"/>
  <service name="ssh"/><service name="ssh"/>
  <protocol value="igmp"/>
  <icmp-block name="echo-request"/>
  <icmp-block-inversion/>
  <masquerade/>
  <forward-port port="80" protocol="tcp" to-port="8080"/>
  <forward-port port="81" protocol="tcp" to-addr="192.0.2.9"/>
  <source-port port="53" protocol="udp"/>
  <rule family="ipv4"><accept><limit value="1/s" burst="5"/></accept><service name="http"/><source address="10.0.0.0/8" invert="yes"/><log prefix="a b" level="info"/></rule>
  <rule priority="7"><drop/><port port="99" protocol="tcp"/></rule>
</zone>
`

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		files map[string]string
		c     Config
		fails string
		warns string
	}{
		{c: Config{Ports: []string{"8080:tcp", "6000-6010:udp", "8080:tcp", "22:sctp"}}},
		{c: Config{Ports: []string{"10-5:tcp", "0:tcp", "65535:dccp"}}},
		{c: Config{Ports: []string{"65536:tcp"}}, fails: "firewall.ports[0]: port 65536 is larger"},
		{c: Config{Ports: []string{"70000-80000:tcp"}}, fails: "larger"},
		{c: Config{Ports: []string{"nosuch:tcp"}}, fails: "neither a number"},
		{c: Config{Ports: []string{"80:icmp"}}, fails: "one of the protocols"},
		{c: Config{Ports: []string{"80"}}, fails: "not a port with its protocol"},
		{c: Config{Enabled: []string{"https", "ssh"}, Disabled: []string{"dhcpv6-client"}}},
		{c: Config{Enabled: []string{"nosuch"}}, fails: "firewall.services.enabled[0]: firewalld of the image knows no service nosuch"},
		{c: Config{Disabled: []string{"nosuch"}}, warns: "not enabled in zone public"},
		{c: Config{Zones: []Zone{{"work", []string{"10.0.0.0/8", "2001:db8::/32", "ipset:x", "00:aa:BB:cc:dd:ee"}}}}, warns: "no ipset x"},
		{c: Config{Zones: []Zone{{"mine", []string{"10.0.0.1"}}, {"other-1", []string{"10.0.0.2/255.255.255.0"}}, {"mine", []string{"10.0.0.1", "10.0.0.3"}}}}},
		{c: Config{Zones: []Zone{{"allow-host-ipv6", []string{"10.0.0.1"}}}}, fails: "is a policy"},
		{c: Config{Ports: []string{"80-82:tcp", "81-90:tcp"}, Zones: []Zone{{"public", []string{"fe80::1"}}}}},
		{files: map[string]string{"zones/public.xml": everything}, c: Config{Ports: []string{"1000:tcp"}, Disabled: []string{"ssh"}}},
		{files: map[string]string{"zones/full.xml": everything}, c: Config{Zones: []Zone{{"full", []string{"192.0.2.0/24", "198.51.100.7"}}}}},
		{files: map[string]string{"zones/full.xml": everything}, c: Config{Zones: []Zone{{"work", []string{"192.0.2.0/24"}}}}, fails: "firewall.zones[0].sources[0]: 192.0.2.0/24 is a source of zone full"},
		{files: map[string]string{"firewalld.conf": "# x\n;y\nDefaultZone = work\nDefaultZone=home\n"}, c: Config{Ports: []string{"1:tcp"}}},
		{files: map[string]string{"services/mine.xml": "<service><port port=\"1\" protocol=\"tcp\"/></service>\n"}, c: Config{Enabled: []string{"mine"}}},
	} {
		warnings, err := compare(t, tc.files, tc.c)
		if err != nil && (tc.fails == "" || !strings.Contains(err.Error(), tc.fails)) {
			t.Errorf("%+v: error %v, want %s", tc.c, err, tc.fails)
		}
		if !strings.Contains(warnings.Error(), tc.warns) {
			t.Errorf("%+v: warnings %v, want %s", tc.c, warnings, tc.warns)
		}
	}
}

// TestGenerated compares with firewall-offline-cmd on random zones and settings.
func TestGenerated(t *testing.T) {
	n := 4
	if testing.Short() {
		n = 2
	}
	for seed := range n {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		pick := func(s ...string) string { return s[rng.IntN(len(s))] }
		var lines []string
		for range rng.IntN(8) {
			lines = append(lines, pick(`<port port="80" protocol="tcp"/>`, `<port port="70-90" protocol="tcp"/>`, `<port port="90-99" protocol="tcp"/>`, `<service name="ssh"/>`,
				`<service name="https"/>`, `<source address="10.1.0.0/16"/>`, `<interface name="eth1"/>`, `<forward/>`, `<masquerade/>`, `<protocol value="17"/>`))
		}
		var c Config
		for range rng.IntN(4) {
			c.Ports = append(c.Ports, fmt.Sprintf("%d-%d:%s", rng.IntN(120), rng.IntN(120), pick("tcp", "udp")))
		}
		for range rng.IntN(3) {
			c.Enabled = append(c.Enabled, pick("ssh", "https", "http", "ipp"))
		}
		c.Zones = append(c.Zones, Zone{pick("public", "home"), []string{pick("10.2.0.0/16", "10.3.0.0/16", "::1/128")}})
		if _, err := compare(t, map[string]string{"zones/public.xml": "<zone>" + strings.Join(lines, "\n") + "</zone>"}, c); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, lines)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{Config{Ports: []string{"imap:tcp"}, Enabled: []string{"a.b+c-d"}, Zones: []Zone{{"z", []string{"[::1]", "1.2.3.4/0"}}}}, ""},
		{Config{Ports: []string{":tcp"}}, "firewall.ports[0]"},
		{Config{Ports: []string{"1:tcp:udp"}}, "firewall.ports[0]"},
		{Config{Enabled: []string{"../x"}}, "firewall.services.enabled[0]"},
		{Config{Enabled: []string{"a"}, Disabled: []string{"a"}}, "firewall.services.disabled[0]: a is in firewall.services.enabled as well"},
		{Config{Zones: []Zone{{"", []string{"::1"}}}}, "firewall.zones[0].name: is missing"},
		{Config{Zones: []Zone{{"a/b", []string{"::1"}}}}, "firewall.zones[0].name"},
		{Config{Zones: []Zone{{strings.Repeat("x", 97), []string{"::1"}}}}, "firewall.zones[0].name"},
		{Config{Zones: []Zone{{"a", nil}}}, "firewall.zones[0].sources: is missing"},
		{Config{Zones: []Zone{{"a", []string{"::1"}}, {"b", []string{"::2", "::1"}}}}, "firewall.zones[1].sources[1]: ::1 is a source of zone a already"},
	} {
		p := Validate(tc.c)
		if (len(p) == 0) != (tc.want == "") || !strings.Contains(p.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s", tc.c, p, tc.want)
		}
	}
	for s, ok := range map[string]bool{
		"10.0.0.0/8": true, "10.0.0.0/33": false, "10.0.0": false, "10.0.0.0/": false, "/8": false, "10.0.0.0/255.0.0.0": true, "::1": true, "::1/129": false,
		"fe80::1%eth0": false, "[::1]/64": true, "ipset:": false, "ipset:../x": false, "ipset:a": true, "00:11:22:33:44:5g": false, "": false, "host": false,
	} {
		if err := checkSource(s); (err == nil) != ok {
			t.Errorf("source %q: %v", s, err)
		}
	}
}

// Names of services in /etc/services, which may have hyphens.
func TestServiceNames(t *testing.T) {
	s := services{"imap": 143, "a-b": 5, "b-c": 9, "a": 7, "c": 3}
	for name, want := range map[string]string{"imap": "143", "imap-200": "143-200", "a-b": "5", "a-b-c": "can be read", "1-imap": "1-143", "x": "neither", "5-5": "5"} {
		got, err := s.span(name)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && got.String() != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Strings are quoted as Python quotes them.
func TestQuote(t *testing.T) {
	for s, want := range map[string]string{"a": `"a"`, `a"b`: `'a"b'`, `a'b`: `"a'b"`, `'"`: `"'&quot;"`, "<&>\n\t": `"&lt;&amp;&gt;&#10;&#9;"`} {
		if got := quote(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	root := tree.NewDir(0o755)
	if err := tree.Put(root, "usr/bin/apt-get", tree.NewFile(0o755, content.Ref{})); err != nil {
		t.Fatal(err)
	}
	sys := customize.New(root, tree.NewDir(0o755), tree.NewDir(0o755), 0, nil)
	_, err := Apply(sys, Config{Ports: []string{"1:tcp"}})
	if fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "apt-get install -y firewalld") {
		t.Errorf("%v, hint %s", err, fault.HintOf(err))
	}
	if _, err := Apply(sys, Config{}); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
}

func FuzzZone(f *testing.F) {
	f.Add([]byte(everything))
	f.Add([]byte("<zone><rule/></zone>"))
	f.Add([]byte("<zone><port port='a-b' protocol='tcp'/></zone>"))
	f.Fuzz(func(t *testing.T, text []byte) {
		known := services{"a": 1, "b": 2}
		z, err := parseZone(text, known)
		if err != nil {
			return
		}
		once := z.encode()
		again, err := parseZone(once, known)
		if err != nil {
			if bytes.ContainsAny(text, "\x00") {
				return
			}
			t.Fatalf("%v\n%s", err, once)
		}
		if twice := again.encode(); !bytes.Equal(once, twice) {
			t.Errorf("%s\n%s", once, twice)
		}
		defaultZone(text)
	})
}
