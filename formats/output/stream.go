package output

// streamBuffer is the number of bytes that are written at once.
const streamBuffer = 1 << 20

// Stream appends to a File, buffered.
type Stream struct {
	f   *File
	off int64 // of buf
	buf []byte
}

// NewStream returns a Stream that writes to f from off on.
func NewStream(f *File, off int64) *Stream {
	return &Stream{f: f, off: off, buf: make([]byte, 0, streamBuffer)}
}

// Offset returns where in the file the next byte goes.
func (s *Stream) Offset() int64 { return s.off + int64(len(s.buf)) }

// Write implements io.Writer. The error may be that of an earlier one.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(s.buf) == cap(s.buf) {
			if err := s.Flush(); err != nil {
				return n - len(p), err
			}
		}
		k := min(len(p), cap(s.buf)-len(s.buf))
		s.buf = append(s.buf, p[:k]...)
		p = p[k:]
	}
	return n, nil
}

// Flush writes what is buffered.
func (s *Stream) Flush() error {
	if _, err := s.f.WriteAt(s.buf, s.off); err != nil {
		return err
	}
	s.off += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}
