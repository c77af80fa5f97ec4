package conformance

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gobackplane/backplane"
)

// What a gap says beside that there is one.

func sinceProperties() []Property {
	return []Property{{
		ID:   "link/since",
		Says: "a gap tells since when messages may be missing: not later than the first of them was published, and not before the subscription.",
		Why:  "who fetches what changed since then would leave out just what was missed.",
		Often: "the time at which the gap is told, or the outage was noticed, in place of that when something last came in; " +
			"the start of the instance.",
		Needs: NeedLink, Since: "v1", run: linkSince,
	}}
}

// toldGap is a gap and what else is known of it.
type toldGap struct {
	cause backplane.GapCause
	since time.Time
}

func linkSince(w *world) {
	crew, room := w.crew(), group("room")
	n, publisher := crew[0], crew[1]
	w.needCut(n)
	faults := []func(){n.cut}
	if n.canLose() {
		faults = append(faults, n.lose)
	}
	for range w.rounds(2) {
		for _, fault := range faults {
			var mu sync.Mutex
			var told []toldGap // guarded by mu
			began := time.Now()
			s := n.subscribeWith(room, func(_ context.Context, e backplane.Event, _ int) {
				if g, is := e.(*backplane.Gap); is {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, toldGap{g.Cause, g.Since})
				}
			})
			w.arrives(publisher.publish(room), []int{s.id})
			const moment = 20 * time.Millisecond // more than a message takes, and a clock that is read coarsely
			fault()
			rest(w.ctx, moment)
			missed := time.Now()
			publisher.publish(room)
			rest(w.ctx, moment)
			n.heal()
			w.hears(publisher, room, []int{s.id})
			w.awaitGap(s, 1)
			s.close()
			mu.Lock()
			gaps := told
			mu.Unlock()
			for _, g := range gaps {
				if g.since.After(missed) || g.since.Before(began) {
					w.fail(fmt.Errorf("%s was told of a gap (%v) since %v; it subscribed at %v, and missed a message that was published at %v", n.name, g.cause,
						g.since.Format(time.StampMicro), began.Format(time.StampMicro), missed.Format(time.StampMicro)), false)
				}
			}
			w.check()
		}
	}
}
