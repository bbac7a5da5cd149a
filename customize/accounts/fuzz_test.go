package accounts

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// Reading and writing a file changes nothing, and entries can be found and changed
// whatever stands beside them.
func FuzzTable(f *testing.F) {
	for _, s := range []string{
		"", "\n", "root:x:0:0:root:/root:/bin/bash\n", "root:x:0:\n+\n-x\nusers:x:100:a,b", "a:!:1:::::\na:!:1::::::\n", "z:300000:65536\n\nz:1:0\n",
		"root:::\n# c\nroot:!::x,\n", "a:x:99999999999:1:::\na:x:4294967295:007:::\n", strings.Repeat(":", 100),
	} {
		f.Add(s)
	}
	kinds := []struct {
		valid func([]string) bool
		entry []string
		ids   []int
	}{
		{validPasswd, []string{"name", "x", "7", "8", "", "/", "/bin/sh"}, []int{pwUID, pwGID}},
		{validShadow, []string{"name", "!", "1", "", "", "", "", "", ""}, nil},
		{validGroup, []string{"name", "x", "7", "a,b"}, []int{grGID}},
		{validGshadow, []string{"name", "!", "", ""}, nil},
		{validSubID, []string{"name", "100000", "65536"}, nil},
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := text
		if text != "" && !strings.HasSuffix(text, "\n") {
			want += "\n"
		}
		for _, k := range kinds {
			table := newTable("/etc/x", 0o644, k.valid, text)
			table.ids = k.ids
			if got := string(table.encode()); got != want {
				t.Fatalf("%q is written as %q", text, got)
			}
			if !k.valid(k.entry) {
				t.Fatalf("%q is no entry", k.entry)
			}
			if err := table.update(k.entry); err != nil {
				if !table.twice["name"] {
					t.Fatal(err)
				}
				continue
			}
			again := newTable("/etc/x", 0o644, k.valid, string(table.encode()))
			if !slices.Equal(again.find("name"), k.entry) {
				t.Fatalf("%q after an update: %q", text, again.find("name"))
			}
			if start, err := table.freeRange(100000, 600000, 65536); len(k.entry) == subFields && err == nil && (start < 100000 || start > 600000-65535) {
				t.Fatalf("range at %d", start)
			}
		}
	})
}

// The settings of an image, whatever they are, give ids in their ranges or an
// error, and never a file that shadow could not read.
func FuzzSettings(f *testing.F) {
	seed := fedora()
	f.Add(seed["etc/login.defs"], seed["etc/default/useradd"], seed["etc/nsswitch.conf"], seed["usr/lib/sysusers.d/a.conf"], seed["usr/lib/group"])
	f.Add("UID_MIN 0x10\nUID_MAX 010\nHOME_MODE \"0700\"\nUMASK -1\nSUB_UID_COUNT 0\nSUB_UID_DETERMINISTIC yes\n", "GROUP=\nEXPIRE=2030-01-01\nINACTIVE=x\nHOME=\n", "passwd: [[", "u a 1:b\ng\n\"", "")
	f.Add("UID_MIN 4294967295\nUID_MAX 4294967295\nGID_MAX 4294967295\n", "SKEL=/var\nUSRSKEL=/\nSHELL=a:b\n", "", "u! x - \"\\\\\"\n", "+\n-\n")
	f.Add("", "SHELL=a:b\nHOME=var/home\n", seed["etc/nsswitch.conf"], "g libvirt -\nu db - \"a:b\" / -\n", "wheel:x:1:a\n")
	f.Add("", "HOME=/var/h\x00\n", seed["etc/nsswitch.conf"], "", "")
	f.Fuzz(func(t *testing.T, defs, useradd, nss, sysusers, groups string) {
		sys := system(t, map[string]string{
			"etc/login.defs": defs, "etc/default/useradd": useradd, "etc/nsswitch.conf": nss, "usr/lib/sysusers.d/a.conf": sysusers, "usr/lib/group": groups,
		})
		_, err := Apply(sys, []User{{Name: "alice", Groups: []string{"libvirt"}, Keys: []string{someKey}}, {Name: "db"}, {Name: "root", Keys: []string{someKey}}}, []Group{{Name: "team"}})
		if err != nil {
			return
		}
		for file, fields := range map[string]int{"passwd": pwFields, "shadow": spFields, "group": grFields, "gshadow": sgFields, "subuid": subFields, "subgid": subFields} {
			text, err := sys.ReadFile("/etc/"+file, maxTable)
			if err != nil {
				t.Fatal(err)
			}
			for l := range strings.Lines(string(text)) {
				if strings.Count(l, ":") != fields-1 {
					t.Fatalf("/etc/%s has the line %q", file, l)
				}
			}
		}
	})
}

// A key that is accepted is one line.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"", someKey, otherKey, "a\nb", `x="`, `x="\" `, "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwECAw==", " \t\r\n"} {
		f.Add(s, "old")
	}
	f.Fuzz(func(t *testing.T, key, old string) {
		if checkKey(key) != nil {
			return
		}
		text := string(appendKeys([]byte(old), []string{key}))
		if rest, ok := strings.CutPrefix(text, old); !ok || strings.Count(strings.TrimPrefix(rest, "\n"), "\n") > 1 {
			t.Fatalf("%q after %q: %q", key, old, text)
		}
	})
}

// What Validate lets pass, Apply takes without an error of its own.
func FuzzUser(f *testing.F) {
	f.Add("alice", "Alice", "secret", "/var/home/alice", "/bin/bash", "wheel", int64(1000), int64(100), int64(30000))
	f.Add("root", "a:b", someHash, "/", "", "", int64(0), int64(-1), int64(-1))
	f.Add("mail", "", "", "", "/bin/nosuch", "1000", int64(1)<<40, int64(65535), int64(0))
	f.Fuzz(func(t *testing.T, name, description, password, home, shell, group string, uid, gid, date int64) {
		u := User{Name: name, Description: &description, Home: &home, Shell: &shell, Groups: []string{group}, UID: &uid, GID: &gid, ExpireDate: &date, Keys: []string{someKey}}
		if password == "" || password[0] == '$' || password[0] == '!' { // a hash takes too long to make
			u.Password = &password
		}
		sys := system(t, map[string]string{"etc/login.defs": "ENCRYPT_METHOD SHA256\nSHA_CRYPT_MAX_ROUNDS 1000\n"})
		if _, err := Apply(sys, []User{u}, []Group{{Name: "team"}}); err != nil {
			var p Problems
			if !errors.As(err, &p) || len(p) == 0 {
				t.Fatalf("%+v: %v", u, err)
			}
			return
		}
		text, _ := sys.ReadFile("/etc/passwd", maxTable)
		for l := range strings.Lines(string(text)) {
			if strings.Count(l, ":") != pwFields-1 {
				t.Fatalf("%q", l)
			}
		}
	})
}
