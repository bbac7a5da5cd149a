package qemu

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Marker is what a booted test image says about itself.
type Marker struct {
	Line        string // as it was printed
	Kernel      string // uname -r
	Root        string // device of the root file system
	Deployment  string // stateroot/checksum.serial
	Composefs   bool
	FailedUnits int
	Firmware    string // "bios" or "uefi"
	SecureBoot  bool
	Features    bool          // the tree is what the layers amount to
	Uptime      time.Duration // when the line was printed
	SELinux     string        // "enforcing", "permissive", or "" without SELinux
	Mislabeled  int           // paths with another label than the policy's
	Notes       []string      // lines before it, which explain what is wrong
	Restarts    int           // machines that hung before this one
}

// markerLine matches the line of the sample image and of the other fixtures. A login
// prompt does not end its line, and may be what comes before.
var markerLine = regexp.MustCompile(`(?m)^(?:\S+ login: )?((?:SAMPLE|FIXTURE)-BOOT-OK (\S+) (\S+) (\S+) (.*))$`)

var noteLine = regexp.MustCompile(`(?m)^(?:\S+ login: )?(?:SAMPLE|FIXTURE)-NOTE (.*)$`)

// FindMarker returns the first marker of a serial log. ok is false while there
// is none.
func FindMarker(log []byte) (m Marker, ok bool, err error) {
	log = lines(log)
	found := markerLine.FindSubmatch(log)
	if found == nil {
		return m, false, nil
	}
	m = Marker{Line: string(found[1]), Kernel: string(found[2]), Root: string(found[3]), Deployment: string(found[4])}
	for _, n := range noteLine.FindAllSubmatch(log, -1) {
		m.Notes = append(m.Notes, string(n[1]))
	}
	for _, field := range strings.Fields(string(found[5])) {
		if err := m.set(field); err != nil {
			return m, true, fmt.Errorf("marker %q: %w", m.Line, err)
		}
	}
	return m, true, nil
}

// set takes one key=value of the line. Unknown keys are left to newer images.
func (m *Marker) set(field string) (err error) {
	key, value, ok := strings.Cut(field, "=")
	if !ok {
		return fmt.Errorf("field %q", field)
	}
	switch key {
	case "composefs":
		m.Composefs = value == "y"
	case "failed-units":
		m.FailedUnits, err = strconv.Atoi(value)
	case "firmware":
		m.Firmware = value
	case "secureboot":
		m.SecureBoot = value == "y"
	case "features":
		m.Features = value == "ok"
	case "selinux":
		m.SELinux = value
	case "mislabeled":
		m.Mislabeled, err = strconv.Atoi(value)
	case "uptime":
		var seconds float64
		seconds, err = strconv.ParseFloat(value, 64)
		m.Uptime = time.Duration(seconds * float64(time.Second))
	}
	return err
}

// Check tells what is not as it should be on a machine with that firmware.
func (m Marker) Check(f Firmware) error {
	var wrong []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	wantFirmware := "uefi"
	if f == BIOS {
		wantFirmware = "bios"
	}
	add(m.Firmware != wantFirmware, "firmware %s", m.Firmware)
	add(m.SecureBoot != (f == SecureBoot), "secure boot %t", m.SecureBoot)
	add(!m.Composefs, "no composefs")
	add(m.FailedUnits != 0, "%d failed units", m.FailedUnits)
	add(!m.Features, "files are not what the layers amount to")
	add(m.Mislabeled != 0, "%d mislabeled paths", m.Mislabeled)
	if len(wrong) == 0 {
		return nil
	}
	notes := ""
	if len(m.Notes) > 0 {
		notes = "\n" + strings.Join(m.Notes, "\n")
	}
	return fmt.Errorf("%s%s", strings.Join(wrong, ", "), notes)
}
