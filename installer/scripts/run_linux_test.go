package scripts

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imgbuild/kickstart"
)

// What a system's links lead to is in the system, not in the installer.
func TestWithin(t *testing.T) {
	root := t.TempDir()
	for name, target := range map[string]string{"home": "var/home", "abs": "/var/log", "up": "../../../../etc", "loop": "loop", "chain": "abs/x"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"/home/a": "/var/home/a", "abs": "/var/log", "/up/passwd": "/etc/passwd", "chain": "/var/log/x", "/none/there": "/none/there", "/../x": "/x",
	} {
		if got, err := within(root, name); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := within(root, "/loop/x"); err == nil {
		t.Error("a loop of links")
	}
}

// A script of the installer runs without privileges, too; a failure that is not to
// end the installation is noted.
func TestRunPre(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	list := []kickstart.Script{
		{Stage: kickstart.Pre, Line: 3, Interpreter: "/bin/sh -e", Body: "echo one; false; echo two", Log: filepath.Join(dir, "a/log")},
		{Stage: kickstart.Post, Line: 4, Interpreter: "/bin/sh", Body: "echo post"},
		{Stage: kickstart.Pre, Line: 1305, Interpreter: "/bin/sh", ErrorOnFail: true, Body: "echo three ${0##*/} >&2; exit 9"},
		{Stage: kickstart.Pre, Line: 6, Interpreter: "/bin/sh", Body: "echo four"},
	}
	err := RunPre(t.Context(), list, Options{Output: &out})
	if err == nil || err.Error() != "%pre in line 1305 of the kickstart: exit status 9" {
		t.Error(err)
	}
	want := "running %pre of line 3\none\n%pre in line 3 of the kickstart: exit status 1\nrunning %pre of line 1305\nthree ks-script-1305\n"
	if out.String() != want {
		t.Errorf("said %q", out.String())
	}
	if log, err := os.ReadFile(filepath.Join(dir, "a/log")); err != nil || string(log) != "one\n" {
		t.Errorf("log: %q, %v", log, err)
	}
	for _, d := range []string{"/run", "/tmp"} {
		// Those of other tests have other lines.
		if left, _ := filepath.Glob(d + "/ks-script-1305*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// slow is a console that is busy for a while.
type slow struct{ text bytes.Buffer }

func (s *slow) Write(p []byte) (int, error) {
	if s.text.Len() < 1000 {
		time.Sleep(drain + time.Second)
	}
	return s.text.Write(p)
}

// What a script printed is all there, however slow the console is, and however long
// something that it left behind goes on.
func TestOutputOnSlowConsole(t *testing.T) {
	var out slow
	script := kickstart.Script{Stage: kickstart.Pre, Line: 1306, Interpreter: "/bin/sh", Body: "printf %60000d 1; while :; do echo y; done & pid=$!; ( sleep 5; kill $pid ) & echo; echo end"}
	if err := RunPre(t.Context(), []kickstart.Script{script}, Options{Output: &out}); err != nil {
		t.Fatal(err)
	}
	if text := out.text.String(); !strings.Contains(text, "\nend\n") || len(text) < 60000 {
		t.Errorf("%d bytes, the end is %.20q", len(text), text[max(len(text)-20, 0):])
	}
}
