package hubkit

import "sync"

// gapHook calls Options.OnGap on a goroutine of its own, so that a hook that takes its time delays neither what the
// connections are told nor the gathering. Meanwhile what it has to be told waits, one gathering for each cause.
type gapHook struct {
	hub *Hub

	mu      sync.Mutex
	waiting []*gathering // guarded by mu; the oldest cause first
	running bool         // guarded by mu: the goroutine that calls the hook runs
}

// add hands over a cause whose connections were told.
func (k *gapHook) add(c *gathering) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.waiting {
		if gatheredAs(w.gap.Cause) == gatheredAs(c.gap.Cause) {
			w.join(c)
			return
		}
	}
	k.waiting = append(k.waiting, c)
	if !k.running {
		k.running = k.hub.spawn(k.run)
	}
}

// run calls the hook until nothing waits, or the hub closes.
func (k *gapHook) run() {
	for {
		c := k.next()
		if c == nil {
			return
		}
		if gap, concerned := c.told(); len(concerned) > 0 {
			k.hub.opts.OnGap(k.hub.closing, gap, concerned)
		}
	}
}

// next takes the oldest cause, or ends the goroutine and returns nil.
func (k *gapHook) next() *gathering {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.waiting) == 0 || k.hub.closing.Err() != nil {
		k.waiting, k.running = nil, false
		return nil
	}
	c := k.waiting[0]
	k.waiting = k.waiting[1:]
	return c
}

// join adds a later gathering of the same cause. Connections that are gone are forgotten: a hook that never returns must
// not hold on to all that ever were.
func (c *gathering) join(later *gathering) {
	for conn := range c.concerned {
		if _, closed := conn.Reason(); closed {
			delete(c.concerned, conn)
		}
	}
	for conn := range later.concerned {
		c.concerned[conn] = struct{}{}
	}
	gap, _ := later.told()
	c.mergeGap(gap)
	if later.wide {
		c.widen()
	}
	for group := range later.groups {
		c.addGroup(group)
	}
}
