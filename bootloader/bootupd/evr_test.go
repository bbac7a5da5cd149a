package bootupd

import "testing"

// versionVectors are rpm's own (tests/rpmvercmp.at), one per line: a, b and
// what rpmvercmp(a, b) is.
var versionVectors = []struct {
	a, b string
	want int
}{
	{"1.0", "1.0", 0},
	{"1.0", "2.0", -1},
	{"2.0.1", "2.0.1", 0},
	{"2.0", "2.0.1", -1},
	{"2.0.1a", "2.0.1a", 0},
	{"2.0.1a", "2.0.1", 1},
	{"5.5p1", "5.5p1", 0},
	{"5.5p1", "5.5p2", -1},
	{"5.5p10", "5.5p10", 0},
	{"5.5p1", "5.5p10", -1},
	{"10xyz", "10.1xyz", -1},
	{"xyz10", "xyz10", 0},
	{"xyz10", "xyz10.1", -1},
	{"xyz.4", "xyz.4", 0},
	{"xyz.4", "8", -1},
	{"xyz.4", "2", -1},
	{"5.5p2", "5.6p1", -1},
	{"5.6p1", "6.5p1", -1},
	{"6.0.rc1", "6.0", 1},
	{"10b2", "10a1", 1},
	{"10a2", "10b2", -1},
	{"1.0aa", "1.0aa", 0},
	{"1.0a", "1.0aa", -1},
	{"10.0001", "10.0001", 0},
	{"10.0001", "10.1", 0},
	{"10.0001", "10.0039", -1},
	{"4.999.9", "5.0", -1},
	{"20101121", "20101122", -1},
	{"2_0", "2_0", 0},
	{"2.0", "2_0", 0},
	{"a", "a", 0},
	{"a+", "a_", 0},
	{"+a", "_a", 0},
	{"+_", "_+", 0},
	{"+", "_", 0},
	{"1.0~rc1", "1.0~rc1", 0},
	{"1.0~rc1", "1.0", -1},
	{"1.0~rc1", "1.0~rc2", -1},
	{"1.0~rc1~git123", "1.0~rc1~git123", 0},
	{"1.0~rc1~git123", "1.0~rc1", -1},
	{"1.0^", "1.0^", 0},
	{"1.0^", "1.0", 1},
	{"1.0^git1", "1.0^git1", 0},
	{"1.0^git1", "1.0", 1},
	{"1.0^git1", "1.0^git2", -1},
	{"1.0^git1", "1.01", -1},
	{"1.0^20160101", "1.0.1", -1},
	{"1.0^20160101^git1", "1.0^20160102", -1},
	{"1.0~rc1^git1", "1.0~rc1", 1},
	{"1.0^git1~pre", "1.0^git1", -1},
	{"1.0^git1", "1.0~rc1", 1},
	{"", "1", -1},
	{"0", "", 1},
	{"18446744073709551616", "18446744073709551615", 1}, // more than 64 bits
}

func TestCompareVersion(t *testing.T) {
	for _, v := range versionVectors {
		if got := compareVersion(v.a, v.b); got != v.want {
			t.Errorf("%q, %q: %d, want %d", v.a, v.b, got, v.want)
		}
		if got := compareVersion(v.b, v.a); got != -v.want {
			t.Errorf("%q, %q: %d, want %d", v.b, v.a, got, -v.want)
		}
	}
}

func TestCompareEVR(t *testing.T) {
	for _, v := range []struct {
		a, b string
		want int
	}{
		{"1:2.06-1", "2.12-1", 1},
		{"0:2.12-1", "2.12-1", 0},
		{":2.12-1", "2.12-1", 0},
		{"1:2.12-41.fc44", "1:2.12-40.fc44", 1},
		{"1:2.12-9.fc44", "1:2.12-10.fc44", -1},
		{"15.8-4", "15.8-3", 1},
		{"15.8", "15.8-3", -1},
		{"15.10-1", "15.9-7", 1},
		{"a:1", "1", -1}, // not an epoch
	} {
		if got := CompareEVR(v.a, v.b); got != v.want {
			t.Errorf("%q, %q: %d, want %d", v.a, v.b, got, v.want)
		}
		if got := CompareEVR(v.b, v.a); got != -v.want {
			t.Errorf("%q, %q: %d, want %d", v.b, v.a, got, -v.want)
		}
	}
}

func FuzzCompareEVR(f *testing.F) {
	for _, v := range versionVectors {
		f.Add(v.a, v.b)
	}
	f.Add("1:2-3", "1:2^-~3")
	f.Fuzz(func(t *testing.T, a, b string) {
		if x, y := CompareEVR(a, b), CompareEVR(b, a); x != -y {
			t.Fatalf("%d, and %d the other way round", x, y)
		}
		if CompareEVR(a, a) != 0 {
			t.Fatal("differs from itself")
		}
	})
}
