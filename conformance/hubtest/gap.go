package hubtest

import (
	"fmt"
	"slices"
)

// The chapter of H7: gaps and states.
func gapProperties() []Property {
	return []Property{
		{
			ID: "gap/told", Contract: "H7", Since: "v1", Slow: true, Needs: AbilityCut,
			Says:  "connections that may have missed messages in their instance's outage are told, once for each cause and before anything newer; no others.",
			Why:   "a client would show old values and believe them.",
			Often: "a reconnect that nobody hears of; a notice for each group of a connection.",
			run:   gapTold,
		},
		{
			ID: "gap/hook", Contract: "H7", Since: "v1", Slow: true, Needs: AbilityGapHook,
			Says:  "the gap hook is called once for each cause, with each connection concerned once.",
			Why:   "a reconnect would make a server fetch the same things a hundred times.",
			Often: "a call for each subscription.",
			run:   gapHook,
		},
		{
			ID: "gap/states", Contract: "H7", Since: "v1", Slow: true, Needs: AbilityStateHook,
			Says:  "the state hook tells each change once and in order: up, then down in an outage, then up again.",
			Why:   "a banner would flicker, or stay for ever.",
			Often: "a hook for each check; calls on goroutines of their own.",
			run:   gapStates,
		},
	}
}

// outage cuts an instance's link while a message is sent to a group, and waits until a client, or the gap hook, is told.
func (w *world) outage(s, sender *seat, c *client, n int) {
	before, h := len(c.gaps()), s.hub(ward)
	w.mu.Lock()
	hooked := len(h.gaps)
	w.mu.Unlock()
	s.sever()
	sender.send(groups("4B"), fmt.Sprintf("lost %d", n))
	w.eventually(s.name+" notices that its link is down", func() bool {
		return h.trySend(groups("4B"), "unsent") != nil
	})
	s.heal()
	w.await([]*client{c}, "the gap of an outage", func() bool { return len(c.gapsLocked()) > before || len(h.gaps) > hooked })
	w.settle(s)
	sender.send(groups("4B"), fmt.Sprintf("after %d", n))
	w.fence()
}

// gaps returns the causes of the gaps that the client was told of.
func (c *client) gaps() []string {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.gapsLocked()
}

// gapsLocked is gaps with the world's mu held.
func (c *client) gapsLocked() (causes []string) {
	for _, d := range c.heard {
		if d.Gap != "" {
			causes = append(causes, d.Gap)
		}
	}
	return causes
}

// repeated returns a cause that is there more than once; "" if there is none.
func repeated(causes []string) string {
	for i, cause := range causes {
		if slices.Contains(causes[:i], cause) {
			return cause
		}
	}
	return ""
}

func gapTold(w *world) {
	all := w.settled()
	all[1].canCut()
	a, b, elsewhere := all[1].user("u", "4B", "4C"), all[1].member("4B"), all[0].member("4B")
	for n := range 2 {
		from := map[*client]int{a: len(a.deliveries()), b: len(b.deliveries())}
		w.outage(all[1], all[0], a, n)
		for c, from := range from {
			var causes []string
			early := false
			for _, d := range c.deliveries()[from:] {
				if d.Gap != "" {
					causes = append(causes, d.Gap)
				}
				early = early || string(d.Payload) == fmt.Sprintf("after %d", n) && len(causes) == 0
			}
			switch {
			case len(causes) == 0:
				w.failf([]*client{c}, "%s was not told of a gap, and its instance was cut off", c.name)
			case early:
				w.failf([]*client{c}, "%s got what was sent after the outage before it was told of the gap", c.name)
			case repeated(causes) != "":
				w.failf([]*client{c}, "%s was told of gaps by %v for one outage", c.name, causes)
			}
			c.hasSince(fmt.Sprintf("after %d", n), 1)
		}
	}
	// Where an instance says that it is not up, there may be gaps.
	if causes := elsewhere.gaps(); len(causes) > 0 && all[0].hub(ward).wasUp() {
		w.failf([]*client{elsewhere}, "%s was told of gaps by %v, and nothing was wrong with its instance", elsewhere.name, causes)
	}
}

// wasUp reports whether the state hook of the hub told nothing but that it is up.
func (h *hub) wasUp() bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return len(h.states) > 0 && !slices.ContainsFunc(h.states, func(state string) bool { return state != StateUp })
}

func gapHook(w *world) {
	all := w.settled()
	all[1].canCut()
	a, b := all[1].user("u", "4B", "4C"), all[1].member("4B")
	h := all[1].hub(ward)
	calls := func() []gapCall {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(h.gaps)
	}
	for n := range 2 { // a second call for the first outage would have come by the call for the second one
		before := len(calls())
		w.outage(all[1], all[0], a, n)
		w.await([]*client{a}, "a call of the gap hook", func() bool { return len(h.gaps) > before })
		named := map[string]bool{}
		var causes []string
		for _, call := range calls()[before:] {
			causes = append(causes, call.cause)
			ids := slices.Sorted(slices.Values(call.ids))
			if distinct := slices.Compact(slices.Clone(ids)); len(distinct) != len(ids) {
				w.failf([]*client{a, b}, "a call of the gap hook names a connection twice: %v", w.names(call.ids))
			}
			for _, id := range ids {
				named[id] = true
			}
		}
		if repeated(causes) != "" {
			w.failf([]*client{a, b}, "the gap hook was called for %v after one outage", causes)
		}
		for _, c := range []*client{a, b} {
			if !named[c.id()] {
				w.failf([]*client{c}, "no call of the gap hook after an outage names %s", c.name)
			}
		}
	}
}

func gapStates(w *world) {
	all := w.settled()
	h := all[1].hub(ward)
	all[1].canCut()
	reaches := func(state string, from int) (at int) {
		w.await(nil, all[1].name+" to be "+state, func() bool {
			at = slices.Index(h.states[min(from, len(h.states)):], state)
			return at >= 0
		})
		return from + at + 1
	}
	at := reaches(StateUp, 0)
	for range 2 {
		all[1].sever()
		at = reaches(StateDown, at)
		all[1].heal()
		at = reaches(StateUp, at)
	}
	w.mu.Lock()
	states := slices.Clone(h.states)
	w.mu.Unlock()
	for i := range states[1:] {
		if states[i] == states[i+1] {
			w.fatalf("the state hook was called with %v: %s twice in a row", states, states[i])
		}
	}
}
