package main

import (
	"fmt"
	"strconv"
	"strings"

	"imgbuild/blueprints"
	"imgbuild/fault"
	"imgbuild/oci"
)

// parseLimits reads NAME=N texts into l.
func parseLimits(texts []string, l *oci.Limits) error {
	for _, text := range texts {
		if err := parseLimit(text, l); err != nil {
			return fault.New(fault.Usage, fmt.Errorf("--limit %s: %w", text, err), "the limits are "+limitHelp())
		}
	}
	return nil
}

func parseLimit(text string, l *oci.Limits) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("not of the form NAME=N")
	}
	for _, limit := range oci.LimitNames() {
		if limit.Name != name {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil && limit.Bytes {
			n, err = blueprints.ParseSize(value)
		}
		if err != nil || n <= 0 {
			return fmt.Errorf("%q is no number above 0", value)
		}
		limit.Set(l, n)
		return nil
	}
	return fmt.Errorf("no limit is called %q", name)
}

// limitHelp lists the limits and their defaults.
func limitHelp() string {
	var list []string
	for _, limit := range oci.LimitNames() {
		value := strconv.FormatInt(limit.Value, 10)
		if limit.Bytes && limit.Value >= 1<<20 {
			value = strings.ReplaceAll(blueprints.FormatSize(limit.Value), " ", "")
		}
		list = append(list, fmt.Sprintf("%s (%s)", limit.Name, value))
	}
	return strings.Join(list, ", ")
}
