package conformance

import (
	"context"
	"sync/atomic"

	"github.com/gobackplane/backplane"
)

// Everything at once.

func raceProperties() []Property {
	var every []string
	for _, r := range allRules() {
		every = append(every, r.name)
	}
	return []Property{
		{
			ID:    "race/everything",
			Says:  "all verbs may be called at once, from many goroutines and on every instance, and every other promise holds meanwhile.",
			Why:   "a hub server does just this, all day.",
			Often: "a list that is read, changed and written back; a map without a lock. The race detector knows more: go test -race.",
			Since: "v1", about: every, run: raceEverything,
		},
	}
}

func raceEverything(w *world) {
	crew, lobby := w.crew(), group("lobby")
	rooms := []backplane.Address{group("red"), group("green"), backplane.All(), backplane.User("ann")}
	for _, n := range crew {
		n.subscribe(lobby)
	}
	var movers []func()
	const each = 5 // of an instance's goroutines change rooms
	for i := range each * len(crew) {
		movers = append(movers, func() { w.moves(crew[i%len(crew)], rooms[i%len(rooms)]) })
	}
	for _, n := range crew {
		movers = append(movers,
			func() {
				for range w.count(100) {
					n.publish(lobby)
				}
			},
			func() { w.givesUp(n, lobby) },
			func() { w.usesAbilities(n) },
		)
	}
	movers = append(movers, func() {
		for range w.count(10) {
			n := w.newInstance(w.namespace())
			n.open()
			s := n.subscribe(lobby)
			w.arrives(n.publish(lobby), []int{s.id})
			n.close()
		}
	})
	w.each(len(movers), func(i int) { movers[i]() })
}

// moves ends a subscription while the next one is made, again and again: all that is made has to be in force.
func (w *world) moves(n *instance, room backplane.Address) {
	s := n.subscribe(room)
	for range w.count(20) {
		var next *sub
		const closers = 2
		w.each(closers+1, func(k int) {
			if k < closers {
				s.close()
				return
			}
			next = n.subscribe(room)
		})
		s = next
		w.arrives(n.publish(room), []int{s.id})
	}
}

// givesUp makes calls whose context has ended.
func (w *world) givesUp(n *instance, to backplane.Address) {
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	for range w.count(20) {
		_, _ = n.tryPublish(ctx, to, headerLen) // the rules judge what came of it
		if s, err := n.trySubscribe(ctx, to, nil); err == nil {
			s.close()
		}
		w.check()
	}
}

// usesAbilities calls the verbs of the abilities that the instance has.
func (w *world) usesAbilities(n *instance) {
	c, _ := n.backplane().(backplane.Cluster)
	h, _ := n.reporter()
	var told atomic.Int64
	for range w.count(20) {
		if c != nil {
			stop := n.answers("echo", func(_ context.Context, _ backplane.NodeID, request []byte) ([]byte, error) { return request, nil })
			_ = c.Members()
			ctx, cancel := w.patient()
			_, _ = n.askAll(ctx, "echo", []byte("?")) // the others may be on their way out
			cancel()
			stop()
		}
		if h != nil {
			stop := h.OnHealth(func(backplane.Health) { told.Add(1) })
			_ = h.Health()
			stop()
		}
		w.check()
	}
}
