package hubtest

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// fenceMark begins the payloads of fences, which clients do not count as heard.
const fenceMark = "\x00fence "

// again is how long a fence may take before it is sent again: another one is as good.
const again = 500 * time.Millisecond

// fence returns when everything that was sent before has been delivered, or never will be. For each way that something
// was sent (from an instance to a group, a user, all, or a connection) it sends once more the same way and waits for that: on each
// instance a client of the fence's own hears it, and at last each connection does. It stands on order from one instance to one
// target, and on nothing else: not on operations, and not on its own first message.
func (w *world) fence() {
	w.mu.Lock()
	seats, clients := slices.Clone(w.seats), slices.Clone(w.clients)
	w.mu.Unlock()
	seats = slices.DeleteFunc(seats, func(s *seat) bool { return !s.works() })
	var hubs []string
	for _, s := range seats {
		hubs = append(hubs, s.names()...)
	}
	slices.Sort(hubs)
	byNamespace := map[string][]*seat{}
	for _, s := range seats {
		byNamespace[s.namespace] = append(byNamespace[s.namespace], s)
	}
	for _, name := range slices.Compact(hubs) {
		for _, farm := range byNamespace {
			w.fenceHub(name, farm)
		}
	}
	for _, c := range clients {
		w.fenceClient(c, seats)
	}
}

// fenceHub fences all ways of a hub that are not to one connection.
func (w *world) fenceHub(name string, seats []*seat) {
	w.mu.Lock()
	var targets []Target
	for at := range w.groups {
		if at[0] == name {
			targets = append(targets, groups(at[1]))
		}
	}
	for at := range w.users {
		if at[0] == name {
			targets = append(targets, users(at[1]))
		}
	}
	w.mu.Unlock()
	targets = append(targets, everybody())
	w.each(len(targets), func(i int) {
		t := targets[i]
		var ears []*client
		for _, s := range seats {
			ears = append(ears, w.ear(s.hub(name), t))
		}
		for _, from := range seats {
			w.fenceFrom(from.hub(name), t, ears)
		}
		for _, ear := range ears {
			ear.conn.Gone()
		}
	})
}

// ear connects a client of the fence's own that hears a target.
func (w *world) ear(h *hub, t Target) *client {
	c := &client{w: w, hub: h, fences: map[string]bool{}}
	o := ConnectOptions{}
	if len(t.Users) > 0 {
		o.User = t.Users[0]
	}
	ctx, cancel := w.patient()
	defer cancel()
	var err error
	h.labelled(func() {
		var conn Connection
		if conn, err = h.raw.Connect(ctx, c, o); err != nil {
			return
		}
		w.mu.Lock()
		c.conn = conn
		w.mu.Unlock()
		for _, g := range t.Groups {
			if err == nil {
				err = conn.Join(ctx, g)
			}
		}
	})
	if err != nil {
		w.check()
		w.fatalf("%s: the suite's own client could not listen to %s: %w", h.name, w.target(t), err)
	}
	return c
}

// fenceFrom sends a fence until all have heard one.
func (w *world) fenceFrom(from *hub, t Target, ears []*client) {
	w.mu.Lock()
	w.tokens++
	token := strconv.Itoa(w.tokens)
	w.mu.Unlock()
	for end := time.Now().Add(w.suite.patience); ; {
		var err error
		from.labelled(func() {
			ctx, cancel := w.patient()
			defer cancel()
			err = from.raw.Send(ctx, t, []byte(fenceMark+token))
		})
		heard := w.within(again, func() bool {
			return !slices.ContainsFunc(ears, func(c *client) bool { return !c.fences[token] && c.listens() })
		})
		w.check()
		switch {
		case heard:
			return
		case err != nil:
			w.fatalf("%s: Send of the suite's own to %s failed: %w", from.name, w.target(t), err)
		case time.Now().After(end):
			w.fail(&Failure{Witness: fmt.Sprintf("what %s sends to %s does not arrive.", from.name, w.target(t)), Waited: true}, ears...)
			w.check()
		}
	}
}

// listens reports whether a client can be expected to hear anything. The world's mu is held.
func (c *client) listens() bool { return c.closed == nil && !c.stuck && c.failing == nil }

// fenceClient fences the ways to one connection.
func (w *world) fenceClient(c *client, seats []*seat) {
	w.mu.Lock()
	hears := c.conn != nil && c.listens()
	w.mu.Unlock()
	if !hears || !c.hub.works() {
		return
	}
	for _, from := range seats {
		if from.namespace == c.hub.namespace {
			w.fenceFrom(from.hub(c.hub.of), c.target(), []*client{c})
		}
	}
}
