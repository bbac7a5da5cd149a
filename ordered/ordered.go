// Package ordered runs work on all processors whose results are wanted in order:
// what is written is the same however many there are, and memory is bounded by
// the slots that the caller gives.
package ordered

import (
	"context"
	"runtime"
	"sync"
)

// Stages are the three steps of [Run] for an item of work. T is a pointer to a
// slot, whose buffers are used again and again.
type Stages[T any] struct {
	// Fill puts the next item into the slot, in one goroutine. It returns
	// false when there is none.
	Fill func(slot T) bool
	// Work does the item, in the goroutine number worker of several.
	Work func(worker int, slot T) error
	// Emit takes the result, in the order of the items, in the goroutine that
	// called Run.
	Emit func(slot T) error
}

// Workers returns the number of goroutines that Run starts for a number of
// slots: one for each core that Go may use.
func Workers(slots int) int { return max(1, min(runtime.GOMAXPROCS(0), slots)) }

// Run does all items, at most len(slots) of them at a time. It stops at the
// first error in the order of the items, or when ctx ends, and returns when all
// its goroutines have ended.
func Run[T any](ctx context.Context, slots []T, s Stages[T]) error {
	type task struct {
		slot T
		done chan error // has room for one
	}
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	// None of these is ever written to when full: there are len(slots) tasks.
	free := make(chan *task, len(slots))
	todo := make(chan *task, len(slots))
	order := make(chan *task, len(slots))
	for _, slot := range slots {
		free <- &task{slot, make(chan error, 1)}
	}
	wg.Go(func() {
		defer close(order)
		defer close(todo)
		for {
			select {
			case <-inner.Done():
				return
			case t := <-free:
				if inner.Err() != nil || !s.Fill(t.slot) {
					return
				}
				order <- t
				todo <- t
			}
		}
	})
	for worker := range Workers(len(slots)) {
		wg.Go(func() {
			for t := range todo {
				if inner.Err() != nil {
					t.done <- inner.Err()
					continue
				}
				t.done <- s.Work(worker, t.slot)
			}
		})
	}
	for t := range order {
		if err := <-t.done; err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.Emit(t.slot); err != nil {
			return err
		}
		free <- t
	}
	return ctx.Err()
}
