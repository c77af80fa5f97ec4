package hubkit

import (
	"context"
	"time"

	"github.com/gobackplane/backplane"
)

// A change of a user's memberships reaches this instance as a question. One that it could not hear, because its link was down
// or because it was taken for dead, or could not act on, because the store did not answer, is in the record nevertheless. So
// after what may have cost it a question, an instance reads the records of all users that are connected here again, and after
// a question that it could not answer that user's. It reads one at a time, and rests for as long as a reading took: a thousand
// instances that lost the same broker do not ask it for everything at once.
//
// What only the question said is lost: that connections which had joined by themselves are to leave too, or that those which had
// left by themselves are to come back.

const (
	catchUpRest  = time.Millisecond       // the shortest rest between two readings
	catchUpPause = 500 * time.Millisecond // after a failed one; doubled with each that follows
	catchUpLong  = 30 * time.Second       // at most
)

// loses reports whether a gap of what the hub hears from others may have cost it a question as well. A queue that was full here,
// and a message that cannot be read, say nothing of that.
func loses(cause backplane.GapCause) bool {
	return cause != backplane.GapOverflow && cause != backplane.GapUnreadable
}

// missed notes that changes of any user here may have been missed.
func (t *grantTable) missed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.users {
		t.fallBehind(g)
	}
	select {
	case t.retry <- struct{}{}:
	default:
	}
}

// missedOf notes it of one user.
func (t *grantTable) missedOf(g *grants) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fallBehind(g)
}

// fallBehind notes a user to be read again. mu is held.
func (t *grantTable) fallBehind(g *grants) {
	if t.behind == nil {
		t.behind = make(map[*grants]struct{})
	}
	t.behind[g] = struct{}{}
	if !t.catching {
		t.catching = t.hub.spawn(t.catchUp)
	}
}

// lagging counts the users that are to be read again.
func (t *grantTable) lagging() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.behind)
}

// catchUp reads what was missed, until nothing is left or the hub closes.
func (t *grantTable) catchUp() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := catchUpPause
	var retry chan struct{} // not nil in a pause
	for {
		select {
		case <-timer.C:
		case <-retry:
			pause = catchUpPause
		case <-t.hub.closing.Done():
			return
		}
		g := t.nextBehind()
		if g == nil {
			return
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.hub.closing, askDefault)
		_, err := g.refresh(ctx, t.hub.ensureForOthers, "")
		cancel()
		rest := max(time.Since(began), catchUpRest)
		if err == nil {
			pause, retry = catchUpPause, nil
		} else {
			t.hub.log.Debug("memberships of a user could not be read again", "err", err)
			t.missedOf(g)
			rest, pause, retry = pause, min(2*pause, catchUpLong), t.retry
		}
		t.unpin(g.user)
		timer.Reset(rest)
	}
}

// nextBehind takes a user out of those that are to be read again, and pins it; nil ends the goroutine.
func (t *grantTable) nextBehind() *grants {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g := range t.behind {
		delete(t.behind, g)
		g.pins++
		return g
	}
	t.behind, t.catching = nil, false
	return nil
}
