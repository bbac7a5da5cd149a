package partition

import (
	"strings"
	"testing"
)

func TestGUID(t *testing.T) {
	for text, g := range map[string]GUID{
		"21686148-6449-6e6f-744e-656564454649": BIOSBoot,
		"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": ESP,
		"bc13c2ff-59e6-4262-a352-b275fd6f7172": XBOOTLDR,
		"9e1a2d38-c612-4316-aa26-8b49521e5a8b": PReP,
		"0fc63daf-8483-4772-8e79-3d69d8477de4": LinuxData,
		"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": Swap,
		"933ac7e1-2eb4-4f13-b844-0e14e2aef915": Home,
		"3b8f8425-20e0-4f3b-907f-1a25a76f98e8": Srv,
		"4d21b016-b534-45c2-a9fb-5c16e091fd2d": Var,
		"7ec6f557-3bc5-4aca-b293-16ef5df639d1": Tmp,
		"44479540-f297-41b2-9af7-d131d5f0458a": mustRoot(t, "386"),
		"4f68bce3-e8cd-4db1-96e7-fbcaf984b709": mustRoot(t, "amd64"),
		"69dad710-2ce4-4e3c-b16c-21a1d49abed3": mustRoot(t, "arm"),
		"b921b045-1df0-41c3-af44-4c6f280d3fae": mustRoot(t, "arm64"),
		"77055800-792c-4f94-b39a-98c91b762bb6": mustRoot(t, "loong64"),
		"912ade1d-a839-4913-8964-a10eee08fbd2": mustRoot(t, "ppc64"),
		"c31c45e6-3f39-412e-80fb-4809c4980599": mustRoot(t, "ppc64le"),
		"72ec70a6-cf74-40e6-bd49-4bda08e8f224": mustRoot(t, "riscv64"),
		"5eead9a9-fe09-4a1e-a1d7-520d00531306": mustRoot(t, "s390x"),
	} {
		for _, s := range []string{text, strings.ToUpper(text)} {
			got, err := ParseGUID(s)
			if err != nil || got != g {
				t.Errorf("ParseGUID(%s) = %x, %v, want %x", s, got[:], err, g[:])
			}
		}
		if g.String() != text {
			t.Errorf("String() = %s, want %s", g, text)
		}
		var b [16]byte
		g.Encode(b[:])
		if DecodeGUID(b[:]) != g {
			t.Errorf("%s does not survive encoding", g)
		}
	}
	for _, s := range []string{"", "x", strings.Repeat("0", 36), "21686148-6449-6e6f-744e-65656445464", "21686148-6449-6e6f-744e-6565644546490",
		"{1686148-6449-6e6f-744e-65656445464}", "2168614g-6449-6e6f-744e-656564454649", "21686148-6449-6e6f-744e6-56564454649"} {
		if _, err := ParseGUID(s); err == nil {
			t.Errorf("ParseGUID(%q): no error", s)
		}
	}
	if _, ok := RootType("mips"); ok {
		t.Error("mips has a root type")
	}
	var b [16]byte
	ESP.Encode(b[:])
	if want := "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"; string(b[:]) != want {
		t.Errorf("ESP is % x on disk, want % x", b, want)
	}
}

func TestDeriveGUID(t *testing.T) {
	// A change of this value changes every disk.
	const want = "4369b7b6-8725-447b-b8cd-ae7d136d79de"
	if got := DeriveGUID([]byte("seed"), "disk").String(); got != want {
		t.Errorf("DeriveGUID = %s, want %s", got, want)
	}
	seen := make(map[GUID]bool)
	for _, seed := range []string{"", "a", "ab"} {
		for _, name := range []string{"", "a", "b", "ba"} {
			g := DeriveGUID([]byte(seed), name)
			if seen[g] || g.IsZero() || g[6]>>4 != 4 || g[8]>>6 != 2 {
				t.Errorf("DeriveGUID(%q, %q) = %s", seed, name, g)
			}
			seen[g] = true
		}
	}
}
