package hubtest

import "github.com/gobackplane/backplane/hubkit"

var errNotFound = hubkit.ErrNotFound

// The chapter of H2: operations from any instance.
func remoteProperties() []Property {
	return []Property{
		{
			ID: "remote/join-is-effective", Contract: "H2", Since: "v1",
			Says:  "when Join of a connection of any instance has returned, everything that is sent to the group afterwards, on any instance, is delivered.",
			Why:   "who was put into a room would miss what is said next.",
			Often: "an operation that is sent and not waited for; an answer that is sent before the subscription is in force.",
			run:   remoteJoin,
		},
		{
			ID: "remote/leave-is-effective", Contract: "H3", Since: "v1",
			Says:  "when Leave or LeaveAll of a connection of any instance has returned, nothing more of the group enters its outbox.",
			Why:   "who was taken out of a room would hear what is said about them.",
			Often: "an operation that is sent and not waited for.",
			run:   remoteLeave,
		},
		{
			ID: "remote/disconnect-is-effective", Contract: "H3", Since: "v1",
			Says:  "when Disconnect of a connection of any instance has returned it is in no group, gets nothing more, and its client is told the reason.",
			Why:   "who was thrown out would go on reading.",
			Often: "a disconnect that closes the socket and leaves the memberships for later.",
			run:   remoteDisconnect,
		},
		{
			ID: "remote/idempotent", Contract: "H2", Since: "v1",
			Says:  "leaving what was not joined, from any instance, changes nothing and succeeds.",
			Why:   "a retry would fail, or end a membership twice.",
			Often: "an error for an absent membership; counters that go below zero.",
			run:   remoteIdempotent,
		},
		{
			ID: "remote/not-found", Contract: "H2", Since: "v1",
			Says:  "an operation on a connection that has ended, by its id and from any instance, is ErrNotFound at once, and changes nobody.",
			Why:   "a caller could not tell who is gone from who cannot be reached.",
			Often: "silence of the home where it should say no; success whatever the home does.",
			run:   remoteNotFound,
		},
	}
}

func remoteJoin(w *world) {
	all := w.crew()
	for i, home := range all {
		for k, from := range all {
			name := string(rune('a'+i)) + string(rune('a'+k))
			there, c := home.member(name), home.member()
			from.change(join, c.target(), name, 1)
			for _, s := range all {
				s.send(groups(name), s.name)
			}
			w.fence()
			there.got("n1", "n2", "n3")
			c.got("n1", "n2", "n3")
		}
	}
}

func remoteLeave(w *world) {
	all := w.crew()
	for i, home := range all {
		for k, from := range all {
			name := string(rune('a'+i)) + string(rune('a'+k))
			stays, c := home.member(name), home.member(name, "other")
			all[0].send(groups(name), "before")
			w.fence()
			from.change(leave, c.target(), name, 1)
			for _, s := range all {
				s.send(groups(name), s.name)
				s.send(groups("other"), "other")
			}
			w.fence()
			from.change(leaveAll, to(c, stays), "", 2)
			for _, s := range all {
				s.send(groups(name, "other"), "late")
			}
			from.change(leaveAll, to(c, stays), "", 0)
			w.fence()
			stays.got("before", "n1", "n2", "n3")
			c.got("before", "other", "other", "other")
			c.isOpen()
		}
	}
}

func remoteDisconnect(w *world) {
	all := w.crew()
	for _, home := range all {
		for _, from := range all {
			stays, c := home.user("u", "4B"), home.user("u", "4B", "4C")
			from.change(disconnect, c.target(), "bye", 1)
			from.send(everybody(), "late")
			from.send(groups("4B", "4C"), "late")
			from.send(users("u"), "late")
			c.ended(ReasonRefused, "bye")
			w.fence()
			c.got()
			stays.got("late", "late", "late")
			stays.gone()
		}
	}
}

func remoteIdempotent(w *world) {
	all := w.crew()
	c := all[1].member("4B")
	for _, s := range all {
		s.change(leave, c.target(), "4C", 0)
		s.change(join, c.target(), "4B", 0)
	}
	c.leave("4C")
	all[0].send(groups("4B"), "bell")
	w.fence()
	c.got("bell")
	for _, s := range all {
		s.change(leaveAll, c.target(), "", map[bool]int{true: 1}[s == all[0]])
	}
	c.leave("4B")
	all[0].send(groups("4B"), "late")
	w.fence()
	c.got("bell")
}

func remoteNotFound(w *world) {
	all := w.crew()
	for _, op := range operations() {
		for _, from := range all {
			stays := all[1].user("u", "g")
			for i, end := range []func(*client){(*client).gone, func(c *client) { all[2].change(disconnect, c.target(), "bye", 1) }} {
				c := all[1].user("u", "g")
				end(c)
				from.refused(op, c.target(), "g", errNotFound)
				from.send(groups("g"), string(rune('a'+i)))
			}
			w.fence()
			stays.got("a", "b")
			stays.gone()
		}
	}
}
