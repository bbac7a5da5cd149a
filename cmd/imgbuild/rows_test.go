package main

import (
	"strings"
	"testing"

	"imgbuild/pipeline"
	"imgbuild/survey"
)

// What an image or a disk says of itself controls no terminal.
func TestPrintedHostile(t *testing.T) {
	const evil = "x\x1b]0;title\a\x1b[2J\r\nRefused: nothing"
	for name, print := range map[string]func(out *strings.Builder) error{
		"image": func(out *strings.Builder) error {
			return printInspection(out, &pipeline.Inspection{Reference: "r", Version: evil, Deep: &pipeline.InspectDeep{OS: evil, Kernel: evil, Warnings: []string{evil}}})
		},
		"disk": func(out *strings.Builder) error {
			return printDisk(out, &pipeline.DiskReport{Path: "d", Details: evil, Report: survey.Report{
				FileSystem: "ext4", Label: evil, Partitions: []survey.Partition{{Number: 1, Name: evil, Label: evil}},
				Programs: []survey.File{{Path: evil}}, Entries: []survey.Entry{{Title: evil, Options: evil}}, Notes: []string{evil},
			}})
		},
	} {
		var out strings.Builder
		if err := print(&out); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(out.String(), "\x1b\a\r") || strings.Contains(out.String(), "\nRefused: nothing") {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}
