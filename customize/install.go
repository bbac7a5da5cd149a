package customize

import "strings"

// InstallLine returns the Containerfile line that adds packages to the system's
// image, with the package manager that the image has.
func (s *System) InstallLine(packages ...string) string {
	list := strings.Join(packages, " ")
	for _, m := range []struct{ program, line string }{
		{"dnf", "RUN dnf install -y %"},
		{"apt-get", "RUN apt-get update && apt-get install -y %"},
		{"zypper", "RUN zypper --non-interactive install %"},
		{"pacman", "RUN pacman -Sy --noconfirm %"},
		{"apk", "RUN apk add %"},
	} {
		if s.Lookup("/usr/bin/"+m.program) != nil || s.Lookup("/usr/sbin/"+m.program) != nil || s.Lookup("/sbin/"+m.program) != nil {
			return strings.ReplaceAll(m.line, "%", list)
		}
	}
	return "RUN dnf install -y " + list
}
