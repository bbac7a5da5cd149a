package fips

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"imgbuild/fault"
	"imgbuild/test/systems"
)

// cpio makes an archive of names and contents.
func cpio(pairs ...string) []byte {
	var b bytes.Buffer
	for i := 0; i < len(pairs)+2; i += 2 {
		name, text := trailer, ""
		if i < len(pairs) {
			name, text = pairs[i], pairs[i+1]
		}
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 1, 0o100644, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0)
		b.WriteString(name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.WriteString(text)
		b.Write(make([]byte, -b.Len()&3))
	}
	b.Write(make([]byte, -b.Len()&511))
	return b.Bytes()
}

func compressed(t testing.TB, how string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w interface {
		Write([]byte) (int, error)
		Close() error
	}
	var err error
	switch how {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	default:
		return b
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestInitramfs(t *testing.T) {
	with := cpio("usr/lib/dracut/modules.txt", "bash\nfips\nbase\n", "init", "x")
	script := cpio("usr/bin", "", "./usr/sbin/fips.sh", "x")
	without := cpio("usr/lib/dracut/modules.txt", "bash\nfips-crypto-policies\n", "fips.sh", "x")
	early := cpio("kernel/x86/microcode/GenuineIntel.bin", "microcode")
	for _, how := range []string{"plain", "gzip", "zstd", "xz"} {
		for _, tc := range []struct {
			b    []byte
			want bool
		}{{with, true}, {script, true}, {without, false}} {
			for _, before := range [][]byte{nil, early} {
				got, err := hasFIPS(bytes.NewReader(append(bytes.Clone(before), compressed(t, how, tc.b)...)))
				if got != tc.want || err != nil {
					t.Errorf("%s: %v, %v, want %v", how, got, err, tc.want)
				}
			}
		}
	}
	for _, b := range [][]byte{[]byte("\x02!L\x18lz4"), without[:200], without[:60], []byte("070701"), []byte("abc"), compressed(t, "gzip", compressed(t, "gzip", with)), compressed(t, "gzip", with)[:30]} {
		if got, err := hasFIPS(bytes.NewReader(b)); err == nil || got {
			t.Errorf("%.20q: %v, %v", b, got, err)
		}
	}
}

func TestApply(t *testing.T) {
	files := map[string]string{
		"usr/lib/modules/6.1/initramfs.img":          string(cpio("usr/lib/dracut/modules.txt", "fips\n")),
		"usr/lib/modules/6.1/vmlinuz":                "x",
		"usr/share/crypto-policies/FIPS/bind.txt":    "fips bind\n",
		"usr/share/crypto-policies/FIPS/nss.txt":     "fips nss\n",
		"etc/crypto-policies/back-ends/bind.config":  "-> /usr/share/crypto-policies/DEFAULT/bind.txt",
		"etc/crypto-policies/back-ends/nss.config":   "default nss\n",
		"etc/crypto-policies/back-ends/own.config":   "own",
		"etc/crypto-policies/local.d/nss-p11.config": "local\n",
		"etc/crypto-policies/config":                 "# comment\nDEFAULT\n",
	}
	sys := systems.System(t, files)
	effects, warnings, err := Apply(sys, Config{Enabled: true})
	if err != nil || len(warnings) > 0 || len(effects.Kargs) != 1 || effects.Kargs[0] != "fips=1" || len(effects.Boot) > 0 {
		t.Fatalf("%+v, %v, %v", effects, warnings, err)
	}
	for p, want := range map[string]string{
		"etc/system-fips": "# FIPS module installation complete\n", "etc/crypto-policies/config": "FIPS\n", "etc/crypto-policies/state/current": "FIPS\n",
		"etc/crypto-policies/back-ends/bind.config": "-> /usr/share/crypto-policies/FIPS/bind.txt", "etc/crypto-policies/back-ends/nss.config": "fips nss\nlocal\n",
		"etc/crypto-policies/back-ends/own.config": "own",
	} {
		if got := systems.Text(t, sys, p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
	if effects, _, err := Apply(sys, Config{}); err != nil || len(effects.Kargs) > 0 {
		t.Errorf("not enabled: %v", err)
	}
	for _, text := range []string{string(cpio("init", "x")), "junk?!", ""} {
		files := map[string]string{"usr/lib/modules/6.1/vmlinuz": "x"}
		if text != "" {
			files["usr/lib/modules/6.1/initramfs.img"] = text
		}
		sys = systems.System(t, files)
		if _, _, err := Apply(sys, Config{Enabled: true}); fault.ClassOf(err) != fault.Unsupported || !strings.Contains(fault.HintOf(err), "add_dracutmodules") {
			t.Errorf("%.20q: %v", text, err)
		}
	}
	sys = systems.System(t, map[string]string{"usr/lib/modules/6.1/initramfs.img": files["usr/lib/modules/6.1/initramfs.img"]})
	if _, warnings, err := Apply(sys, Config{Enabled: true}); err != nil || len(warnings) != 1 {
		t.Errorf("no crypto policies: %v, %v", warnings, err)
	}
}

func FuzzInitramfs(f *testing.F) {
	f.Add(cpio("usr/lib/dracut/modules.txt", "fips\n"))
	f.Add(compressed(f, "gzip", cpio("init", "x")))
	f.Add(compressed(f, "zstd", cpio("init", "x")))
	f.Add(compressed(f, "xz", cpio("init", "x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		_, _ = hasFIPS(bytes.NewReader(b))
	})
}
