package conformance

import (
	"fmt"

	"github.com/gobackplane/backplane"
)

// The order of messages.

func orderProperties() []Property {
	const often = "one goroutine for each message, a pool of publishing connections, sharding by message instead of address."
	return []Property{
		{
			ID:    "order/per-publisher",
			Says:  "messages of one instance to one address arrive in the order of their publish calls.",
			Why:   "an older state would replace a newer one on the screen.",
			Often: often, Since: "v1", about: []string{"order"}, run: orderPerPublisher,
		},
		{
			ID:    "order/sizes",
			Says:  "a small message does not overtake a large one.",
			Why:   "the correction would be heard before what it corrects.",
			Often: "large messages go another way: chunks, a second connection, a goroutine that compresses.",
			Since: "v1", about: []string{"order"}, run: orderSizes,
		},
		{
			ID:    "order/interleaved",
			Says:  "the order of each publisher holds among the others' traffic.",
			Why:   "production has more than one publisher.",
			Often: often, Since: "v1", about: []string{"order"}, run: orderInterleaved,
		},
		{
			ID:    "order/addresses",
			Says:  "traffic on other addresses does not disturb the order of this one.",
			Why:   "a busy group would scramble the quiet ones.",
			Often: "batches that are sorted by address, a pool of workers over all addresses.",
			Since: "v1", about: []string{"order"}, run: orderAddresses,
		},
		{
			ID:    "order/after-heal",
			Says:  "after an outage nothing older arrives after something newer.",
			Why:   "what was delayed by the outage would replace what came since.",
			Often: "a backlog that is sent beside new messages, two connections alive at once.",
			Needs: NeedLink, Since: "v1", about: []string{"order"}, run: orderAfterHeal,
		},
	}
}

func orderPerPublisher(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	for range w.count(2000) {
		crew[0].publish(room)
	}
}

func orderSizes(w *world) {
	crew, room := w.crew(), group("room")
	for _, n := range crew {
		n.subscribe(room)
	}
	for range w.count(20) {
		for _, size := range []int{w.suite.largest(), headerLen, 64 << 10, headerLen, headerLen, 4 << 10, headerLen} {
			crew[0].publishSize(room, size)
		}
	}
}

func orderInterleaved(w *world) {
	crew, room, kinds := w.crew(), group("room"), allKinds("order")
	for _, n := range crew {
		n.subscribe(room)
		for _, to := range kinds {
			n.subscribe(to)
		}
	}
	const publishers = 8
	w.each(publishers, func(i int) {
		n := crew[i%len(crew)]
		for k := range w.count(200) {
			n.publish(room)
			n.publish(kinds[k%len(kinds)])
		}
	})
}

func orderAddresses(w *world) {
	crew := w.crew()
	const addresses = 50
	address := func(i int) backplane.Address { return group(fmt.Sprintf("room-%d", i)) }
	w.each(len(crew), func(i int) {
		for k := range addresses {
			crew[i].subscribe(address(k))
		}
	})
	for range w.count(30) {
		for k := range addresses {
			crew[0].publish(address(k))
		}
	}
}

func orderAfterHeal(w *world) {
	crew, room := w.crew(), group("room")
	publisher, receiver := crew[0], crew[1]
	w.needCut(receiver, publisher)
	s := receiver.subscribe(room)
	publisher.subscribe(room)
	stop := w.stream(publisher, room)
	w.outage(receiver, func() {})
	w.awaitGap(s, 1)
	stop()
	w.tryDuring(publisher, room) // and the publisher's own outage
	publisher.publishAgain(room)
	for range w.count(100) {
		publisher.publish(room)
	}
}
