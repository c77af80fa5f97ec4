package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gobackplane/backplane"
)

// schedule is what a random run does: data, so that it can be shown, repeated and shrunk.
type schedule struct {
	seed      uint64 // what it was drawn from; what is drawn while it runs comes from it, too
	instances int    // how many are open at the start
	steps     []step
}

// verb is what a step does.
type verb string

// The verbs. Faults are those of an instance's link; heal ends them.
const (
	doSubscribe   verb = "subscribe"
	doUnsubscribe verb = "unsubscribe"
	doPublish     verb = "publish"
	doAsk         verb = "ask"
	doClose       verb = "close"
	doReopen      verb = "reopen"
	doStall       verb = "stall"
	doRelease     verb = "release"
	doCut         verb = "cut"
	doHang        verb = "hang"
	doDeafen      verb = "deafen"
	doMute        verb = "mute"
	doTear        verb = "tear"
	doHeal        verb = "heal"
	doRestart     verb = "restart"
	doPause       verb = "pause"
)

// concerns reports whether a step is one of an instance.
func (s step) concerns(node int) bool {
	return s.node == node && s.verb != doPause && s.verb != doRestart
}

// step is one thing that a schedule does. Where it makes no sense (there is nothing to close) it does nothing: so any
// steps can be left out, and what is left is a schedule still.
type step struct {
	verb     verb
	node     int           // which instance; not for a pause and a restart
	address  int           // which address, for what concerns one
	count    int           // how many messages
	size     int           // of how many bytes each; how many get through before a link tears
	callers  int           // from how many goroutines
	canceled bool          // with a context that has ended
	beside   bool          // the steps that follow do not wait for it
	pause    time.Duration // how long
}

// addressCount is how many addresses schedules may use.
const addressCount = 8

// stepAddress is one of the addresses where schedules publish and subscribe: names and scopes that are alike, of every kind.
func stepAddress(i int) backplane.Address {
	return [addressCount]backplane.Address{
		backplane.Group("a"), backplane.Group("b"), backplane.User("a"), backplane.Connection("a"), backplane.All(),
		backplane.Group("a").In("a"), backplane.User("a").In("a"), backplane.All().In("a"),
	}[i]
}

// seatName is the name of the k-th instance, and of those that replace it, in failures.
func seatName(node, lives int) string {
	if lives <= 1 {
		return fmt.Sprintf("n%d", node+1)
	}
	return fmt.Sprintf("n%d.%d", node+1, lives)
}

// String is one line for people.
func (s step) String() string {
	var b strings.Builder
	who, where := seatName(s.node, 1), stepAddress(s.address)
	switch s.verb {
	case doPause:
		return fmt.Sprintf("%v pass", s.pause)
	case doRestart:
		return "the broker restarts, with an empty memory"
	case doPublish:
		fmt.Fprintf(&b, "%s publishes %d to %v", who, s.count, where)
		if s.size > headerLen {
			fmt.Fprintf(&b, ", %d bytes each", s.size)
		}
		if s.canceled {
			b.WriteString(", with a context that has ended")
		}
	case doAsk:
		fmt.Fprintf(&b, "%s asks all", who)
	case doSubscribe:
		fmt.Fprintf(&b, "%s subscribes to %v", who, where)
	case doUnsubscribe:
		fmt.Fprintf(&b, "%s closes its oldest subscription to %v", who, where)
	case doStall:
		fmt.Fprintf(&b, "%s's newest handler of %v begins to block", who, where)
	case doRelease:
		fmt.Fprintf(&b, "%s's handlers of %v go on", who, where)
	case doClose:
		fmt.Fprintf(&b, "%s closes", who)
	case doReopen:
		fmt.Fprintf(&b, "%s closes, and another opens in its place", who)
	case doTear:
		fmt.Fprintf(&b, "%s's link: tear after %d bytes", who, s.size)
	case doCut, doHang, doDeafen, doMute, doHeal:
		fmt.Fprintf(&b, "%s's link: %s", who, s.verb)
	}
	if s.callers > 1 {
		fmt.Fprintf(&b, ", from %d goroutines", s.callers)
	}
	if s.beside {
		b.WriteString(" (while the next steps go on)")
	}
	return b.String()
}

// lines is a schedule for people, one line for each step.
func (s schedule) lines() []string {
	out := make([]string, len(s.steps))
	for i, st := range s.steps {
		out[i] = fmt.Sprintf("%3d  %v", i+1, st)
	}
	return out
}

// without returns the schedule less some steps.
func (s schedule) without(from, to int) schedule {
	s.steps = slices.Concat(s.steps[:from], s.steps[to:])
	return s
}

// withoutInstance returns the schedule less an instance and what it does.
func (s schedule) withoutInstance(node int) schedule {
	var left []step
	for _, st := range s.steps {
		if st.concerns(node) {
			continue
		}
		if st.node > 0 && st.node >= node {
			st.node--
		}
		left = append(left, st)
	}
	s.steps = left
	s.instances--
	return s
}

// withoutPauses returns the schedule less all pauses.
func (s schedule) withoutPauses() schedule {
	s.steps = slices.DeleteFunc(slices.Clone(s.steps), func(st step) bool { return st.verb == doPause })
	return s
}

// with returns the schedule with another step in place of one.
func (s schedule) with(i int, st step) schedule {
	s.steps = slices.Clone(s.steps)
	s.steps[i] = st
	return s
}

// simpler returns steps that do less than s, the simplest first.
func (s step) simpler() []step {
	var out []step
	add := func(change func(*step)) {
		less := s
		if change(&less); less != s {
			out = append(out, less)
		}
	}
	add(func(l *step) {
		l.beside = false
		if l.verb == doPublish {
			l.count, l.size, l.callers = 1, headerLen, 1
		}
	})
	add(func(l *step) { l.beside = false })
	add(func(l *step) { l.pause = (l.pause / 4).Truncate(time.Millisecond) })
	add(func(l *step) { l.callers = min(1, l.callers) })
	if s.verb == doPublish {
		add(func(l *step) { l.canceled = false })
		add(func(l *step) { l.size = headerLen })
		add(func(l *step) { l.count = max(1, l.count/2) })
	}
	return out
}
