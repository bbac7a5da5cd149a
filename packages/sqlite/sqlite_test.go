package sqlite

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// python runs a script with the module sqlite3, which is SQLite itself.
func python(t testing.TB, dir, script string, args ...string) string {
	t.Helper()
	cmd := exec.Command("python3", append([]string{"-c", script}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python3 with sqlite3 (Debian package python3): %v\n%s", err, out)
	}
	return string(out)
}

// make makes a database and prints its table t, as dump does. The log is as a
// process leaves it that is killed.
const makeScript = `
import sqlite3, sys, os, hashlib, shutil
page, rows, wal = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
c = sqlite3.connect("work.db", isolation_level=None)
c.execute("pragma page_size=%d" % page)
c.execute("pragma synchronous=off")
if wal != "none":
    c.execute("pragma journal_mode=wal")
    c.execute("pragma wal_autocheckpoint=0")
c.execute("create table other(a)")
c.execute("create table t(id integer primary key autoincrement, b blob, n, s text)")
c.execute("create index i on t(n)")
def blob(i):
    # on the limits of what is kept in a page, around them, and much more
    size = [0, 1, 7, 60, page - 60, page - 40, page - 38, page - 36, page - 35, page - 34, page, 2 * page, 3 * page - 100, 40000][i % 14]
    out, k = b"", 0
    while len(out) < size:
        out += hashlib.sha256(b"%d %d" % (i, k)).digest()
        k += 1
    return out[:size]
numbers = [None, 0, 1, -1, 127, -128, 32767, 8388607, -8388608, 2147483647, 140737488355327, 9223372036854775807, -9223372036854775808]
c.execute("begin")
for i in range(rows):
    c.execute("insert into t values(?,?,?,?)", (i * 7 + 1, blob(i), numbers[i % 13], "row %d \u00e9" % i))
if rows > 20: # every size at which a row no longer fits into a page
    for k in range(100):
        c.execute("insert into t values(?,?,?,?)", (rows * 7 + 7 + k, (b"x" * (page - 110 + k)), 1, "s"))
c.execute("commit")
if wal == "checkpoint":
    c.execute("pragma wal_checkpoint(truncate)")
c.execute("begin")
c.execute("delete from t where id % 5 = 0")
c.execute("update t set s = 'changed' where id % 3 = 0")
c.execute("commit")
if wal != "none":
    # a transaction that is never committed, written out of memory
    c.execute("pragma cache_size=1")
    c.execute("begin")
    c.execute("update t set s = 'never'")
    c.execute("pragma cache_spill=on")
shutil.copy("work.db", "copy.db")
if wal != "none":
    shutil.copy("work.db-wal", "copy.db-wal")
    c.execute("rollback")
for id, b, n, s in c.execute("select * from t order by id"):
    print(id, hashlib.sha256(b).hexdigest(), 0 if n is None else n, s)
`

func open(t testing.TB, dir string) (*DB, func()) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	wal, err := os.ReadFile(filepath.Join(dir, "copy.db-wal"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	db, err := Open(f, info.Size(), bytes.NewReader(wal), int64(len(wal)))
	if err != nil {
		t.Fatal(err)
	}
	return db, func() { f.Close() }
}

func dump(db *DB) (string, error) {
	var b strings.Builder
	err := db.Rows(context.Background(), "t", func(rowid int64, v []Value) error {
		if len(v) != 4 {
			return fmt.Errorf("%d values", len(v))
		}
		fmt.Fprintf(&b, "%d %s %d %s\n", rowid, sum(v[1].Bytes), v[2].Int, v[3].Bytes)
		return nil
	})
	return b.String(), err
}

// What SQLite reads we read: of all sizes of pages, with rows on the limits of
// pages, with and without a log.
func TestRows(t *testing.T) {
	for _, page := range []int{512, 1024, 4096, 65536} {
		for _, wal := range []string{"none", "wal", "checkpoint"} {
			for _, rows := range []int{0, 1, 30, 1500} {
				if rows == 1500 && page != 512 && page != 4096 {
					continue
				}
				t.Run(fmt.Sprint(page, " ", wal, " ", rows), func(t *testing.T) {
					dir := t.TempDir()
					want := python(t, dir, makeScript, fmt.Sprint(page), fmt.Sprint(rows), wal)
					db, done := open(t, dir)
					defer done()
					got, err := dump(db)
					if err != nil {
						t.Fatal(err)
					}
					if got != want {
						t.Errorf("%d lines, want %d", strings.Count(got, "\n"), strings.Count(want, "\n"))
					}
					if err := db.Rows(context.Background(), "missing", nil); !errors.Is(err, ErrNoTable) {
						t.Errorf("a table that is not there: %v", err)
					}
				})
			}
		}
	}
}

// A log with one bit flipped ends before it, as SQLite has it.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	python(t, dir, makeScript, "4096", "200", "checkpoint")
	path := filepath.Join(dir, "copy.db-wal")
	wal, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{5000, 40, 20, 0} {
		changed := bytes.Clone(wal)
		changed[off] ^= 1
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		// SQLite removes the log of a database that nobody else has open.
		want := python(t, dir, `
import sqlite3, hashlib, shutil
shutil.copy("copy.db", "see.db")
shutil.copy("copy.db-wal", "see.db-wal")
for id, b, n, s in sqlite3.connect("see.db").execute("select * from t order by id"):
    print(id, hashlib.sha256(b).hexdigest(), 0 if n is None else n, s)
`)
		db, done := open(t, dir)
		got, err := dump(db)
		done()
		if err != nil || got != want {
			t.Errorf("byte %d: %v, %d lines, want %d", off, err, strings.Count(got, "\n"), strings.Count(want, "\n"))
		}
	}
}

// A log of half a KiB may claim a database of all the pages that there can be.
func TestLogClaimsPages(t *testing.T) {
	dir := t.TempDir()
	python(t, dir, makeScript, "512", "30", "none")
	b, err := os.ReadFile(filepath.Join(dir, "copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	sum := checksum{order: be}
	seal := func(b []byte) []byte { return be.AppendUint32(be.AppendUint32(b, sum.s0), sum.s1) }
	wal := be.AppendUint32(nil, logMagicBig)
	for _, v := range []uint32{logVersion, 512, 0, 1, 2} { // page size, checkpoint, salts
		wal = be.AppendUint32(wal, v)
	}
	sum.add(wal)
	wal = seal(wal)
	frame := be.AppendUint32(be.AppendUint32(nil, 1), 1<<32-1)
	sum.add(frame)
	sum.add(b[:512])
	wal = append(append(wal, seal(append(frame, wal[16:24]...))...), b[:512]...)

	plain, err := Open(bytes.NewReader(b), int64(len(b)), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	want, err := dump(plain)
	if err != nil || want == "" {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	db, err := Open(bytes.NewReader(b), int64(len(b)), bytes.NewReader(wal), int64(len(wal)))
	if err != nil || db.pages != 1<<32-1 {
		t.Fatalf("%+v, %v", db, err)
	}
	got, err := dump(db)
	if err != nil || got != want {
		t.Errorf("other rows with the log: %v", err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 16<<20 {
		t.Errorf("%d MiB for a file of %d bytes", (after.TotalAlloc-before.TotalAlloc)>>20, len(b))
	}
}

func TestOpenFails(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "header",
		strings.Repeat("x", 200):            "no SQLite",
		magic + strings.Repeat("\x00", 200): "pages of 0 bytes",
	} {
		if _, err := Open(strings.NewReader(text), int64(len(text)), nil, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzRows reads what is no database, without end and without panic.
func FuzzRows(f *testing.F) {
	for _, args := range [][]string{{"512", "9", "none"}, {"512", "9", "checkpoint"}} {
		dir := f.TempDir()
		python(f, dir, makeScript, args...)
		db, err := os.ReadFile(filepath.Join(dir, "copy.db"))
		if err != nil {
			f.Fatal(err)
		}
		wal, _ := os.ReadFile(filepath.Join(dir, "copy.db-wal"))
		f.Add(db, wal)
	}
	f.Fuzz(func(_ *testing.T, b, wal []byte) {
		db, err := Open(bytes.NewReader(b), int64(len(b)), bytes.NewReader(wal), int64(len(wal)))
		if err == nil {
			_, _ = dump(db)
		}
	})
}
