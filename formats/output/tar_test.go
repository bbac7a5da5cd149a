package output

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestTarHeader compares headers with those of GNU tar. For ustar it refuses
// what does not fit the octal digits.
func TestTarHeader(t *testing.T) {
	for _, size := range []int64{0, 1, 1 << 30, 8<<30 - 1, 8 << 30, 9<<30 + 5, 3 << 40} {
		name := filepath.Join(t.TempDir(), "disk.raw")
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
		for _, h := range []TarHeader{{Name: "disk.raw", Size: size, Modified: 1714979289, OldGNU: true}, {Name: "disk.raw", Size: size, Modified: 5}} {
			format := "ustar"
			if h.OldGNU {
				format = "oldgnu"
			} else if size >= maxOctal {
				continue
			}
			cmd := exec.Command("sh", "-c", fmt.Sprintf(`tar --format=%s --owner=root:0 --group=root:0 --mode=0644 --mtime=@%d -cf - disk.raw | head -c 512`, format, h.Modified))
			cmd.Dir = filepath.Dir(name)
			want, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if got := h.Encode(); !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes:\n%q, want\n%q", format, size, got, want)
			}
		}
	}
}

// TestTarHeaderLarge lets GNU tar list a large file in the ustar format.
func TestTarHeaderLarge(t *testing.T) {
	h := TarHeader{Name: "disk.vmdk", Size: 9<<30 + 5, Modified: -1}
	cmd := exec.Command("tar", "-tvf", "-")
	cmd.Env = append(os.Environ(), "TZ=UTC")
	cmd.Stdin = bytes.NewReader(h.Encode())
	out, _ := cmd.Output() // the file itself is not there
	if want := "-rw-r--r-- root/root 9663676421 1970-01-01 00:00 disk.vmdk\n"; string(out) != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func TestTarEnd(t *testing.T) {
	for end, want := range map[int64]int64{0: 10240, 512: 10240, 10240 - 1024: 10240, 10240 - 1023: 20480, 10240: 20480} {
		if got := TarEnd(end); got != want {
			t.Errorf("%d: %d, want %d", end, got, want)
		}
	}
}
