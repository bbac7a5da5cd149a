package grub

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The image for a CD is what grub-mkimage makes, but for the compressed bytes.
func TestCDEqualsMkimage(t *testing.T) {
	root := hostTree(t, hostModules)
	out := filepath.Join(t.TempDir(), "cd.img")
	args := append([]string{"-O", "i386-pc-eltorito", "-d", "/" + hostModules, "-p", "/boot/grub2", "-o", out}, CDModules()...)
	if text, err := exec.Command("grub-mkimage", args...).CombinedOutput(); err != nil {
		t.Fatalf("grub-mkimage: %v\n%s", err, text)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ComposeCD(root, hostModules, CoreOptions{Modules: CDModules(), Prefix: "/boot/grub2"})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[:sizeCDBoot], want[:sizeCDBoot]) {
		t.Error("cdboot.img differs")
	}
	const decompressor = 2848
	first, raw, payload := unpack(t, got[sizeCDBoot:], decompressor)
	wantFirst, wantRaw, wantPayload := unpack(t, want[sizeCDBoot:], decompressor)
	copy(first[blockListFirst+8:blockListFirst+10], wantFirst[blockListFirst+8:]) // sectors of the stream
	if !bytes.Equal(first, wantFirst) || !bytes.Equal(raw, wantRaw) || !bytes.Equal(payload, wantPayload) {
		t.Errorf("differs from grub-mkimage's: first sector %t, decompressor %t, payload %t", !bytes.Equal(first, wantFirst), !bytes.Equal(raw, wantRaw), !bytes.Equal(payload, wantPayload))
	}
	mbr, err := HybridBootCode(root, hostModules)
	if err != nil || len(mbr) != sizeSector {
		t.Errorf("boot_hybrid.img: %d bytes, %v", len(mbr), err)
	}
}

// scriptCheck has GRUB's parser read a configuration.
func scriptCheck(t *testing.T, text []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "grub.cfg")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("grub-script-check", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

func TestMediumConfig(t *testing.T) {
	m := MediumMenu{VolumeID: "Fedora-S-dvd-x86_64-43", Timeout: 60, Default: 3, Entries: []MediumEntry{
		{Title: "Install Bob's OS", Kernel: "/images/pxeboot/vmlinuz", Initrd: []string{"/images/pxeboot/initrd.img", "/more img"}, Args: []string{"inst.ks=hd:LABEL=X:/a", "a=b c", "x=${y}"}},
		{Title: "One", Submenu: "Other ways", Kernel: "/k"},
		{Title: "Two", Submenu: "Other ways", Kernel: "/k"},
		{Title: "Three", Submenu: "Third", Kernel: "/k"},
		{Title: "Next device", Exit: true},
	}}
	text, err := MediumConfig(m)
	if err != nil {
		t.Fatal(err)
	}
	scriptCheck(t, text)
	for _, want := range []string{
		"search --no-floppy --set=root --label 'Fedora-S-dvd-x86_64-43'\n", "set timeout=60\n", "set default='menu3>entry3'\n",
		`menuentry 'Install Bob'\''s OS' --id entry0 {`, "linux /images/pxeboot/vmlinuz inst.ks=hd:LABEL=X:/a 'a=b c' 'x=${y}' $kargs\n",
		"initrd /images/pxeboot/initrd.img '/more img'\n", "submenu 'Other ways' --id menu1 {\n", "  exit\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(string(text), "submenu "); n != 2 {
		t.Errorf("%d submenus", n)
	}
	scriptCheck(t, MediumStub("X"))
	for _, e := range []MediumEntry{{Title: "a\nb", Kernel: "/k"}, {Title: "none"}, {Title: "both", Kernel: "/k", Exit: true}, {Title: "x", Kernel: "/k", Args: []string{"a\nb"}}} {
		if _, err := MediumConfig(MediumMenu{Entries: []MediumEntry{e}}); err == nil {
			t.Errorf("%+v is not refused", e)
		}
	}
	if _, err := MediumConfig(MediumMenu{Default: 1, Entries: []MediumEntry{{Title: "x", Kernel: "/k"}}}); err == nil {
		t.Error("a default beyond the menu")
	}
}

func TestKargs(t *testing.T) {
	for _, args := range [][]string{nil, {"quiet"}, {"console=ttyS0,115200", "a=$b", "c={d}", "e;f", "#", "imgbuild.target=/dev/disk/by-id/x"}, {strings.Repeat("x", 3000)}} {
		b, err := Kargs(args)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != SizeKargs {
			t.Errorf("%d bytes", len(b))
		}
		scriptCheck(t, b)
		got, err := ParseKargs(b)
		if err != nil || !slices.Equal(got, args) {
			t.Errorf("%q becomes %q, %v", args, got, err)
		}
	}
	for _, bad := range []string{"", "a b", "a'b", `a"b`, `a\b`, "a\tb", strings.Repeat("x", SizeKargs)} {
		if _, err := Kargs([]string{bad}); err == nil {
			t.Errorf("%q is possible", bad)
		}
	}
	good, err := Kargs([]string{"quiet"})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"short": good[:SizeKargs-1], "empty": nil, "head": append([]byte("x"), good[1:]...),
		"comment": bytes.Replace(good, []byte("'\n##"), []byte("'\nx#"), 1), "end": bytes.Replace(good, []byte("'\n"), []byte("'#"), 1),
		"without a comment": []byte(kargsHead + strings.Repeat("x", SizeKargs-len(kargsHead)-len(kargsTail)) + kargsTail),
	} {
		if args, err := ParseKargs(b); err == nil {
			t.Errorf("%s: %q", name, args)
		}
	}
}

func FuzzParseKargs(f *testing.F) {
	b, err := Kargs([]string{"quiet", "a=b"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		args, err := ParseKargs(b)
		if err != nil {
			return
		}
		again, err := Kargs(args)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseKargs(again); err != nil || !slices.Equal(got, args) {
			t.Fatalf("%q becomes %q, %v", args, got, err)
		}
	})
}
