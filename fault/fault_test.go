package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

func TestNew(t *testing.T) {
	cause := errors.New("cause")
	err := New(BadImage, fmt.Errorf("layer 3: %w", cause), "pull again")
	if got := err.Error(); got != "layer 3: cause" {
		t.Errorf("message %q", got)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if got := New(BadImage, nil, "x"); got != nil {
		t.Errorf("New of nil is %v", got)
	}
}

func TestClassOf(t *testing.T) {
	plain := errors.New("plain")
	inner := New(BadImage, plain, "inner hint")
	for _, c := range []struct {
		name  string
		err   error
		class Class
		hint  string
	}{
		{"nil", nil, Internal, ""},
		{"plain", plain, Internal, ""},
		{"classed", inner, BadImage, "inner hint"},
		{"wrapped", fmt.Errorf("x: %w", inner), BadImage, "inner hint"},
		{"joined", errors.Join(plain, inner), BadImage, "inner hint"},
		{"outermost wins", New(Usage, fmt.Errorf("x: %w", inner), "outer hint"), Usage, "outer hint"},
		{"outermost hides the hint", New(Usage, inner, ""), Usage, ""},
		{"default of plain", Default(Output, plain), Output, ""},
		{"default of classed", Default(Output, inner), BadImage, "inner hint"},
		{"default of wrapped", Default(Output, fmt.Errorf("x: %w", inner)), BadImage, "inner hint"},
	} {
		if got := ClassOf(c.err); got != c.class {
			t.Errorf("%s: class %d, want %d", c.name, got, c.class)
		}
		if got := HintOf(c.err); got != c.hint {
			t.Errorf("%s: hint %q, want %q", c.name, got, c.hint)
		}
	}
	if Default(Output, nil) != nil {
		t.Error("Default of nil is not nil")
	}
}

// The values are exit codes: scripts depend on them.
func TestClassValues(t *testing.T) {
	for class, want := range map[Class]int{
		Internal: 1, Usage: 2, NotFound: 3, Auth: 4, BadImage: 5, Unsupported: 6, NoSpace: 7, Output: 8, Config: 9, Upload: 10, Device: 11, Untrusted: 12, Interrupted: 130,
	} {
		if int(class) != want {
			t.Errorf("class %d, want %d", class, want)
		}
	}
}

func TestOfWrite(t *testing.T) {
	path := func(err error) error {
		return fmt.Errorf("write: %w", &fs.PathError{Op: "write", Path: "disk.raw", Err: err})
	}
	for _, c := range []struct {
		err  error
		want Class
		hint bool
	}{
		{path(fs.ErrPermission), Output, false},
		{path(os.ErrClosed), Output, false},
		{path(syscall.EFBIG), Output, true},
		{New(Unsupported, path(syscall.ENOSPC), ""), Unsupported, false},
	} {
		got := OfWrite(c.err)
		if ClassOf(got) != c.want || (HintOf(got) != "") != c.hint {
			t.Errorf("%v: class %d, hint %q", c.err, ClassOf(got), HintOf(got))
		}
		if !errors.Is(got, c.err) || got.Error() != c.err.Error() {
			t.Errorf("%v became %v", c.err, got)
		}
	}
	if OfWrite(nil) != nil {
		t.Error("OfWrite of nil is not nil")
	}
}
