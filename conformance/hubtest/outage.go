package hubtest

import (
	"context"
	"fmt"
	"slices"

	"github.com/gobackplane/backplane"
	"github.com/gobackplane/backplane/hubkit"
)

// The chapter of links that fail for a while.
func outageProperties() []Property {
	return []Property{
		{
			ID: "outage/unavailable", Contract: "H2", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "an instance whose own link is down says ErrUnavailable, has done nothing, and works again after the outage, memberships included.",
			Why:   "a server would tell its users that others are gone while it is itself who is.",
			Often: "one error for all that fails; groups that are not subscribed again.",
			run:   outageUnavailable,
		},
		{
			ID: "outage/everybody", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "when all links break at once, as with a broker that restarts, all connections stay, and afterwards everything works as before.",
			Why:   "a restart of the broker would end in a farm that looks well and delivers nothing.",
			Often: "members that declare each other dead in their own outage; groups that only the first reconnect restores.",
			run:   outageEverybody,
		},
		{
			ID: "outage/join-fails-clean", Contract: "H4", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "a join that fails in an outage leaves nothing behind: the connection is no member afterwards, and can join then.",
			Why:   "a client that was told no would hear the room nevertheless.",
			Often: "a membership that is noted before the broker is asked, and left when it says no.",
			run:   outageJoin,
		},
		{
			ID: "outage/timeout", Contract: "H2", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "who does not answer in time is ErrTimeout when the context ends, and a later operation is not undone by the one that timed out.",
			Why:   "a caller could not tell whether to ask again, and a late join would put somebody back whom a leave had taken out.",
			Often: "a wait of a fixed time; operations that are applied in the order of their arrival, or sent again.",
			run:   outageTimeout,
		},
		{
			ID: "outage/partial", Contract: "H6", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "what does not reach an instance that is silent says so by ErrPartial, or names it, and counts what the others did.",
			Why:   "half of an operation would be taken for all of it.",
			Often: "answers that are gathered for a while and then taken for all.",
			run:   outagePartial,
		},
	}
}

func outageUnavailable(w *world) {
	all := w.settled()
	here, there := all[0].user("u", "4B"), all[1].user("u", "4B")
	all[0].sever()
	h := all[0].hub(ward)
	w.eventually("n1 notices that its link is down", func() bool {
		return h.trySend(groups("4B"), "lost") != nil
	})
	for _, op := range operations() {
		all[0].refused(op, there.target(), "g", backplane.ErrUnavailable)
		all[0].refused(op, users("u"), "g", backplane.ErrUnavailable)
	}
	all[0].heal()
	w.settle(all...)
	all[0].change(join, users("u"), "g", 2)
	for _, s := range all {
		s.send(groups("4B"), s.name)
		s.send(groups("g"), s.name)
	}
	w.fence()
	for _, c := range []*client{here, there} {
		for _, s := range all {
			c.hasSince(s.name, 2)
		}
		c.isOpen()
	}
}

func outageEverybody(w *world) {
	all := w.settled()
	a, b := all[0].user("u", "4B"), all[1].user("u", "4B")
	all[2].joinedBy(a, "g")
	for _, s := range all {
		s.sever()
	}
	for _, s := range all {
		h := s.hub(ward)
		w.eventually(s.name+" notices that its link is down", func() bool { return h.trySend(groups("4B"), "lost") != nil })
	}
	for _, s := range all {
		s.heal()
	}
	w.settle(all...)
	for _, s := range all {
		s.count(users("u"), 2)
		s.count(groups("g"), 1)
		s.send(groups("4B"), s.name)
		s.send(groups("g"), "g")
	}
	w.fence() // what is under way to a group, and a leave by its own way, have no order
	all[2].change(leave, groups("4B").but(b), "4B", 1)
	all[1].send(groups("4B"), "b alone")
	w.fence()
	for _, s := range all {
		a.hasSince(s.name, 1)
		b.hasSince(s.name, 1)
	}
	a.hasSince("g", crew)
	b.hasSince("g", 0)
	a.hasSince("b alone", 0)
	b.hasSince("b alone", 1)
}

// joinedBy puts a client of any instance into a group.
func (s *seat) joinedBy(c *client, group string) { s.change(join, c.target(), group, 1) }

func outageJoin(w *world) {
	all := w.settled()
	c, control := all[1].member(), all[0].member("room", "4B")
	all[1].sever()
	for _, group := range []string{"room", "4B"} {
		err := w.call(all[1], []string{c.name}, fmt.Sprintf("%s.Join(%q)", c.name, group), func(ctx context.Context) (string, error) {
			ctx, stop := context.WithTimeout(ctx, brief)
			defer stop()
			return "", c.conn.Join(ctx, group)
		})
		if err == nil {
			w.failf([]*client{c}, "%s joined %q, although its instance was cut off", c.name, group)
		}
	}
	all[1].heal()
	w.settle(all...)
	all[0].send(groups("room", "4B"), "others")
	w.fence()
	c.hasSince("others", 0)
	control.hasSince("others", 1)
	c.join("room")
	all[0].send(groups("room"), "all")
	w.fence()
	c.hasSince("all", 1)
}

func outageTimeout(w *world) {
	all := w.settled()
	c, control := all[1].member(), all[1].member("g")
	all[1].hang()
	w.each(2, func(i int) {
		op, group := operations()[i], []string{"g", "other"}[i]
		ctx, cancel := context.WithTimeout(w.ctx, brief)
		defer cancel()
		_, err := all[0].operate(ctx, op, c.target(), group)
		w.mustFail("n1: "+op+" of "+c.name+", whose instance does not answer", err, backplane.ErrTimeout)
	})
	all[1].heal()
	// The join may have been done by now, or not.
	ctx, cancel := w.patient()
	defer cancel()
	if _, err := all[0].operate(ctx, leave, c.target(), "g"); err != nil {
		w.check()
		w.fatalf("n1: Leave of %s, whose instance answers again, failed: %w", c.name, err)
	}
	all[0].send(groups("g"), "late")
	w.fence()
	c.got()
	control.got("late")
}

func outagePartial(w *world) {
	all := w.settled()
	all[0].user("u", "4B")
	all[1].user("u", "4B")
	for _, s := range all[:2] {
		s.user("v", "g") // what follows needs no new subscription, which may have to wait for everybody
	}
	all[2].hang()
	ctx, cancel := context.WithTimeout(w.ctx, brief)
	defer cancel()
	var c Count
	var countErr error
	counted := w.begin(func() {
		countErr = w.callWith(ctx, all[0], nil, "Count(group 4B)", func(ctx context.Context) (string, error) {
			var err error
			c, err = all[0].hub(ward).raw.Count(ctx, groups("4B"))
			return fmt.Sprintf("%d, missing %v ", c.Connections, c.Missing), err
		})
	})
	n, err := all[0].operate(ctx, join, users("u"), "g")
	counted()
	if n != 2 {
		w.fatalf("n1: Join of the user u changed %d, and it should be 2 on the instances that answer: %w", n, orNone(err))
	}
	w.mustFail("n1: Join of the user u, while n3 is silent", err, hubkit.ErrPartial)
	if countErr != nil || c.Connections != 2 || !slices.Equal(c.Missing, []string{"n3"}) {
		w.fatalf("n1: Count while n3 is silent says %d and misses %v, and it should be 2 and n3: %w", c.Connections, c.Missing, orNone(countErr))
	}
	all[2].heal()
	w.settle(all[0])
	all[0].change(join, users("u"), "g", 0)
}
