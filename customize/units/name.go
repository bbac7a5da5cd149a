package units

import (
	"slices"
	"strings"
)

// nameKind says what stands at the "@" of a unit's name.
type nameKind int

const (
	invalidName  nameKind = iota
	plainName             // a.service
	templateName          // a@.service
	instanceName          // a@b.service
)

// maxName is UNIT_NAME_MAX: a name has to be shorter.
const maxName = 256

// types are the suffixes of units.
var types = []string{"service", "mount", "swap", "socket", "target", "device", "automount", "timer", "path", "slice", "scope"}

// mayAlias and mayTemplate are unit_type_may_alias and unit_type_may_template.
var (
	mayAlias    = []string{"service", "socket", "target", "device", "timer", "path"}
	mayTemplate = []string{"service", "socket", "target", "timer", "path"}
)

// classify returns the kind of a name as unit_name_is_valid tells it.
func classify(name string) nameKind {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name) >= maxName || !slices.Contains(types, name[dot+1:]) {
		return invalidName
	}
	stem := name[:dot]
	if !validChars(stem) {
		return invalidName
	}
	at := strings.IndexByte(stem, '@')
	switch {
	case at < 0:
		return plainName
	case at == 0:
		return invalidName
	case at == len(stem)-1:
		return templateName
	}
	return instanceName
}

// validChars tells whether s has only the bytes that may stand before the suffix.
func validChars(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune(`@:-_.\`, rune(c)) {
			return false
		}
	}
	return true
}

// unitType returns the suffix of a valid name.
func unitType(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// split returns the prefix, the instance and the suffix with its dot of a valid
// name.
func split(name string) (prefix, instance, suffix string) {
	dot := strings.LastIndexByte(name, '.')
	prefix, instance, _ = strings.Cut(name[:dot], "@")
	return prefix, instance, name[dot:]
}

// template returns the name without its instance, "" for a plain name.
func template(name string) string {
	if k := classify(name); k != templateName && k != instanceName {
		return ""
	}
	prefix, _, suffix := split(name)
	return prefix + "@" + suffix
}

// withInstance returns the template or instance with another instance, "" where
// that makes no name.
func withInstance(name, instance string) string {
	prefix, _, suffix := split(name)
	full := prefix + "@" + instance + suffix
	if instance == "" || classify(full) != instanceName {
		return ""
	}
	return full
}

// compatible is unit_symlink_name_compatible: whether a link in a .wants directory
// may have the name, where target is the unit.
func compatible(link, target string, propagate bool) bool {
	k := classify(link)
	if link == target && (k == plainName || k == instanceName) {
		return true
	}
	if k != templateName && k != instanceName || classify(target) != templateName || template(link) != target {
		return false
	}
	return k == instanceName || propagate
}

// validAlias is unit_validate_alias_symlink_or_warn: what is wrong with an alias
// link for the unit target. The two are names.
func validAlias(link, target string) failure {
	k := classify(link)
	switch {
	case k == invalidName, !slices.Contains(mayAlias, unitType(link)),
		k != plainName && !slices.Contains(mayTemplate, unitType(link)):
		return invalid
	case link == target:
		return selfAlias
	}
	t := classify(target)
	if t == invalidName || t != k && (k != instanceName || t != templateName) || unitType(link) != unitType(target) {
		return badAlias
	}
	if t == instanceName {
		_, a, _ := split(link)
		if _, b, _ := split(target); a != b {
			return badAlias
		}
	}
	return none
}
