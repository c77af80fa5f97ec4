package hubtest

import "strconv"

// The chapter of H5: one client never harms another.
func slowProperties() []Property {
	return []Property{
		{
			ID: "slow/stuck-alone", Contract: "H5", Since: "v1",
			Says:  "a client that does not read delays nobody else, neither deliveries nor operations, and hears what waited when it reads again.",
			Why:   "one phone in a tunnel would stop a ward.",
			Often: "writing to sockets on the goroutine that reads from the broker.",
			run:   slowStuckAlone,
		},
		{
			ID: "slow/failing-alone", Contract: "H5", Since: "v1",
			Says:  "a client whose writes fail is closed with that reason, and is no error of the sender nor a loss of the others, then and afterwards.",
			Why:   "one broken socket would look like an outage.",
			Often: "a fan-out that ends at the first error.",
			run:   slowFailingAlone,
		},
		{
			ID: "slow/overflow-counted", Contract: "H5", Since: "v1",
			Says:  "what an outbox drops is told to its client, with the exact count, before its next message.",
			Why:   "a client would show old values without knowing.",
			Often: "a select with a default; a count that is told with the next drop.",
			run:   slowOverflowCounted,
		},
		{
			ID: "slow/overflow-closes", Contract: "H5", Since: "v1",
			Says:  "where an outbox does not drop, overflow closes the connection, which is told that it was too slow, and takes it out of its groups.",
			Why:   "memory would grow with every client that is gone without a word.",
			Often: "an outbox without a bound; a close that waits for the write that is stuck.",
			run:   slowOverflowCloses,
		},
		{
			ID: "slow/disconnect-discards", Contract: "H3", Since: "v1",
			Says:  "a disconnect discards what waits for the client.",
			Why:   "who was thrown out would read on.",
			Often: "a queue that is flushed before the socket is closed.",
			run:   slowDisconnectDiscards,
		},
	}
}

func slowStuckAlone(w *world) {
	all := w.crew()
	const sends = 20
	stuck, fine, elsewhere := all[1].user("u", "4B"), all[1].user("u", "4B"), all[0].member("4B")
	stuck.block()
	var want []string
	for i := range sends {
		want = append(want, strconv.Itoa(i))
		all[2].send(groups("4B"), strconv.Itoa(i))
	}
	w.fence()
	fine.got(want...)
	elsewhere.got(want...)
	stuck.got()
	for _, s := range all {
		s.change(join, stuck.target(), s.name, 1)
		s.change(leave, to(stuck, fine), s.name, 1)
	}
	stuck.unblock()
	w.fence()
	stuck.got(want...)
}

func slowFailingAlone(w *world) {
	all := w.crew()
	broken, fine := all[1].member("4B"), all[1].member("4B")
	broken.breaks()
	for _, s := range all {
		s.send(groups("4B"), "group")
		s.send(everybody(), "all")
	}
	w.fence()
	broken.ended(ReasonFailed, "")
	all[0].send(groups("4B"), "afterwards")
	all[1].send(groups("4B"), "afterwards")
	w.fence()
	fine.got("group", "all", "group", "all", "group", "all", "afterwards", "afterwards")
	broken.got()
}

func slowOverflowCounted(w *world) {
	all := w.crew()
	const sends, room = 40, 4
	c, control := all[1].connect(ConnectOptions{Outbox: room, Drop: true}, "4B"), all[1].member("4B")
	c.block()
	for i := range sends {
		all[0].send(groups("4B"), strconv.Itoa(i))
	}
	control.hears(strconv.Itoa(sends - 1))
	c.unblock()
	c.reads() // what waited
	last := strconv.Itoa(sends)
	all[0].send(groups("4B"), last)
	c.hears(last)
	next := 0
	for _, d := range c.deliveries() {
		next += int(d.Missed) //nolint:gosec // a small count
		if d.Payload == nil {
			continue
		}
		if string(d.Payload) != strconv.Itoa(next) && d.Gap == "" {
			w.failf([]*client{c}, "%s hears %s where %d of %d messages are accounted for", c.name, d.text(), next, sends+1)
		}
		next++
	}
	if next <= sends {
		w.failf([]*client{c}, "%s has %d of %d messages accounted for", c.name, next, sends+1)
	}
	c.isOpen()
}

func slowOverflowCloses(w *world) {
	all := w.crew()
	const sends, room = 40, 4
	c, fine := all[1].connect(ConnectOptions{Outbox: room, User: "u"}, "4B"), all[1].member("4B")
	c.block()
	var want []string
	for i := range sends {
		want = append(want, strconv.Itoa(i))
		all[0].send(groups("4B"), strconv.Itoa(i))
	}
	w.fence()
	c.ended(ReasonSlow, "")
	fine.got(want...)
	all[0].refused(join, c.target(), "4B", errNotFound)
}

func slowDisconnectDiscards(w *world) {
	all := w.crew()
	for _, from := range all {
		c := all[1].member("4B")
		c.block()
		all[0].send(groups("4B"), "being written")
		c.isWrittenTo()
		for range 5 {
			all[0].send(groups("4B"), "waits")
		}
		w.fence()
		from.change(disconnect, c.target(), "bye", 1)
		c.unblock()
		c.ended(ReasonRefused, "bye")
		w.fence()
		c.gotSomeOf("being written")
	}
}
