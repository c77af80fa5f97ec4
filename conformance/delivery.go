package conformance

import (
	"fmt"

	"github.com/gobackplane/backplane"
)

// Who hears a message.

func deliveryProperties() []Property {
	return []Property{
		{
			ID:   "deliver/once",
			Says: "every subscription on every instance hears every message exactly once.",
			Why:  "a lost alert is not shown; a repeated one is shown twice.",
			Often: "a Subscribe that returns before the broker has confirmed, messages dropped when a channel is full, retries without numbers, " +
				"local delivery beside the broker's echo, repeats recognised by their payload.",
			Since: "v1", about: []string{"once", "must"}, run: deliverOnce,
		},
		{
			ID:    "deliver/every-instance",
			Says:  "instances do not compete: each one hears all, and so does each of two subscriptions of one instance.",
			Why:   "clients on one instance would see a share of the messages.",
			Often: "queue groups, consumer groups, one handler for each address, a directory with one place for each user.",
			Since: "v1", about: []string{"must", "once"}, run: deliverEveryInstance,
		},
		{
			ID:    "deliver/only-subscribed",
			Says:  "a subscription hears only what was published to its address.",
			Why:   "messages would reach clients that must not see them.",
			Often: "one channel for several addresses without a check on arrival.",
			Since: "v1", about: []string{"origin"}, run: deliverOnlySubscribed,
		},
		{
			ID:    "deliver/self",
			Says:  "the publishing instance hears its own message like all others, once.",
			Why:   "the sender's own clients would miss it, or see it twice.",
			Often: "a client that does not echo, local delivery beside the echo.",
			Since: "v1", about: []string{"once", "must"}, run: deliverSelf,
		},
		{
			ID:    "deliver/no-history",
			Says:  "what was published long before Subscribe is not delivered.",
			Why:   "a client that joins a group would be shown old alerts as new.",
			Often: "retained or replayed messages, a consumer that starts at the beginning.",
			Since: "v1", about: []string{"mustNot"}, run: deliverNoHistory,
		},
		{
			ID:    "deliver/nobody",
			Says:  "publishing to an address that nobody hears succeeds, and leaves nothing behind.",
			Why:   "a server that publishes to many short-lived groups would grow or fail.",
			Often: "a goroutine or a queue for each address that was ever published to.",
			Since: "v1", about: []string{"mustNot"}, run: deliverNobody,
		},
		{
			ID:    "deliver/origin",
			Says:  "a message tells the address that it was published to and the instance that published it.",
			Why:   "a hub could not tell whom to deliver to.",
			Often: "the relaying instance's id, a channel name instead of the address, a lost scope.",
			Since: "v1", about: []string{"origin"}, run: deliverOrigin,
		},
		{
			ID:    "deliver/crowd",
			Says:  "the promises of delivery and order hold when many instances publish to many addresses at once.",
			Why:   "this is what production looks like.",
			Often: "a shared map without a lock, a queue shared by addresses.",
			Needs: NeedTime, Since: "v1", about: []string{"once", "must", "order"}, run: deliverCrowd,
		},
		{
			ID:    "deliver/volume",
			Says:  "a long fast stream is heard whole and without a gap by handlers that keep up.",
			Why:   "rare losses show only in volume.",
			Often: "a buffer that drops under load, numbers that wrap.",
			Needs: NeedTime, Since: "v1", about: []string{"must", "noFalseAlarm"}, run: deliverVolume,
		},
	}
}

func deliverOnce(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	w.each(len(crew), func(i int) {
		for range w.count(2000) / len(crew) {
			crew[i].publish(room)
		}
	})
	for range 3 { // equal payloads are as many messages
		crew[0].publishRaw(room, []byte("again"))
	}
}

func deliverEveryInstance(w *world) {
	crew, messages := w.crew(), w.count(100)
	for _, to := range allKinds("room") { // a user has no home either
		for _, n := range crew {
			n.subscribe(to)
			n.subscribe(to)
		}
		for range messages {
			crew[0].publish(to)
		}
	}
}

func deliverOnlySubscribed(w *world) {
	crew := w.crew()
	here, there := group("here"), group("there")
	last := crew[len(crew)-1]
	crew[0].subscribe(here)
	last.subscribe(there)
	for range w.count(100) {
		for _, n := range crew {
			n.publish(here)
		}
	}
	for _, n := range crew {
		n.publish(there) // behind it all
	}
}

func deliverSelf(w *world) {
	crew, room := w.crew(), group("room")
	s := crew[0].subscribe(room)
	for range w.count(100) {
		crew[0].publish(room)
	}
	crew[1].subscribe(room)
	w.arrives(crew[0].publish(room), []int{s.id})
}

func deliverNoHistory(w *world) {
	crew, room := w.crew(), group("room")
	s := crew[0].subscribe(room)
	for range w.count(100) {
		crew[0].publish(room)
	}
	w.arrives(crew[0].publish(room), []int{s.id})
	w.quiet() // now it is long ago
	for _, n := range crew {
		n.subscribe(room)
	}
	crew[0].publish(room)
}

func deliverNobody(w *world) {
	crew := w.crew()
	address := func(i int) backplane.Address { return group(fmt.Sprintf("nobody-%d", i)) }
	const workers = 8
	publishAll := func(from, to int) {
		w.each(workers, func(k int) {
			for i := from + k; i < to; i += workers {
				crew[0].publish(address(i))
			}
		})
	}
	n := w.count(2000)
	publishAll(0, n/2)
	before, _ := goroutines(w.name + "/" + crew[0].name)
	publishAll(n/2, n)
	after, stacks := goroutines(w.name + "/" + crew[0].name)
	if after > before+n/4 {
		w.fatalf("publishing to %d addresses left %d goroutines behind:\n%s", n/2, after-before, stacks)
	}
	w.quiet()
	for i := range w.count(100) {
		crew[1].subscribe(address(i))
	}
	for i := range w.count(100) {
		crew[0].publish(address(i))
	}
}

func deliverOrigin(w *world) {
	crew := w.crew()
	for _, a := range allKinds("origin") {
		for _, to := range []backplane.Address{a, a.In("hub")} {
			for _, n := range crew {
				n.subscribe(to)
			}
			for _, n := range crew {
				n.publish(to)
			}
		}
	}
}

// allKinds returns an address of each kind with one name.
func allKinds(name string) []backplane.Address {
	return []backplane.Address{
		backplane.All(), backplane.Group(name), backplane.User(name), backplane.Connection(name),
		backplane.Inbox(backplane.NodeID(name)),
	}
}

func deliverCrowd(w *world) {
	const instances, workers, addresses = 8, 8, 50
	crew := w.openAll(instances)
	address := func(i int) backplane.Address { return group(fmt.Sprintf("crowd-%d", i)) }
	w.each(instances, func(i int) {
		for k := range addresses {
			crew[i].subscribe(address(k))
		}
	})
	w.each(instances*workers, func(i int) {
		for k := range addresses {
			crew[i%instances].publish(address((k + i) % addresses))
		}
	})
}

func deliverVolume(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	const messages, workers = 70_000, 8 // more than two bytes can count
	w.each(workers, func(int) {
		for range messages / workers {
			crew[0].publish(room)
		}
	})
}
