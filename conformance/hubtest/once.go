package hubtest

import (
	"strconv"
)

// The chapter of H1: one copy for each connection.
func onceProperties() []Property {
	return []Property{
		{
			ID: "once/several-ways", Contract: "H1", Since: "v1",
			Says: "a send means the union of what it names: who is meant in several ways, as a member of two groups, as a user and by id, gets one copy, " +
				"and so does who is meant in one.",
			Why:   "an alarm would be shown twice, a number added twice.",
			Often: "a copy for each target without a memory of what a connection had.",
			run:   onceSeveralWays,
		},
		{
			ID: "once/moving", Contract: "H1", Since: "v1",
			Says: "a connection that joins and leaves while sends to its groups are under way gets at most one copy of each, " +
				"and exactly one where it stays in one of the groups throughout.",
			Why:   "who changes the room would see messages twice, or miss some.",
			Often: "duplicates that are recognised by membership at the moment of delivery.",
			run:   onceMoving,
		},
		{
			ID: "once/joined-twice", Contract: "H2", Since: "v1",
			Says:  "joining a group twice, by itself or from any instance, is joining it once: one copy, and one leave ends it.",
			Why:   "a client that asks twice would see everything twice, and never get out.",
			Often: "a list of members where a set is needed; memberships that are counted.",
			run:   onceJoinedTwice,
		},
	}
}

func onceSeveralWays(w *world) {
	all := w.crew()
	var clients []*client
	for _, s := range all {
		clients = append(clients, s.user("u", "a", "b"), s.user("v", "b"), s.member("a"))
	}
	ids := to(clients...).Connections
	for i, s := range all {
		s.send(Target{Groups: []string{"a", "b"}}, "groups "+strconv.Itoa(i))
		s.send(Target{Groups: []string{"a"}, Users: []string{"u"}, Connections: ids}, "each way "+strconv.Itoa(i))
		everything := Target{All: true, Groups: []string{"a", "b", "a"}, Users: []string{"u", "v", "u"}, Connections: append(ids, ids...)}
		s.send(everything, "all ways "+strconv.Itoa(i))
	}
	w.fence()
	var want []string
	for i := range all {
		want = append(want, "groups "+strconv.Itoa(i), "each way "+strconv.Itoa(i), "all ways "+strconv.Itoa(i))
	}
	for _, c := range clients {
		c.got(want...)
	}
	parts := []*client{all[0].member("first"), all[1].member("second"), all[1].user("w"), all[2].user("x"), all[2].member(), all[0].member()}
	for _, s := range all {
		s.send(Target{Groups: []string{"first", "second"}, Users: []string{"w", "x"}, Connections: to(parts[4:]...).Connections}, "each one way")
	}
	w.fence()
	for _, c := range parts {
		c.got("each one way", "each one way", "each one way")
	}
}

func onceMoving(w *world) {
	all := w.crew()
	const sends = 100
	roomy := ConnectOptions{Outbox: 4 * sends}
	stays, moves, keeps := all[1].connect(roomy, "a"), all[1].connect(roomy), all[1].connect(roomy, "a", "b")
	sent := 0
	moved := w.begin(func() {
		for i := range sends { // as far as the sends have come, and so all the time
			w.await(nil, "sends to go on", func() bool { return sent >= i })
			if i%2 == 0 {
				stays.join("b")
				moves.leave("a")
				moves.join("b")
			} else {
				stays.leave("b")
				moves.leave("b")
				moves.join("a")
			}
		}
	})
	var want []string
	for i := range sends {
		want = append(want, strconv.Itoa(i))
		all[i%crew].send(groups("a", "b"), strconv.Itoa(i))
		w.update(func() { sent = i })
	}
	moved()
	w.fence()
	stays.got(want...)
	keeps.got(want...)
	moves.gotSomeOf(want...)
}

func onceJoinedTwice(w *world) {
	all := w.crew()
	c := all[1].member("4B", "4B")
	all[1].change(join, c.target(), "4B", 0)
	all[0].change(join, c.target(), "4B", 0)
	all[2].send(groups("4B"), "one")
	w.fence()
	c.got("one")
	all[0].change(leave, c.target(), "4B", 1)
	all[2].send(groups("4B"), "none")
	all[2].change(join, c.target(), "4C", 1)
	c.join("4C")
	all[0].change(join, c.target(), "4C", 0)
	all[0].send(groups("4C"), "two")
	w.fence()
	c.got("one", "two")
	c.leave("4C")
	all[0].send(groups("4C"), "none")
	w.fence()
	c.got("one", "two")
}
