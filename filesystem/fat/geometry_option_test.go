package fat

import (
	"context"
	"encoding/binary"
	"testing"

	"imgbuild/tree"
)

// The geometry is in both boot sectors, as mkfs.fat -g writes it.
func TestDriveGeometry(t *testing.T) {
	for _, c := range []struct{ heads, track, wantHeads, wantTrack int }{{0, 0, 255, 63}, {64, 32, 64, 32}, {255, 63, 255, 63}, {1, 1, 1, 1}} {
		extents, err := Write(context.Background(), tree.NewDir(0o755), 40<<20, Options{VolumeID: 1, Heads: c.heads, SectorsPerTrack: c.track})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, e := range extents {
			if e.Off != 0 && e.Off != 6*512 {
				continue
			}
			b, err := e.Data.ReadAll(512)
			if err != nil {
				t.Fatal(err)
			}
			found++
			if heads, track := binary.LittleEndian.Uint16(b[26:]), binary.LittleEndian.Uint16(b[24:]); int(heads) != c.wantHeads || int(track) != c.wantTrack {
				t.Errorf("%d/%d: %d heads and %d sectors per track at %d", c.heads, c.track, heads, track, e.Off)
			}
		}
		if found != 2 {
			t.Errorf("%d boot sectors", found)
		}
	}
	for _, c := range [][2]int{{256, 63}, {-1, 63}, {255, 64}, {255, -1}} {
		if _, err := Write(context.Background(), tree.NewDir(0o755), 40<<20, Options{VolumeID: 1, Heads: c[0], SectorsPerTrack: c[1]}); err == nil {
			t.Errorf("%v: no error", c)
		}
	}
}
