package grub

// Command is a command in a configuration.
type Command struct {
	Name string // as it is spelled, without quotes
	Args int    // number of arguments
	// Conditional says that the command is inside a branch, a loop, a function
	// or a menu entry, and so need not run.
	Conditional bool
	End         int // offset behind the last byte of the name
}

// Commands returns the commands of a configuration in the order they stand
// there, those in blocks included.
//
// It knows the words of GRUB's script language (manual, "Writing full
// configuration files directly") but expands nothing; what GRUB would refuse
// gives some commands, never an error.
func Commands(script []byte) []Command {
	var out []Command
	depth := 0
	start := true // at a place where a command can begin
	var open int  // 1 + index of the command whose arguments follow, or 0
	for off := 0; off < len(script); {
		switch c := script[off]; {
		case c == ' ' || c == '\t' || c == '\r':
			off++
		case c == '\n' || c == ';':
			start, open = true, 0
			off++
		case c == '#':
			for off < len(script) && script[off] != '\n' {
				off++
			}
		case c == '|' || c == '&' || c == '<' || c == '>':
			start, open = true, 0
			off++
		case c == '{' || c == '}':
			if c == '{' {
				depth++
			} else {
				depth = max(0, depth-1)
			}
			start, open = true, 0
			off++
		default:
			word, end := scanWord(script, off)
			off = end
			if word == "" { // an escaped line end
				continue
			}
			if !start {
				if open > 0 {
					out[open-1].Args++
				}
				continue
			}
			switch word {
			case "then", "do":
				depth++
			case "fi", "done":
				depth = max(0, depth-1)
			case "elif":
				depth = max(0, depth-1)
			case "if", "while", "until", "else", "!", "time":
			case "for", "function":
				start = false // up to "; do", or to the brace
			default:
				out = append(out, Command{Name: word, Conditional: depth > 0, End: end})
				open, start = len(out), false
			}
		}
	}
	return out
}

// scanWord returns the word at off without its quotes, and the offset behind
// it. It takes at least one byte.
func scanWord(b []byte, off int) (string, int) {
	var word []byte
	for off < len(b) {
		switch c := b[off]; c {
		case ' ', '\t', '\r', '\n', ';', '|', '&', '<', '>':
			return string(word), off
		case '{', '}':
			// Part of a word only behind a dollar, as in ${name}.
			if c == '{' && len(word) > 0 && word[len(word)-1] == '$' {
				for off < len(b) && b[off] != '}' && b[off] != '\n' {
					word = append(word, b[off])
					off++
				}
				if off < len(b) && b[off] == '}' {
					word = append(word, '}')
					off++
				}
				continue
			}
			return string(word), off
		case '\\':
			off++
			if off < len(b) {
				if b[off] != '\n' {
					word = append(word, b[off])
				}
				off++
			}
		case '\'':
			for off++; off < len(b) && b[off] != '\''; off++ {
				word = append(word, b[off])
			}
			off = min(off+1, len(b))
		case '"':
			for off++; off < len(b) && b[off] != '"'; off++ {
				if b[off] == '\\' && off+1 < len(b) {
					off++
				}
				word = append(word, b[off])
			}
			off = min(off+1, len(b))
		default:
			word = append(word, c)
			off++
		}
	}
	return string(word), off
}

// blsCommand shows the boot loader entries in a menu.
const blsCommand = "blscfg"

// BLSUse is what a configuration does about boot loader entries.
type BLSUse int

const (
	// BLSUnused: it never runs blscfg.
	BLSUnused BLSUse = iota
	// BLSConditional: it runs blscfg only in branches, and so decides by itself
	// what to do where the command is missing.
	BLSConditional
	// BLSRequired: it runs blscfg whatever GRUB can do.
	BLSRequired
)

// UseOfBLS tells what a configuration does about boot loader entries.
func UseOfBLS(script []byte) BLSUse {
	use := BLSUnused
	for _, c := range Commands(script) {
		switch {
		case c.Name != blsCommand:
		case !c.Conditional:
			return BLSRequired
		default:
			use = BLSConditional
		}
	}
	return use
}

// blsRootArgs make the blscfg command of GRUB 2.14 look where the entries are
// when /boot is a directory of the root file system. Other vendors' blscfg
// looks there by itself and takes no options.
const blsRootArgs = " --path /boot/loader/entries --enable-fallback"

// WithBLSPath returns the configuration with arguments for every blscfg that
// has none, so that upstream GRUB 2.14 finds the entries of a /boot directory
// on the root file system.
func WithBLSPath(script []byte) []byte {
	var out []byte
	pos := 0
	for _, c := range Commands(script) {
		if c.Name == blsCommand && c.Args == 0 {
			out = append(append(out, script[pos:c.End]...), blsRootArgs...)
			pos = c.End
		}
	}
	return append(out, script[pos:]...)
}
