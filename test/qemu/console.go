package qemu

import (
	"bytes"
	"regexp"
)

// kernelMessage matches a line of the kernel's own, wherever it begins. The kernel
// writes such a line as a whole, but it may do so within one of a program: of that only
// the 16 bytes of the UART's FIFO are written at a time.
var kernelMessage = regexp.MustCompile(`\[ *\d+\.\d{6}\](?:\[ *[CT]\d+\])? [^\n]*\n`)

// speech is what programs said on a console, without what the kernel said meanwhile.
type speech struct {
	text []byte
	cuts []cut
}

// cut is a place of the text where something of the log was left out.
type cut struct{ at, size int }

// spoken returns what programs said, of a log without carriage returns.
func spoken(log []byte) speech {
	var s speech
	end := 0
	for _, m := range kernelMessage.FindAllIndex(log, -1) {
		s.text = append(s.text, log[end:m[0]]...)
		s.cuts = append(s.cuts, cut{len(s.text), m[1] - m[0]})
		end = m[1]
	}
	s.text = append(s.text, log[end:]...)
	return s
}

// logged returns where in the log the first n bytes of the text end.
func (s speech) logged(n int) int {
	at := n
	for _, c := range s.cuts {
		if c.at >= n {
			break
		}
		at += c.size
	}
	return at
}

// lines returns the complete lines that programs said, as they are printed.
func lines(log []byte) []byte {
	text := spoken(bytes.ReplaceAll(log, []byte{'\r'}, nil)).text
	return text[:bytes.LastIndexByte(text, '\n')+1]
}
