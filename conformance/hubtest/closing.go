package hubtest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gobackplane/backplane/hubkit"
)

// The chapters of H8 and of closing.
func closingProperties() []Property {
	return []Property{
		{
			ID: "drain/refuses", Contract: "H8", Since: "v1", Needs: AbilityDrain,
			Says:  "an instance that drains takes no new connection, and says so by ErrDraining, while others do.",
			Why:   "clients would be sent away and come back to the same instance.",
			Often: "a list of connections that is gone through once.",
			run:   drainRefuses,
		},
		{
			ID: "drain/flushes", Contract: "H8", Since: "v1", Needs: AbilityDrain,
			Says:  "a connection that is sent elsewhere gets what waits for it before it is closed, and is told that its instance goes away.",
			Why:   "each deployment would cost messages.",
			Often: "a close that discards the outbox.",
			run:   drainFlushes,
		},
		{
			ID: "drain/reports", Contract: "H8", Since: "v1", Needs: AbilityDrain,
			Says:  "a drain whose context ends closes who is left, and reports for each connection how many messages remained.",
			Why:   "nobody would know what a deployment has cost.",
			Often: "a report of how many were told, not of what became of them.",
			run:   drainReports,
		},
		{
			ID: "drain/paced", Contract: "H8", Since: "v1", Needs: AbilityDrain, Slow: true,
			Says:  "connections are sent elsewhere evenly over the time that was given.",
			Why:   "the instances that take them over would be overrun.",
			Often: "a loop without a pause.",
			run:   drainPaced,
		},
		{
			ID: "close/clean", Contract: "H4", Since: "v1",
			Says:  "when an instance was closed, with clients that are stuck and questions that wait, none of its goroutines is left.",
			Why:   "a program could not open and close hubs.",
			Often: "a goroutine that waits for an answer, or for a client, without looking at whether the hub is closed.",
			run:   closeClean,
		},
	}
}

// drain drains the ward of an instance.
func (s *seat) drain(ctx context.Context, over time.Duration) (d Drained, err error) {
	err = s.w.callWith(ctx, s, nil, fmt.Sprintf("Drain over %v", over), func(ctx context.Context) (string, error) {
		d, err = s.hub(ward).raw.Drain(ctx, over)
		return fmt.Sprintf("%d connections, %d remained ", d.Connections, len(d.Remained)), err
	})
	return d, err
}

func drainRefuses(w *world) {
	all := w.crew()
	c := all[0].member("4B")
	ctx, cancel := w.patient()
	defer cancel()
	d, err := all[0].drain(ctx, time.Millisecond)
	w.check()
	if err != nil || d.Connections != 1 {
		w.fatalf("n1: Drain of one connection reports %d: %w", d.Connections, orNone(err))
	}
	h := all[0].hub(ward)
	w.mustFail("Connect to an instance that drains", w.connect(w.newClient(h, ""), ConnectOptions{}), hubkit.ErrDraining)
	c.ended(ReasonGoingAway, "")
	other := all[1].member("4B")
	h.send(groups("4B"), "still")
	w.fenceFrom(h, groups("4B"), []*client{other})
	other.got("still")
}

func drainFlushes(w *world) {
	all := w.crew()
	slow, fine := all[0].user("u", "4B"), all[0].member("4B")
	slow.block()
	var want []string
	for i := range 10 {
		want = append(want, strconv.Itoa(i))
		all[1].send(groups("4B"), strconv.Itoa(i))
	}
	w.fence()
	var d Drained
	var err error
	finish := w.begin(func() {
		ctx, cancel := w.patient()
		defer cancel()
		d, err = all[0].drain(ctx, time.Millisecond)
	})
	fine.ended(ReasonGoingAway, "")
	slow.unblock()
	finish()
	if err != nil || d.Connections != 2 || len(d.Remained) != 0 {
		w.fatalf("n1: Drain of two connections reports %d, and that %d have not got everything: %w", d.Connections, len(d.Remained), orNone(err))
	}
	slow.ended(ReasonGoingAway, "")
	slow.got(want...)
	fine.got(want...)
}

func drainReports(w *world) {
	all := w.crew()
	const sends = 10
	stuck, fine := all[0].member("4B"), all[0].member("4B")
	stuck.block()
	for range sends {
		all[1].send(groups("4B"), "x")
	}
	fine.hearsTimes("x", sends)
	ctx, cancel := context.WithTimeout(w.ctx, brief)
	defer cancel()
	d, err := all[0].drain(ctx, time.Millisecond)
	w.check()
	if err == nil {
		w.fatalf("n1: Drain with a client that never reads succeeds")
	}
	stuck.ended(ReasonGoingAway, "")
	if d.Connections != 2 || d.Remained[stuck.id()] != sends || d.Remained[fine.id()] != 0 {
		w.failf([]*client{stuck}, "n1: Drain reports that %d messages remained for %s and %d for %s, and it should be %d and 0",
			d.Remained[stuck.id()], stuck.name, d.Remained[fine.id()], fine.name, sends)
	}
}

func drainPaced(w *world) {
	all := w.crew()
	const n, over = 10, 2 * time.Second
	var clients []*client
	for range n {
		clients = append(clients, all[0].member())
	}
	ctx, cancel := w.patient()
	defer cancel()
	if _, err := all[0].drain(ctx, over); err != nil {
		w.check()
		w.fatalf("n1: Drain failed: %w", err)
	}
	var ends []time.Duration
	for _, c := range clients {
		c.ended(ReasonGoingAway, "")
		w.mu.Lock()
		ends = append(ends, c.closedAt)
		w.mu.Unlock()
	}
	slices.Sort(ends)
	if took := ends[n-1] - ends[0]; took < over/2 {
		w.fatalf("n1: %d connections were sent elsewhere within %v, and it should be about %v", n, took, over)
	}
}

func closeClean(w *world) {
	first := w.open("", 1)[0] // what is made for all instances may be started by the first one
	all := append(w.open("", crew-1), first)
	stuck, mute := all[0].user("u", "4B"), all[0].user("u", "4C")
	stuck.block()
	for range 5 {
		all[1].send(groups("4B"), "x")
	}
	var outcomes []func() invoked
	if w.suite.has(AbilityInvoke) {
		outcomes = []func() invoked{all[0].asks(mute, "?"), all[1].asks(mute, "?")}
		mute.question(1)
	}
	for _, s := range all {
		s.close()
	}
	for _, outcome := range outcomes {
		if r := outcome(); r.err == nil {
			w.fatalf("a question to %s was answered, and it was not", mute.name)
		}
	}
	stuck.ended(ReasonGoingAway, "")
	mute.ended(ReasonGoingAway, "")
	for _, s := range all[:crew-1] {
		s.isGone()
	}
}

// isGone checks that no goroutine and no connection of a closed instance is left. What has told that it is done takes a moment to
// be gone, and no event tells.
func (s *seat) isGone() {
	for end := time.Now().Add(s.w.suite.patience); time.Now().Before(end); {
		if left, _ := s.goroutines(); left == 0 && s.link.Open() == 0 {
			return
		}
		s.w.within(10*time.Millisecond, func() bool { return false })
		s.w.check()
	}
	left, stacks := s.goroutines()
	first, _, _ := strings.Cut(stacks, "\n\n")
	s.w.fatalf("%s was closed, and has %d goroutines and %d connections left, the first:\n%s", s.name, left, s.link.Open(), first)
}
