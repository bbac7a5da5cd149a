package firstboot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imgbuild/customize"
	"imgbuild/fault"
	"imgbuild/test/systems"
)

func image() map[string]string {
	return map[string]string{"usr/lib/systemd/systemd": "x", "usr/bin/bash": "x", "usr/bin/curl": "x"}
}

func TestApply(t *testing.T) {
	c := Config{Scripts: []Script{
		{Type: "custom", Contents: "echo 1"},
		{Type: "CUSTOM", Name: "named", Contents: "#!/usr/bin/python3\nprint(2)\n", IgnoreFailure: true, After: []string{"a.service"}, Before: []string{"b.service", "c.target"}},
		{Type: "custom", Contents: "echo 3\n"},
		{Type: "satellite", Command: "curl x | bash"},
		{Type: "aap", JobTemplateURL: "https://aap.example.com/t/9/callback/", HostConfigKey: "it's"},
	}}
	sys := systems.System(t, image())
	if _, err := Apply(sys, c); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		"etc/imgbuild/first-boot/custom-1":                                            "#!/usr/bin/bash\necho 1\n",
		"etc/imgbuild/first-boot/named":                                               "#!/usr/bin/python3\nprint(2)\n",
		"etc/imgbuild/first-boot/custom-2":                                            "#!/usr/bin/bash\necho 3\n",
		"etc/imgbuild/first-boot/satellite":                                           "#!/usr/bin/bash\ncurl x | bash\n",
		"etc/imgbuild/first-boot/aap":                                                 "#!/usr/bin/bash\ncurl -i --data 'host_config_key=it'\\''s' 'https://aap.example.com/t/9/callback/'\n",
		"etc/systemd/system/multi-user.target.wants/osbuild-first-boot-named.service": "-> /etc/systemd/system/osbuild-first-boot-named.service",
		"etc/systemd/system/osbuild-first-boot-named.service": "[Unit]\nDescription=First boot: named\nConditionPathExists=/run/imgbuild-first-boot\nWants=network-online.target\n" +
			"Requires=osbuild-first-boot-custom-1.service\nAfter=network-online.target osbuild-first-boot-custom-1.service a.service\nBefore=b.service c.target\n\n" +
			"[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=infinity\nExecStart=-/etc/imgbuild/first-boot/named\n\n[Install]\nWantedBy=multi-user.target\n",
	} {
		if got := systems.Text(t, sys, p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	if i := sys.Lookup("/etc/imgbuild/first-boot/aap"); i.Perm() != 0o700 {
		t.Errorf("mode %o", i.Perm())
	}
	if sys.Lookup(stamp) == nil {
		t.Error("no stamp")
	}
	verify(t, sys)
}

// verify has systemd read the units.
func verify(t *testing.T, sys *customize.System) {
	t.Helper()
	program, err := exec.LookPath("systemctl")
	if err != nil {
		t.Fatalf("%v: make tools fetches it", err)
	}
	dir := t.TempDir()
	at := filepath.Join(dir, "etc/systemd/system")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range sys.Lookup(unitDir).Entries() {
		if !e.Inode.IsFile() {
			continue
		}
		n++
		if err := os.WriteFile(filepath.Join(at, e.Name), []byte(systems.Text(t, sys, unitDir+"/"+e.Name)), 0o644); err != nil {
			t.Fatal(err)
		}
		want := "enabled"
		if e.Name == startUnit {
			want = "static"
		} else if err := os.MkdirAll(filepath.Join(at, "multi-user.target.wants"), 0o755); err != nil {
			t.Fatal(err)
		} else if err := os.Symlink(unitDir+"/"+e.Name, filepath.Join(at, "multi-user.target.wants", e.Name)); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(program, "--root="+dir, "is-enabled", e.Name).CombinedOutput()
		if strings.TrimSpace(string(out)) != want {
			t.Errorf("%s is %q, want %s", e.Name, out, want)
		}
	}
	if n != 6 {
		t.Errorf("%d units", n)
	}
}

func TestValidate(t *testing.T) {
	ok := Script{Type: "custom", Contents: "x"}
	with := func(change func(*Script)) Config {
		s := ok
		change(&s)
		return Config{Scripts: []Script{ok, s}}
	}
	for _, tc := range []struct {
		c    Config
		want string
	}{
		{with(func(s *Script) { s.Name = "a-b_C1" }), ""},
		{with(func(s *Script) { s.Type = "other" }), "firstboot.scripts[1].type"},
		{with(func(s *Script) { s.Contents = "" }), "firstboot.scripts[1].contents: is missing"},
		{with(func(s *Script) { s.Contents = strings.Repeat("x", maxScript+1) }), "firstboot.scripts[1].contents"},
		{with(func(s *Script) { s.Name = "a/b" }), "firstboot.scripts[1].name"},
		{with(func(s *Script) { s.Name = "custom-1" }), "custom-1 is reserved"},
		{with(func(s *Script) { s.Name = "aap" }), "aap is reserved"},
		{with(func(s *Script) { s.After = []string{"a.service", "network"} }), "firstboot.scripts[1].after[1]"},
		{with(func(s *Script) { s.Before = []string{"a.service\nExecStart=x"} }), "firstboot.scripts[1].before[0]"},
		{with(func(s *Script) { s.Type = "satellite" }), "firstboot.scripts[1].command: is missing"},
		{with(func(s *Script) { s.Type, s.HostConfigKey = "aap", "k" }), "firstboot.scripts[1].job_template_url"},
		{with(func(s *Script) { s.Type, s.JobTemplateURL = "aap", "https://example.com" }), "firstboot.scripts[1].host_config_key"},
		{with(func(s *Script) { s.CACerts = []string{"x"} }), "firstboot.scripts[1].cacerts[0]: there is no certificate"},
		{Config{Scripts: []Script{{Type: "satellite", Command: "a"}, {Type: "satellite", Command: "b"}}}, "there is a script satellite already"},
		{Config{Scripts: []Script{{Type: "custom", Name: "a", Contents: "a"}, {Type: "custom", Name: "a", Contents: "b"}}}, "firstboot.scripts[1].name"},
	} {
		if p := Validate(tc.c); (len(p) == 0) != (tc.want == "") || !strings.Contains(p.Error(), tc.want) {
			t.Errorf("%v, want %s", p, tc.want)
		}
	}
}

func TestRefused(t *testing.T) {
	files := image()
	delete(files, "usr/bin/curl")
	_, err := Apply(systems.System(t, files), Config{Scripts: []Script{{Type: "aap", JobTemplateURL: "https://example.com", HostConfigKey: "k"}}})
	if fault.ClassOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "firstboot.scripts[0].type: there is no curl") {
		t.Errorf("%v", err)
	}
	if _, err := Apply(systems.System(t, nil), Config{Scripts: []Script{{Type: "custom", Contents: "x"}}}); fault.ClassOf(err) != fault.Unsupported {
		t.Errorf("%v", err)
	}
	if _, err := Apply(systems.System(t, nil), Config{}); err != nil {
		t.Errorf("%v", err)
	}
}
