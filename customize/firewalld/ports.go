package firewalld

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"imgbuild/customize"
)

// maxServices bounds /etc/services.
const maxServices = 16 << 20

// port is a port or a range of ports with its protocol, as a zone file has it.
type port struct{ ports, protocol string }

// parsePort returns what stands before and after the colon, the protocol checked.
func parsePort(s string) (port, error) {
	ports, protocol, ok := strings.Cut(s, ":")
	if !ok || ports == "" || strings.Contains(protocol, ":") {
		return port{}, fmt.Errorf("%q is not a port with its protocol, as \"8080:tcp\" or \"6000-6010:udp\"", s)
	}
	if err := checkProtocol(protocol); err != nil {
		return port{}, err
	}
	return port{ports, protocol}, nil
}

func checkProtocol(protocol string) error {
	switch protocol {
	case "tcp", "udp", "sctp", "dccp":
		return nil
	}
	return fmt.Errorf("%q is not one of the protocols tcp, udp, sctp and dccp", protocol)
}

// span is a range of ports, both ends included.
type span struct{ from, to int }

func (s span) String() string {
	if s.from == s.to {
		return strconv.Itoa(s.from)
	}
	return fmt.Sprintf("%d-%d", s.from, s.to)
}

var (
	errPort      = errors.New("is neither a number nor in /etc/services of the image")
	errLarge     = errors.New("is larger than 65535")
	errAmbiguous = errors.New("can be read as several ranges")
)

// services are the ports of /etc/services by name.
type services map[string]int

// readServices reads /etc/services of the system, if it has one.
func readServices(sys *customize.System) (services, error) {
	list := services{}
	if sys.Lookup("/etc/services") == nil {
		return list, nil
	}
	text, err := sys.ReadFile("/etc/services", maxServices)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		number, _, _ := strings.Cut(fields[1], "/")
		id, err := strconv.Atoi(number)
		if err != nil || id < 0 || id > 65535 {
			continue
		}
		for i, name := range fields {
			if _, known := list[name]; i != 1 && !known {
				list[name] = id
			}
		}
	}
	return list, nil
}

// id is getPortID of firewalld.
func (s services) id(name string) (int, error) {
	if isNumber(name) {
		id, err := strconv.Atoi(name)
		if err != nil || id > 65535 {
			return 0, errLarge
		}
		return id, nil
	}
	if id, ok := s[name]; ok {
		return id, nil
	}
	return 0, errPort
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// span is getPortRange of firewalld: a port, a range of ports, or a name of a
// service, which may have hyphens itself.
func (s services) span(ports string) (span, error) {
	if isNumber(ports) {
		id, err := s.id(ports)
		return span{id, id}, err
	}
	parts := strings.Split(ports, "-")
	if len(parts) > 16 {
		return span{}, errPort
	}
	var matched []span
	var failed error = errPort
	for i := len(parts); i > 0; i-- {
		a, err := s.id(strings.Join(parts[:i], "-"))
		if err != nil {
			if errors.Is(err, errLarge) {
				failed = err
			}
			continue
		}
		if i == len(parts) {
			return span{a, a}, nil
		}
		b, err := s.id(strings.Join(parts[i:], "-"))
		if err != nil {
			if errors.Is(err, errLarge) {
				failed = err
			}
			continue
		}
		matched = append(matched, span{min(a, b), max(a, b)})
	}
	switch len(matched) {
	case 0:
		return span{}, failed
	case 1:
		return matched[0], nil
	}
	return span{}, errAmbiguous
}

// coalesce adds a range to the ports of a zone that is read, as firewalld does it:
// what overlaps becomes one range at the end.
func (s services) coalesce(list []port, p port) ([]port, error) {
	if err := checkProtocol(p.protocol); err != nil {
		return nil, err
	}
	add, err := s.span(p.ports)
	if err != nil {
		return nil, fmt.Errorf("port %q %w", p.ports, err)
	}
	var kept []port
	for _, q := range list {
		old, err := s.span(q.ports)
		if err != nil {
			return nil, err // it was added by this function
		}
		switch {
		case q.protocol != p.protocol:
		case old.from <= add.from && add.to <= old.to:
			return list, nil
		case add.from <= old.to && old.from <= add.to:
			add = span{min(add.from, old.from), max(add.to, old.to)}
			continue
		}
		kept = append(kept, q)
	}
	return append(kept, port{add.String(), p.protocol}), nil
}

// checkSource returns what is wrong with an address, a network, a MAC address or
// the name of an ipset.
func checkSource(s string) error {
	if name, ok := strings.CutPrefix(s, "ipset:"); ok {
		if name == "" || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%q does not name an ipset", s)
		}
		return nil
	}
	if isMAC(s) {
		return nil
	}
	addr, mask, hasMask := strings.Cut(s, "/")
	bad := fmt.Errorf("%q is not an address, a network, a MAC address or ipset:NAME", s)
	if a, err := netip.ParseAddr(addr); err == nil && a.Is4() {
		if !hasMask || isNumber(mask) && len(mask) < 9 && atoi(mask) <= 32 {
			return nil
		}
		if m, err := netip.ParseAddr(mask); err == nil && m.Is4() {
			return nil
		}
		return bad
	}
	a, err := netip.ParseAddr(strings.Trim(addr, "[]"))
	if err != nil || !a.Is6() || a.Zone() != "" || hasMask && (!isNumber(mask) || len(mask) >= 9 || atoi(mask) > 128) {
		return bad
	}
	return nil
}

// atoi converts a short number of digits.
func atoi(s string) (n int) {
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

func isMAC(s string) bool {
	if len(s) != 17 {
		return false
	}
	for i := range len(s) {
		if i%3 == 2 && s[i] != ':' || i%3 != 2 && !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
			return false
		}
	}
	return true
}
