package crypt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// passwords have the lengths at which the algorithms change their ways: blocks of
// SHA-256 and SHA-512, the cut of bcrypt, the limit of crypt(3).
func passwords() []string {
	list := []string{"", "x", "password", "Grüße, 世界", "\xff\xfe\x80", "a b\tc", `quote'"\$`}
	for _, n := range []int{15, 16, 31, 32, 33, 55, 56, 63, 64, 65, 71, 72, 73, 127, 128, 129, 255, 511} {
		list = append(list, strings.Repeat("aZ0~", 128)[:n])
	}
	return list
}

// Every hash is what libxcrypt's crypt(3) makes of the same setting.
func TestHashEqualsLibxcrypt(t *testing.T) {
	var in bytes.Buffer
	var hashes []string
	for i, p := range passwords() {
		seed := sha256.Sum256(fmt.Append(nil, i))
		for _, m := range []struct {
			method Method
			costs  []int
		}{
			{Yescrypt, []int{1, 2, 3, 5}}, {SHA512, []int{-1, 1000, 4999, 7001}}, {SHA256, []int{-1, 1000, 5001}}, {Bcrypt, []int{4, 6}},
		} {
			for k, cost := range m.costs {
				if k > 0 && i > 8 && i%4 != 0 {
					continue // every length with one cost, every cost with some
				}
				h, err := Hash(m.method, cost, p, seed[:])
				if err != nil {
					t.Fatalf("%s %d of %q: %v", m.method, cost, p, err)
				}
				if kind, err := Classify(h); kind != Hashed || err != nil {
					t.Errorf("%s: kind %d, %v", h, kind, err)
				}
				hashes = append(hashes, h)
				fmt.Fprintf(&in, "%x %s\n", p, h)
			}
		}
	}
	// The hash is the setting: crypt(3) takes the algorithm, cost and salt from it.
	cmd := exec.Command("perl", "-ne", `chomp; my ($p, $s) = /^([0-9a-f]*) (.*)$/; print crypt(pack("H*", $p), $s), "\n"`)
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("perl: %v %s", err, stderr.String())
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(got) != len(hashes) {
		t.Fatalf("%d hashes of crypt(3) for %d", len(got), len(hashes))
	}
	for i, h := range hashes {
		if got[i] != h {
			t.Errorf("hash %s, crypt(3) makes %s", h, got[i])
		}
	}
	t.Logf("%d hashes", len(hashes))
}

// The settings are those that crypt_gensalt(3) writes.
func TestSetting(t *testing.T) {
	seed := make([]byte, 32)
	for _, tc := range []struct {
		method Method
		cost   int
		want   string
	}{
		{Yescrypt, -1, "$y$j9T$......................$"},
		{Yescrypt, 0, "$y$j75$......................$"},
		{Yescrypt, 2, "$y$j85$......................$"},
		{Yescrypt, 6, "$y$jAT$......................$"},
		{SHA512, -1, "$6$................$"},
		{SHA512, 10, "$6$rounds=1000$................$"},
		{SHA256, 5000, "$5$................$"},
		{Bcrypt, 4, "$2b$04$......................"},
	} {
		h, err := Hash(tc.method, tc.cost, "x", seed)
		if err != nil || !strings.HasPrefix(h, tc.want) {
			t.Errorf("%s %d: %s, %v, want %s", tc.method, tc.cost, h, err, tc.want)
		}
	}
	again, _ := Hash(SHA512, -1, "x", append([]byte{1}, seed...))
	if first, _ := Hash(SHA512, -1, "x", seed); first == again {
		t.Error("another seed gives the same salt")
	}
}

