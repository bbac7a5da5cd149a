package pipeline

// Progress is told what a build is doing. The calls come from several
// goroutines; a nil Progress is not allowed, [Silent] is.
type Progress interface {
	// Stage begins a stage. total is in bytes, 0 where it is not known. The
	// stage before it is over.
	Stage(name string, total int64)
	// Advance adds n bytes to the stage's count.
	Advance(n int64)
	// Note is a line that a user may want to read.
	Note(text string)
	// Warn is a line that a user should read.
	Warn(text string)
}

// Silent is a Progress that says nothing.
type Silent struct{}

func (Silent) Stage(string, int64) {}
func (Silent) Advance(int64)       {}
func (Silent) Note(string)         {}
func (Silent) Warn(string)         {}
