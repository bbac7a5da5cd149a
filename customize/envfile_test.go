package customize

import "testing"

func TestSetVariables(t *testing.T) {
	for _, tc := range []struct{ before, after string }{
		{"", "A=1\nC=\"x y\"\n"},
		{"# c\nA=0\nB=2", "# c\nA=1\nB=2\nC=\"x y\"\n"},
		{" A = 0\nD=1\nA=3\n\nC=\n", "A=1\n\nC=\"x y\"\n"},
	} {
		got := string(SetVariables([]byte(tc.before), [2]string{"A", "1"}, [2]string{"C", "x y"}, [2]string{"D", ""}))
		if got != tc.after {
			t.Errorf("%q: %q, want %q", tc.before, got, tc.after)
		}
	}
	if got := string(SetVariables(nil, [2]string{"A", `a"$b`})); got != "A=\"a\\\"\\$b\"\n" {
		t.Error(got)
	}
}
