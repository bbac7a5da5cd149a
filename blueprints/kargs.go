package blueprints

// SplitKargs splits a kernel command line into arguments as the kernel does:
// at white space outside double quotes, which stay.
func SplitKargs(s string) []string {
	var args []string
	start, quoted := -1, false
	for i, r := range s {
		space := r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\v' || r == '\f'
		switch {
		case space && !quoted:
			if start >= 0 {
				args = append(args, s[start:i])
			}
			start = -1
			continue
		case r == '"':
			quoted = !quoted
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		args = append(args, s[start:])
	}
	return args
}
