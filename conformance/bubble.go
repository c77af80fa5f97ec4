package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A bubble must not end while goroutines block in it: testing/synctest panics then. So what a backplane leaves behind would
// end the test binary inside the first property, and the one that is about it would never speak.

// afterglow is how long a bubble goes on after its property, of its own clock: what ends by itself, if late, ends in it.
const afterglow = 2 * time.Hour

// deadlocked begins the text of synctest's panic.
const deadlocked = "deadlock: "

var errLeak = errors.New("goroutines block for ever though all instances are closed, which " + "close/clean" + " is about")

// inBubble proves one property in a bubble. What blocks for ever in it is a failure that names it; its goroutines are lost.
func (s *suite) inBubble(t *testing.T, p Property) Result {
	t.Helper()
	var r Result
	if err := bubble(t, func(ctx context.Context) {
		r = s.put(ctx, p)
		<-time.After(afterglow)
	}); err != nil && (r.Verdict == Proven || r.Verdict == 0) {
		r.Property, r.Seed, r.flags = p, s.seed, s.flags(p)
		_, stacks := goroutines(r.world)
		f := &Failure{Property: p, Witness: err.Error() + ".", Detail: tidy(stacks), err: err}
		f.Property.Often = "a goroutine that waits for somebody who has gone, without looking at whether the instance is closed."
		r.Verdict, r.Err = Failed, f
	}
	s.marked(&r)
	return r
}

// bubble runs f in a bubble, and returns an error where goroutines block in it for ever.
func bubble(t *testing.T, f func(ctx context.Context)) (err error) {
	t.Helper()
	over := false
	defer func() {
		said := recover()
		if said == nil {
			return
		}
		if e, is := said.(error); !is || !strings.HasPrefix(e.Error(), deadlocked) {
			panic(said)
		}
		if err = errLeak; !over {
			err = fmt.Errorf("the property never came to its end: %w", errLeak)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		f(t.Context())
		over = true
	})
	return nil
}