func TestHashRefuses(t *testing.T) {
	seed := make([]byte, 32)
	for name, run := range map[string]func() (string, error){
		"long password": func() (string, error) { return Hash(SHA512, -1, strings.Repeat("x", 512), seed) },
		"short seed":    func() (string, error) { return Hash(SHA512, -1, "x", seed[:15]) },
		"method":        func() (string, error) { return Hash("DES", -1, "x", seed) },
	} {
		if h, err := run(); err == nil {
			t.Errorf("%s: %s", name, h)
		}
	}
	for m, cost := range map[Method]int{Yescrypt: 9, SHA512: shaAffordable + 1, SHA256: shaMax, Bcrypt: 17} {
		if h, err := Hash(m, cost, "x", seed); !errors.Is(err, ErrCost) {
			t.Errorf("%s %d: %s, %v", m, cost, h, err)
		}
	}
}

func TestClassify(t *testing.T) {
	sha512 := "$6$salt$" + strings.Repeat("a", 86)
	for _, tc := range []struct {
		in   string
		kind Kind
		bad  bool
		weak string
	}{
		{in: "secret", kind: Plain},
		{in: "", kind: Plain},
		{in: "$ecret", kind: Plain},
		{in: "$200", kind: Plain},
		{in: "!secret", kind: Plain},
		{in: "!", kind: Locked},
		{in: "*", kind: Locked},
		{in: "!*", kind: Locked},
		{in: "!!", kind: Locked},
		{in: sha512, kind: Hashed},
		{in: "!" + sha512, kind: Hashed},
		{in: sha512[:len(sha512)-1], kind: Hashed, bad: true},
		{in: sha512 + "\n", kind: Hashed, bad: true},
		{in: "$6$rounds=99$salt$" + strings.Repeat("a", 86), kind: Hashed, bad: true},
		{in: "$6$", kind: Hashed, bad: true},
		{in: "$6$sa:t$" + strings.Repeat("a", 86), kind: Hashed, bad: true},
		{in: "$5$rounds=5001$salt$" + strings.Repeat("a", 43), kind: Hashed},
		{in: "$2b$05$" + strings.Repeat("a", 53), kind: Hashed},
		{in: "$2b$99$" + strings.Repeat("a", 53), kind: Hashed, bad: true},
		{in: "$2b$05$short", kind: Hashed, bad: true},
		{in: "$1$salt$" + strings.Repeat("a", 22), kind: Hashed, weak: "md5crypt"},
		{in: "$3$$" + strings.Repeat("0", 32), kind: Hashed, weak: "NT"},
		// Of the examples of crypt(5).
		{in: "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", kind: Hashed},
		{in: "$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", kind: Hashed},
		{in: "$7$CU..../....LkBqEgjyTf3vkHkzj6Lmf.$" + strings.Repeat("a", 43), kind: Hashed},
	} {
		kind, err := Classify(tc.in)
		if kind != tc.kind || (err != nil) != tc.bad || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %d, %v", tc.in, kind, err)
		}
		if got := Weak(tc.in); got != tc.weak {
			t.Errorf("%q: weak %q", tc.in, got)
		}
	}
}

// What perl's crypt(3) makes of every setting of libxcrypt is accepted.
func TestClassifyLibxcrypt(t *testing.T) {
	for _, setting := range []string{"$y$j9T$abcdefgh", "$7$9/..../..../abcdefgh", "$6$s", "$5$rounds=1000$0123456789abcdef", "$2a$04$abcdefghijklmnopqrstuu", "$1$s", "$sha1$248488$ggu.H673kaZ5$", "$md5,rounds=4$abcdefgh$$", "$3$"} {
		out, err := exec.Command("perl", "-e", `print crypt("x", $ARGV[0])`, setting).Output()
		if err != nil {
			t.Fatal(err)
		}
		if len(out) < 5 || out[0] == '*' {
			t.Logf("this crypt(3) does not know %s", setting) // distributions leave the weak ones out
			continue
		}
		if kind, err := Classify(string(out)); kind != Hashed || err != nil {
			t.Errorf("%s: %d, %v", out, kind, err)
		}
	}
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{"", "!", "x", "$6$salt$x", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7", "$2b$05$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		kind, err := Classify(s)
		if kind == Hashed && err == nil && strings.ContainsAny(s, ":\n") {
			t.Errorf("%q would be more than a field", s)
		}
	})
}
