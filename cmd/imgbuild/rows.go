package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// rows prints names and values for people, in two columns.
type rows struct{ w *tabwriter.Writer }

func newRows(out io.Writer) *rows { return &rows{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)} }

// add prints a value, unless it is "", in one line that controls no terminal: it may be
// a stranger's.
func (r *rows) add(name, value string) {
	if value != "" {
		fmt.Fprintf(r.w, "%s:\t%s\n", name, oneLine(value))
	}
}

// flush ends the columns, and returns the first error of printing them.
func (r *rows) flush() error { return r.w.Flush() }
