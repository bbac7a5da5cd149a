package bootupd

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"imgbuild/content"
)

// StateFile is the name of the state file in /boot. Its mode is 0644.
const StateFile = "bootupd-state.json"

// State is what bootupd remembers of an installation (its SavedState).
type State struct {
	Installed     map[string]Installed // by component
	StaticConfigs *Metadata            // nil when bootupd does not own grub.cfg
}

// Installed is an installed component.
type Installed struct {
	Meta Metadata
	// Files are the files of the component by their path below EFI/ on the
	// ESP; nil for a component without files of its own.
	Files map[string]FileState
}

// FileState is what the state file knows of a file.
type FileState struct {
	Source string // path below the root of the payload
	Size   int64  // in bytes
	SHA512 [sha512.Size]byte
}

// StaticConfigsMetadata returns the metadata that goes with GRUB's static
// configuration. bootupd writes the time of its executable, which is 0 in a
// deployment, and its own version, which an image does not tell; it evaluates
// neither, only that they are there.
func StaticConfigsMetadata() *Metadata {
	return &Metadata{Timestamp: time.Unix(0, 0).UTC(), Version: "unknown"}
}

// FileStates returns what the state file has to know of the payload. It reads
// every file once.
func (p *Payload) FileStates() (map[string]FileState, error) {
	states := make(map[string]FileState, len(p.Files))
	for _, f := range p.Files {
		sum, err := sha512Sum(f.Inode.Content)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", p.Root, f.Source, err)
		}
		states[f.Path] = FileState{Source: f.Source, Size: f.Inode.Content.Size(), SHA512: sum}
	}
	return states, nil
}

func sha512Sum(c content.Ref) (sum [sha512.Size]byte, err error) {
	h := sha512.New()
	n, err := io.Copy(h, c.Reader())
	if err != nil {
		return sum, err
	}
	if n != c.Size() {
		return sum, fmt.Errorf("%d bytes instead of %d: %w", n, c.Size(), io.ErrUnexpectedEOF)
	}
	return [sha512.Size]byte(h.Sum(nil)), nil
}

// Encode returns the state file: compact JSON with the keys in the order of
// bootupd's structures and maps sorted, as serde_json writes it. ostree finds
// "static-configs":null in it by its text.
func (s *State) Encode() []byte {
	b := []byte(`{"installed":{`)
	for k, name := range slices.Sorted(maps.Keys(s.Installed)) {
		if k > 0 {
			b = append(b, ',')
		}
		c := s.Installed[name]
		b = append(appendString(b, name), `:{"meta":`...)
		b = appendMetadata(b, &c.Meta)
		b = append(b, `,"filetree":`...)
		b = appendFiles(b, c.Files)
		b = append(b, `,"adopted-from":null}`...)
	}
	b = append(b, `},"pending":null,"static-configs":`...)
	b = appendMetadata(b, s.StaticConfigs)
	return append(b, '}')
}

func appendFiles(b []byte, files map[string]FileState) []byte {
	if files == nil {
		return append(b, "null"...)
	}
	b = append(b, `{"children":{`...)
	for k, name := range slices.Sorted(maps.Keys(files)) {
		if k > 0 {
			b = append(b, ',')
		}
		f := files[name]
		b = append(appendString(b, name), `:{"source":`...)
		b = append(appendString(b, f.Source), `,"size":`...)
		b = strconv.AppendInt(b, f.Size, 10)
		b = append(b, `,"sha512":"sha512:`...)
		b = append(hex.AppendEncode(b, f.SHA512[:]), `"}`...)
	}
	return append(b, "}}"...)
}

func appendMetadata(b []byte, m *Metadata) []byte {
	if m == nil {
		return append(b, "null"...)
	}
	b = append(b, `{"timestamp":"`...)
	b = m.Timestamp.UTC().AppendFormat(b, timeLayout(m.Timestamp))
	b = append(b, `","version":`...)
	b = append(appendString(b, m.Version), `,"versions":`...)
	if m.Versions == nil {
		return append(b, "null}"...)
	}
	b = append(b, '[')
	for k, v := range m.Versions {
		if k > 0 {
			b = append(b, ',')
		}
		b = append(appendString(append(b, `{"name":`...), v.Name), `,"rpm_evr":`...)
		b = append(appendString(b, v.EVR), '}')
	}
	return append(b, "]}"...)
}

// timeLayout returns the layout that chrono uses for a time: 0, 3, 6 or 9
// digits after the second, as few as are exact.
func timeLayout(t time.Time) string {
	ns := t.Nanosecond()
	switch {
	case ns == 0:
		return "2006-01-02T15:04:05Z"
	case ns%1e6 == 0:
		return "2006-01-02T15:04:05.000Z"
	case ns%1e3 == 0:
		return "2006-01-02T15:04:05.000000Z"
	}
	return "2006-01-02T15:04:05.000000000Z"
}

// appendString appends a JSON string as serde_json writes it: only quotes,
// backslashes and control characters are escaped.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\b':
			b = append(b, `\b`...)
		case r == '\f':
			b = append(b, `\f`...)
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r < ' ':
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
