package layouts

import (
	"fmt"
	"strings"

	"imgbuild/fault"
)

// Problems are all that is wrong with a layout, in its order, one sentence each.
type Problems []string

// Error has one line for each problem.
func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0]
	}
	return fmt.Sprintf("%d problems\n%s", len(p), strings.Join(p, "\n"))
}

// add adds a problem, worded as fmt.Sprintf does it, once.
func (p *Problems) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, old := range *p {
		if old == text {
			return
		}
	}
	*p = append(*p, text)
}

// err returns the problems as an error of the class, nil without any.
func (p Problems) err(class fault.Class, hint string) error {
	if len(p) == 0 {
		return nil
	}
	return fault.New(class, p, hint)
}
