package customize

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is what is wrong with one setting.
type Problem struct {
	// Field is the setting, as its path below the table of customizations:
	// "hostname", "services.enabled[2]", "files[0].mode". Indices count from 0.
	Field string
	// Err is why. Its fault.Class and hint say whether the setting is wrong, or
	// sound and not possible with this image, and what to do instead.
	Err error
}

// Error is "field: why".
func (p Problem) Error() string { return p.Field + ": " + p.Err.Error() }

// Unwrap returns why.
func (p Problem) Unwrap() error { return p.Err }

// Problems are all problems of a customization, or its warnings, in the order of
// the settings.
type Problems []Problem

// Error has one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each problem as an error.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i := range p {
		errs[i] = p[i]
	}
	return errs
}

// Add adds a problem unless err is nil.
func (p *Problems) Add(field string, err error) {
	if err != nil {
		*p = append(*p, Problem{field, err})
	}
}

// Addf adds a problem that is worded as fmt.Errorf does it.
func (p *Problems) Addf(field, format string, args ...any) {
	*p = append(*p, Problem{field, fmt.Errorf(format, args...)})
}

// Has tells whether there is a problem with the field.
func (p Problems) Has(field string) bool {
	return slices.ContainsFunc(p, func(q Problem) bool { return q.Field == field })
}

// Err returns p as an error, nil where it is empty.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Effects are what customizations ask for outside of /etc and /var, for whoever
// makes the boot entries and the boot file system.
type Effects struct {
	// Kargs are arguments for the kernel command line.
	Kargs []string
	// Boot are files for the boot file system.
	Boot []BootFile
}

// BootFile is a file for the boot file system, owned by root.
type BootFile struct {
	Path string // relative to /boot
	Mode uint32 // permissions
	Text []byte
}

// Add adds the effects of another customization.
func (e *Effects) Add(o Effects) {
	e.Kargs = append(e.Kargs, o.Kargs...)
	e.Boot = append(e.Boot, o.Boot...)
}
