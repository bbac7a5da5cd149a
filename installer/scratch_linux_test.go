package installer

import "testing"

func TestFits(t *testing.T) {
	const text = "MemTotal:        1012345 kB\nMemFree:          300000 kB\nMemAvailable:     800000 kB\nHugePages_Total:       0\n"
	for need, want := range map[int64]bool{0: true, 400 << 20: false, 390 << 20: true, 1 << 40: false} {
		if fits(text, need) != want {
			t.Errorf("%d bytes: %v", need, !want)
		}
	}
	if fits("", 0) {
		t.Error("nothing is known of the memory, and it fits")
	}
}
