package fat

import (
	"fmt"
	"strings"
	"testing"

	"imgbuild/content"
	"imgbuild/tree"
)

// awkward are names on the edge of what FAT can hold.
var awkward = []string{
	"A", "z", "FOO.TXT", "Foo2.txt", "bar.TXT", "8CHARS_8.EXT", "8chars_9.ext", "9chars__9", "NINECHARS",
	"NOEXT", "x.y", "A.ABCD", "a.b.c", "A.B", "archive.tar.gz", "archive.tar.xz",
	".hidden", ".hidden2", ".a.b", "..two dots", "...three", " leading blank", "two  blanks", "a b.c d",
	"plus+comma,semi;equal=[brackets]", "+", "++", "+.+", ".+", "under_score",
	"$%'-_@~.`!(", "){}^#&", "tilde~1", "TILDE~2.TXT",
	"longfilename.txt", "longfilename2.txt", "LONGFI~1.TXT", "longfi~2.txt", "LongFileName3.txt", "longfi~10.txt",
	"CON", "con.txt", "aux", "NUL.efi", "LPT1",
	"\u00e4pfel", "\u00c4rger.txt", "stra\u00dfe", "\u0416\u0443\u043a.txt", "\u65e5\u672c\u8a9e", "\u65e5\u672c\u8a9e2", "e\u0301 decomposed", "\u00e9 composed",
	"\x7f", "\u00e5", "\u0131", "\ufffe", "\ufeffbom", "EA DATA. SF",
	strings.Repeat("n", 12), strings.Repeat("n", 13), strings.Repeat("n", 14), // around one long entry
	strings.Repeat("m", 26), strings.Repeat("m", 27),
	strings.Repeat("l", 255), "dir with.blanks",
	strings.Repeat("\u65e5", 85),
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	"ostree-1-0123456789abcdef.conf", "ostree-2-0123456789abcdef.conf",
}

func awkwardTree(t testing.TB) *tree.Inode {
	root := tree.NewDir(0o755)
	for i, name := range awkward {
		put(t, root, name, pattern(i, 40+i))
	}
	return root
}

// TestNames has mtools and fsck.vfat read awkward names, and shows their aliases.
func TestNames(t *testing.T) {
	root := awkwardTree(t)
	image := write(t, root, 34*mib, options)
	fsck(t, image)
	extract(t, image, root)
	golden(t, "names.txt", run(t, "mdir", "-a", "-i", image, "::"))
	// A reader finds the file by its alias, and by its name in another case.
	for _, name := range []string{"longfilename.txt", "LONGFILENAME.TXT", "LONGFI~4.TXT"} {
		if out := run(t, "mtype", "-i", image, "::"+name); out != text(t, root.Child("longfilename.txt")) {
			t.Errorf("%s has the content of another file", name)
		}
	}
	for _, name := range []string{"LONGFI~1.TXT", "longfi~2.txt", "A.B"} {
		if out := run(t, "mtype", "-i", image, "::"+name); out != text(t, root.Child(name)) {
			t.Errorf("%s has the content of another file", name)
		}
	}
}

func text(t *testing.T, i *tree.Inode) string {
	t.Helper()
	b, err := i.Content.ReadAll(8 * mib)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSurrogates has characters that take two UTF-16 units. Neither mtools nor
// go-diskfs puts them together again, so the units are looked at.
func TestSurrogates(t *testing.T) {
	root := tree.NewDir(0o755)
	put(t, root, "\U0001F600x.efi", content.String("x"))
	put(t, root, strings.Repeat("\U0001F600", 63), content.String("y"))
	image := write(t, root, 34*mib, options)
	fsck(t, image)
	g := fit(34*mib/512, 1, 512)
	got := readAt(t, image, g.offset(rootCluster)+sizeEntry, sizeEntry)
	want := "\x41\x3d\xd8\x00\xdex\x00.\x00e\x00\x0f\x00" // and the checksum
	if string(got[:13]) != want {
		t.Errorf("long entry % x, want % x", got[:13], want)
	}
}

// TestManyAliases has names that differ only where aliases do not, so that tails
// get longer, and some tails that are taken.
func TestManyAliases(t *testing.T) {
	root := tree.NewDir(0o755)
	for i := range 1200 {
		root.Set(fmt.Sprintf("a long name number %d.txt", i), tree.NewFile(0o644, content.Ref{}))
	}
	for _, taken := range []string{"ALONGN~1.TXT", "alongn~9.txt", "ALONG~10.TXT", "ALON~100.TXT", "alo~1000.TXT", "ALO~1000x.TXT"} {
		root.Set(taken, tree.NewFile(0o644, content.Ref{}))
	}
	p, err := newPlan(t.Context(), root, false)
	if err != nil {
		t.Fatal(err)
	}
	long := make(map[string]string) // folded names
	for _, c := range p.dirs[0].children {
		long[fold(c.name)] = c.name
	}
	short := make(map[shortName]string)
	for _, c := range p.dirs[0].children {
		if other, ok := short[c.short]; ok {
			t.Errorf("%q and %q share the alias %s", c.name, other, c.short)
		}
		short[c.short] = c.name
		if other, ok := long[fold(c.short.String())]; ok && other != c.name {
			t.Errorf("the alias %s of %q is the name of %q", c.short, c.name, other)
		}
	}
	fsck(t, write(t, root, 34*mib, options))
}

// TestShortNames checks the vectors of the specification and of mtools.
func TestShortNames(t *testing.T) {
	for _, test := range []struct {
		name, want string
		long       bool
	}{
		{"FOO.BAR", "FOO     BAR", false},
		{"foo.bar", "FOO     BAR", true},
		{"Foo.Bar", "FOO     BAR", true},
		{"FOO", "FOO        ", false},
		{"PICKLE.A", "PICKLE  A  ", false},
		{"prettybg.big", "PRETTYBGBIG", true},
		{"The quick brown.fox", "THEQUI~1FOX", true},
		{"BOOTX64.EFI", "BOOTX64 EFI", false},
		{"shimx64.efi", "SHIMX64 EFI", true},
		{"a+b", "A_B~1      ", true},
		{".bashrc", "BASHRC~1   ", true},
		{"\u65e5\u672c", "__~1       ", true},
	} {
		got, long, err := newNamer(map[string]bool{}).short(test.name)
		if err != nil || string(got[:]) != test.want || long != test.long {
			t.Errorf("%s: %q %v %v, want %q %v", test.name, got[:], long, err, test.want, test.long)
		}
	}
}
