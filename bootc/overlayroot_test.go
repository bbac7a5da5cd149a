package bootc

import "testing"

func TestOverlayRoot(t *testing.T) {
	for _, c := range []struct {
		conf string
		want bool
		bad  bool
	}{
		{"[composefs]\nenabled = yes\n", true, false},
		{"[composefs]\nenabled = maybe\n", true, false},
		{"[composefs]\nenabled = signed\n", true, false},
		{"[composefs]\nenabled = no\n", false, false},
		{"[composefs]\nenabled = perhaps\n", false, false},
		{"[composefs]\nenabled = no\n[root]\ntransient = true\n", true, false},
		{"[root]\ntransient-ro = true\n", false, false}, // bootc does not ask for it here
		{"[root]\ntransient = perhaps\n", false, true},
		{"transient\n", false, true},
		{"", false, false},
	} {
		for _, p := range []string{"usr/lib/ostree/prepare-root.conf", "etc/ostree/prepare-root.conf"} {
			got, err := OverlayRoot(makeTree(t, files{p: c.conf}))
			if got != c.want || (err != nil) != c.bad {
				t.Errorf("%s %q: %v, %v", p, c.conf, got, err)
			}
		}
	}
	if got, err := OverlayRoot(makeTree(t, files{"usr/lib/x": ""})); got || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
}
