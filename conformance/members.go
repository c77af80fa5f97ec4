package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/gobackplane/backplane"
)

// Who is there, when links fail.

// memberTimeout is within which an instance that is cut off is known to be dead, by default.
const memberTimeout = 8 * time.Second

func membersDeath(w *world) {
	crew, room := w.crew(), group("room")
	dead, rest := crew[0], crew[1:]
	w.needCut(dead)
	for _, n := range crew {
		n.subscribe(room)
	}
	w.together(crew)
	dead.publish(room)
	var told []*healthLog
	for _, n := range rest {
		if _, tells := n.reporter(); tells {
			l := n.followHealth()
			l.await("up", func(s backplane.State) bool { return s == backplane.Up })
			told = append(told, l)
		}
	}
	dead.cut()
	for _, l := range told {
		l.await("not up, since a member is late", func(s backplane.State) bool { return s != backplane.Up })
		l.stop()
	}
	w.aside(func() {
		for _, n := range rest {
			w.inTime(memberTimeout, n.name+" to list the dead no more", func() bool { return n.knows(rest) })
		}
	})
	dead.heal()
	w.together(crew)
	dead.publishAgain(room)
}

func membersMissedGoodbye(w *world) {
	crew := w.crew()
	returns, leaves := crew[0], w.newInstance(w.namespace())
	w.needCut(returns)
	leaves.open()
	w.together(append(slices.Clone(crew), leaves))
	w.outage(returns, leaves.close)
	w.aside(func() {
		w.inTime(memberTimeout, returns.name+" to list no more who left while it was cut off", func() bool { return returns.knows(crew) })
	})
	w.together(crew)
}

// inTime is eventually for what takes a known time. Patience comes on top of it, for a machine that is busy.
func (w *world) inTime(d time.Duration, what string, try func() bool) {
	const pause = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	for !try() {
		if !rest(ctx, pause) {
			break
		}
	}
	w.check()
	w.eventually(what, try)
}
