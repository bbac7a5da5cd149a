// Package blueprints reads what users write down about a disk: blueprint
// TOML and JSON files, and the sizes in them and in flags.
package blueprints

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// units are the suffixes of a size. The long ones are those of blueprints and
// case-sensitive; the single letters are what disk tools and qemu-img take and
// count in powers of 1024.
func unit(s string) (int64, bool) {
	switch s {
	case "", "B":
		return 1, true
	case "kB":
		return 1e3, true
	case "KiB", "K", "k":
		return 1 << 10, true
	case "MB":
		return 1e6, true
	case "MiB", "M", "m":
		return 1 << 20, true
	case "GB":
		return 1e9, true
	case "GiB", "G", "g":
		return 1 << 30, true
	case "TB":
		return 1e12, true
	case "TiB", "T", "t":
		return 1 << 40, true
	}
	return 0, false
}

// ParseSize reads a size: a number, decimals allowed, and a unit (kB KiB MB MiB
// GB GiB TB TiB, or K M G T for the binary ones), with or without a blank
// between them. The result is in bytes, at least 1 and below 2^63, rounded down.
func ParseSize(s string) (int64, error) {
	number := strings.TrimRightFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	name := strings.TrimSpace(s[len(number):])
	factor, ok := unit(name)
	if !ok {
		return 0, fmt.Errorf("size %q: unknown unit %q, want one of kB KiB MB MiB GB GiB TB TiB", s, name)
	}
	if number == "" || len(number) > 32 || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("size %q: not a number with a unit, such as \"10 GiB\"", s)
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("size %q: not a number with a unit, such as \"10 GiB\"", s)
	}
	value.Mul(value, new(big.Rat).SetInt64(factor))
	bytes := new(big.Int).Quo(value.Num(), value.Denom())
	if !bytes.IsInt64() {
		return 0, fmt.Errorf("size %q: too large", s)
	}
	if bytes.Sign() <= 0 {
		return 0, errors.New("size of zero")
	}
	return bytes.Int64(), nil
}

// FormatSize returns a size for people: in the largest binary unit that leaves
// at most one decimal place exact, else rounded to one.
func FormatSize(n int64) string {
	const names = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, k := float64(n)/1024, 0
	for v >= 1024 && k < len(names)-1 {
		v /= 1024
		k++
	}
	text := strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	return fmt.Sprintf("%s %ciB", text, names[k])
}
