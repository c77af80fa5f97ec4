package hubtest

import (
	"errors"

	"github.com/gobackplane/backplane/hubkit"
)

// The chapter of H2 goes on: operations that concern many.
func wideProperties() []Property {
	return []Property{
		{
			ID: "wide/sessions", Contract: "H2", Since: "v1", Slow: true,
			Says:  "Disconnect of a user ends all sessions of the user on all instances and nobody else's, and says how many.",
			Why:   "a stolen session would live on.",
			Often: "a table with one connection for each user.",
			run:   wideSessions,
		},
		{
			ID: "wide/targets", Contract: "H2", Since: "v1", Slow: true,
			Says:  "operations by user, group, id or all act on everybody meant, once and anywhere, not on the except-list, and count whom they changed.",
			Why:   "half of a ward would be moved.",
			Often: "an operation that concerns the own instance; an except-list that does not travel.",
			run:   wideTargets,
		},
		{
			ID: "wide/bad-input", Contract: "H2", Since: "v1", Slow: true,
			Says:  "a target with a name or an id that is none is refused as a whole, before anything is done.",
			Why:   "a mistake would leave things half done.",
			Often: "parts that are done one after the other.",
			run:   wideBadInput,
		},
		{
			ID: "wide/part-gone", Contract: "H2", Since: "v1", Slow: true,
			Says:  "where some of several connections are gone, an operation is done for the others, counts them, and ends with ErrPartial and ErrNotFound.",
			Why:   "one closed tab would stop an operation, or be taken for a success.",
			Often: "an error of one that ends the loop, or is dropped.",
			run:   widePartGone,
		},
	}
}

func wideSessions(w *world) {
	all := w.settled()
	for _, from := range all {
		sessions := []*client{all[0].user("u"), all[1].user("u"), all[1].user("u", "4B"), all[2].user("u")}
		other := all[1].user("v", "4B")
		from.change(disconnect, users("u"), "bye", len(sessions))
		from.change(disconnect, users("u"), "bye", 0)
		from.send(users("u", "v"), "late")
		for _, c := range sessions {
			c.ended(ReasonRefused, "bye")
		}
		w.fence()
		for _, c := range sessions {
			c.got()
		}
		other.got("late")
		other.isOpen()
	}
}

func wideTargets(w *world) {
	all := w.settled()
	for _, from := range all {
		a, b, c := all[0].user("u", "4B"), all[1].user("u", "4B"), all[2].user("v", "4B")
		a.join("a")
		b.join("b")
		from.change(join, Target{Groups: []string{"a", "b"}, Users: []string{"nobody", "v"}}, "parts", 3)
		from.change(join, users("u"), "g", 2)
		from.change(join, groups("4B").but(a, b), "g", 1)
		from.change(join, everybody(), "g", 0)
		from.change(leave, groups("g").but(c), "g", 2)
		from.send(groups("g"), "to c")
		w.fence()
		a.got()
		b.got()
		c.got("to c")
		from.change(join, Target{Users: []string{"u"}, Groups: []string{"g", "4B"}, Connections: to(a, c).Connections}, "h", 3)
		from.change(leaveAll, everybody().but(b), "", 2)
		from.send(groups("g", "h", "4B"), "to b")
		w.fence()
		a.got()
		b.got("to b")
		c.got("to c")
		from.change(disconnect, everybody().but(b), "bye", 2)
		from.count(everybody(), 1)
		from.change(disconnect, Target{Users: []string{"u"}, Groups: []string{"h"}, Connections: to(b).Connections}, "bye", 1)
	}
}

func wideBadInput(w *world) {
	all := w.settled()
	c := all[1].user("u", "4B")
	for _, op := range operations() {
		for _, of := range []Target{
			{Users: []string{"u"}, Connections: []string{"me"}},
			{Connections: []string{c.id(), ""}},
			{All: true, Except: []string{"me"}},
		} {
			all[0].refused(op, of, "g", hubkit.ErrInvalidTarget)
		}
	}
	for _, s := range all {
		s.count(groups("4B"), 1)
		s.count(groups("g"), 0)
	}
	c.isOpen()
}

func widePartGone(w *world) {
	all := w.settled()
	for _, from := range all {
		a, b, gone := all[0].member(), all[1].member(), all[1].member()
		gone.gone()
		for _, op := range []string{join, leave} {
			ctx, cancel := w.patient()
			n, err := from.operate(ctx, op, to(gone, a, b), "g")
			cancel()
			w.check()
			if n != 2 || !errors.Is(err, hubkit.ErrPartial) || !errors.Is(err, hubkit.ErrNotFound) {
				w.failf([]*client{a, b, gone}, "%s: %s of three, one of them gone, changed %d and ended with %w", from.name, op, n, orNone(err))
			}
			from.count(groups("g"), map[string]int{join: 2}[op])
		}
	}
}
