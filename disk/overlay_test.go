package disk

import (
	"strings"
	"testing"
)

func TestOverlay(t *testing.T) {
	base := func() *Image {
		d, err := New(10, []Extent{at(0, "abc"), at(4, "defgh")})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		name  string
		size  int64
		parts []Part
		want  string // _ is zero
		err   string
	}{
		{"nothing", 10, nil, "abc_defgh_", ""},
		{"larger", 13, nil, "abc_defgh____", ""},
		{"smaller", 6, nil, "abc_de", ""},
		{"within", 10, []Part{{5, 2, []Extent{at(0, "X")}}}, "abc_dX_gh_", ""},
		{"over a gap", 10, []Part{{2, 3, []Extent{at(1, "X")}}}, "ab_X_efgh_", ""},
		{"all of it", 10, []Part{{0, 10, nil}}, "__________", ""},
		{"beyond", 12, []Part{{8, 4, []Extent{at(3, "X")}}}, "abc_defg___X", ""},
		{"any order", 10, []Part{{7, 1, nil}, {1, 1, []Extent{at(0, "X")}}, {5, 1, nil}}, "aXc_d_f_h_", ""},
		{"outside", 9, []Part{{8, 2, nil}}, "", "beyond"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Overlay(base(), c.size, c.parts)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, d, []byte(strings.ReplaceAll(c.want, "_", "\x00")), 1)
		})
	}
}
