package backplane

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// healthWatch holds the present health and tells changes. Looking is cheap and done after everything that may change it.
type healthWatch struct {
	n *Node

	mu       sync.Mutex // guards what follows
	now      Health
	watchers []*watcher
	ended    bool
	telling  chan struct{} // closed when tell's goroutine has ended; nil if none runs
}

// watcher is one function registered by OnHealth.
type watcher struct {
	f     func(Health)
	queue []Health // changes that it has not been told, the newest last
}

// toldLate is how many changes may wait for a watcher that does not return; more are merged into the newest.
const toldLate = 16

// add queues a change for the watcher.
func (w *watcher) add(h Health) {
	k := len(w.queue)
	switch {
	case k < toldLate:
		w.queue = append(w.queue, h)
	case w.queue[k-2].State == h.State: // there and back
		w.queue = w.queue[:k-1]
	default:
		w.queue[k-1] = h
	}
}

func (w *healthWatch) init(n *Node) {
	w.n = n
	w.now = Health{State: Down, Since: time.Now(), Causes: []Cause{{Kind: CauseLink, Err: fmt.Errorf("%w: not connected yet", ErrUnavailable)}}}
}

// Health returns how messages travel now. It asks nobody: it returns what probes, heartbeats and the broker's answers
// showed last, so it is cheap.
func (n *Node) Health() Health {
	n.health.look()
	n.health.mu.Lock()
	defer n.health.mu.Unlock()
	h := n.health.now
	h.Causes = slices.Clone(h.Causes)
	return h
}

// OnHealth calls f with the state at registration and then with every change of state, once each and in order, from one
// goroutine of the node, until stop is called. While f runs, later changes wait; more than 16 are merged into the newest. f may call
// anything of the node but Close, which waits for f until its context ends. The last change it is told is the Down of Close.
func (n *Node) OnHealth(f func(Health)) (stop func()) {
	w := &n.health
	w.look()
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &watcher{f: f}
	one.add(w.now)
	w.watchers = append(w.watchers, one)
	w.wake()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.watchers = slices.DeleteFunc(w.watchers, func(o *watcher) bool { return o == one })
	}
}

// look works the health out anew. Looks follow one another, so that what an older one saw cannot stand.
func (w *healthWatch) look() {
	h, changed := w.examine()
	switch {
	case !changed:
	case h.State == Up:
		w.n.log.Info("health", "state", h.State.String())
	default:
		w.n.log.Warn("health", "state", h.State.String(), "cause", string(h.Causes[0].Kind), "err", h.Causes[0].Err)
	}
}

// examine is look without the log, whose handler may call anything. It takes the locks of links, members and interests
// with its own held; none of these is held by who looks.
func (w *healthWatch) examine() (h Health, changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return w.now, false
	}
	now := time.Now()
	h = w.n.examine(now)
	h.Since = w.now.Since
	changed = h.State != w.now.State
	if changed {
		h.Since = now
	}
	if w.now = h; changed {
		w.changed()
	}
	return h, changed
}

// end makes the state Down for good, tells it, and waits for the telling until ctx ends.
func (w *healthWatch) end(ctx context.Context) {
	w.mu.Lock()
	w.ended = true
	was := w.now.State
	w.now = Health{State: Down, Since: time.Now(), Causes: []Cause{{Kind: CauseClosed, Err: ErrClosed}}}
	if was != Down {
		w.changed()
	}
	telling := w.telling
	w.mu.Unlock()
	if telling == nil {
		return
	}
	select {
	case <-telling:
	case <-ctx.Done():
	}
}

// changed tells the state of now to all watchers. mu is held.
func (w *healthWatch) changed() {
	for _, one := range w.watchers {
		one.add(w.now)
	}
	w.wake()
}

// wake starts the telling if it does not run. mu is held.
func (w *healthWatch) wake() {
	if w.telling != nil || len(w.watchers) == 0 {
		return
	}
	w.telling = make(chan struct{})
	go w.tell()
}

// tell calls the watchers until all know everything. The order is kept because only one tell runs at a time.
func (w *healthWatch) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		i := slices.IndexFunc(w.watchers, func(one *watcher) bool { return len(one.queue) > 0 })
		if i < 0 {
			close(w.telling)
			w.telling = nil
			return
		}
		one := w.watchers[i]
		h := one.queue[0]
		if one.queue = one.queue[1:]; len(one.queue) == 0 {
			one.queue = nil
		}
		h.Causes = slices.Clone(h.Causes)
		w.mu.Unlock()
		one.f(h)
		w.mu.Lock()
	}
}

// examine works out the health from what is known.
func (n *Node) examine(now time.Time) Health {
	var h Health
	links := n.allLinks()
	bad := 0
	for _, l := range links {
		h.LastProbe = max(h.LastProbe, time.Duration(l.lastProbe.Load()))
		if c := l.condition(now); c.Kind != "" {
			bad++
			h.Causes = append(h.Causes, c)
		}
	}
	h.Causes = append(h.Causes, n.members.causes(now)...)
	h.Causes = append(h.Causes, n.membersLink.barrier.causes(now)...)
	if k := n.interests.denials(); k > 0 {
		h.Causes = append(h.Causes, Cause{Kind: CauseDenied, Err: fmt.Errorf("%w: %d subscriptions are refused", ErrDenied, k)})
	}
	if k := n.interests.undelivering(); k > 0 {
		h.Causes = append(h.Causes, Cause{Kind: CauseSilent, Err: fmt.Errorf("%w: %d subscriptions are confirmed but do not deliver", ErrUnavailable, k)})
	}
	switch {
	case bad == len(links):
		h.State = Down
	case len(h.Causes) > 0:
		h.State = Degraded
	default:
		h.State = Up
	}
	return h
}
