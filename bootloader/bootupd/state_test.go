package bootupd

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"imgbuild/content"
	"imgbuild/tree"
)

// put makes a file in a tree.
func put(t testing.TB, root *tree.Inode, path, text string) {
	t.Helper()
	if err := tree.Put(root, path, tree.NewFile(0o644, content.String(text))); err != nil {
		t.Fatal(err)
	}
}

// golden is a state file as serde_json writes it for bootupd 0.2.35; the
// digests are those that sha512sum prints for "shim" and "grub".
const golden = `{"installed":{` +
	`"BIOS":{"meta":{"timestamp":"2026-03-01T08:00:00Z","version":"grub2-tools-1:2.12-41.fc44.x86_64","versions":[{"name":"grub2","rpm_evr":"1:2.12-41.fc44"}]},"filetree":null,"adopted-from":null},` +
	`"EFI":{"meta":{"timestamp":"2026-03-02T09:00:00.500Z","version":"grub2-1:2.12-41.fc44,shim-15.8-4","versions":[{"name":"grub2","rpm_evr":"1:2.12-41.fc44"},{"name":"shim","rpm_evr":"15.8-4"}]},` +
	`"filetree":{"children":{` +
	`"BOOT/BOOTX64.EFI":{"source":"shim/15.8-4/EFI/BOOT/BOOTX64.EFI","size":4,"sha512":"sha512:5d1ecd558fbfea91445de9070b4e88d8b6a45523452e35aeb1c63af569a35055f052631a9574b01a29f355fac49f7264a38d1d345e1a7e3845b4755eaa50ece0"},` +
	`"fedora/grubx64.efi":{"source":"grub2/1:2.12-41.fc44/EFI/fedora/grubx64.efi","size":4,"sha512":"sha512:f9689f873d8f39c28b5f0cb0625fc354c9e2ce332dd058540cd86a00a8238d2fa0d5b8688e587bd1f2f60b7ea5c41efab524d42fa4df0d1653b2edbaac624a43"},` +
	`"fedora/shimx64.efi":{"source":"shim/15.8-4/EFI/fedora/shimx64.efi","size":4,"sha512":"sha512:5d1ecd558fbfea91445de9070b4e88d8b6a45523452e35aeb1c63af569a35055f052631a9574b01a29f355fac49f7264a38d1d345e1a7e3845b4755eaa50ece0"}` +
	`}},"adopted-from":null}},"pending":null,"static-configs":{"timestamp":"1970-01-01T00:00:00Z","version":"unknown","versions":null}}`

func TestStateGolden(t *testing.T) {
	root := tree.NewDir(0o755)
	put(t, root, "usr/lib/bootupd/updates/BIOS.json", `{"timestamp":"2026-03-01T08:00:00Z","version":"grub2-tools-1:2.12-41.fc44.x86_64","versions":[{"name":"grub2","rpm_evr":"1:2.12-41.fc44"}]}`)
	put(t, root, "usr/lib/bootupd/updates/EFI.json", `{"timestamp":"2026-03-02T11:00:00.5+02:00","version":"grub2-1:2.12-41.fc44,shim-15.8-4","versions":[{"name":"grub2","rpm_evr":"1:2.12-41.fc44"},{"name":"shim","rpm_evr":"15.8-4"}], "new": true}`)
	put(t, root, "usr/lib/efi/shim/15.8-4/EFI/BOOT/BOOTX64.EFI", "shim")
	put(t, root, "usr/lib/efi/shim/15.8-4/EFI/fedora/shimx64.efi", "shim")
	put(t, root, "usr/lib/efi/grub2/1:2.12-41.fc44/EFI/fedora/grubx64.efi", "grub")

	payload, err := FindPayload(root)
	if err != nil {
		t.Fatal(err)
	}
	files, err := payload.FileStates()
	if err != nil {
		t.Fatal(err)
	}
	state := State{Installed: make(map[string]Installed), StaticConfigs: StaticConfigsMetadata()}
	for name, f := range map[string]map[string]FileState{EFI: files, BIOS: nil} {
		m, err := ReadMetadata(root, name)
		if err != nil || m == nil {
			t.Fatalf("%s: %v, %v", name, m, err)
		}
		state.Installed[name] = Installed{*m, f}
	}
	if got := string(state.Encode()); got != golden {
		t.Errorf("state\n%s, want\n%s", got, golden)
	}
	if err := json.Unmarshal(state.Encode(), new(map[string]any)); err != nil {
		t.Error(err)
	}

	state.StaticConfigs = nil // the text that ostree looks for
	if got := string(state.Encode()); !strings.HasSuffix(got, `,"pending":null,"static-configs":null}`) {
		t.Errorf("state %s", got)
	}
}

// TestString compares with what serde_json escapes.
func TestString(t *testing.T) {
	for s, want := range map[string]string{
		"a/b-c_1:2~^":     `"a/b-c_1:2~^"`,
		`"\`:              `"\"\\"`,
		"\b\f\n\r\t":      `"\b\f\n\r\t"`,
		"\x00\x1f":        `"\u0000\u001f"`,
		"<>&\u2028ä\x7f😀": "\"<>&\u2028ä\x7f😀\"",
	} {
		got := string(appendString(nil, s))
		if got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
		var back string
		if err := json.Unmarshal([]byte(got), &back); err != nil || back != s {
			t.Errorf("%q reads back as %q, %v", s, back, err)
		}
	}
}

func TestParseMetadata(t *testing.T) {
	m, err := ParseMetadata([]byte(`{"timestamp":"2024-01-01T00:00:00.123456789+01:00","version":"v"}`))
	want := &Metadata{Timestamp: time.Date(2023, 12, 31, 23, 0, 0, 123456789, time.UTC), Version: "v"}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, %v", m, err)
	}
	if got := string(appendMetadata(nil, m)); got != `{"timestamp":"2023-12-31T23:00:00.123456789Z","version":"v","versions":null}` {
		t.Errorf("encoded %s", got)
	}
	m.Timestamp, m.Versions = time.Unix(1, 1000).UTC(), []Module{}
	if got := string(appendMetadata(nil, m)); got != `{"timestamp":"1970-01-01T00:00:01.000001Z","version":"v","versions":[]}` {
		t.Errorf("encoded %s", got)
	}
	for _, text := range []string{
		"", "null", "[]", `{"version":"v"}`, `{"timestamp":"2024-01-01T00:00:00Z"}`,
		`{"timestamp":"yesterday","version":"v"}`, `{"timestamp":1,"version":"v"}`,
		`{"timestamp":"2024-01-01T00:00:00Z","version":"v","versions":[{"name":"x"}]}`,
		`{"timestamp":"2024-01-01T00:00:00Z","version":"v","versions":[null]}`,
		`{"timestamp":"2024-01-01T00:00:00Z","version":"v"} x`,
	} {
		if m, err := ParseMetadata([]byte(text)); err == nil {
			t.Errorf("%s: %+v", text, m)
		}
	}
}

func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`{"timestamp":"2024-01-01T00:00:00.5Z","version":"v","versions":[{"name":"a","rpm_evr":"1:2-3"}]}`))
	f.Add([]byte(`{"timestamp":"2024-01-01T00:00:00+01:00","version":"\u0001\ud800","versions":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMetadata(text)
		if err != nil {
			return
		}
		back, err := ParseMetadata(appendMetadata(nil, m))
		if err != nil || !reflect.DeepEqual(m, back) {
			t.Fatalf("%+v reads back as %+v, %v", m, back, err)
		}
	})
}
