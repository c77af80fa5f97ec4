package conformance

import (
	"context"
	"slices"
)

// waiter waits for a condition.
type waiter struct {
	done func() bool
	met  chan struct{} // closed when done was true
}

// unlock ends a change: who waits for what is true now is woken, and nobody else.
func (r *recorder) unlock() {
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		met := w.done()
		if met {
			close(w.met)
		}
		return met
	})
	r.mu.Unlock()
}

// await waits until done, which is called under the recorder's lock and must be quick, or ctx ends.
func (r *recorder) await(ctx context.Context, done func() bool) error {
	r.mu.Lock()
	if done() {
		r.mu.Unlock()
		return nil
	}
	w := &waiter{done: done, met: make(chan struct{})}
	r.waiters = append(r.waiters, w)
	r.mu.Unlock()
	select {
	case <-w.met:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiters = slices.DeleteFunc(r.waiters, func(other *waiter) bool { return other == w })
	return context.Cause(ctx)
}

// The bounds of what may be under way to a subscription whose handler keeps up: far inside the queue that the contract
// gives it, so that an overflow is never the suite's fault.
const (
	windowMessages = 256
	windowBytes    = 1 << 20
)

// room reports whether another message of some size may be published to a place. The caller holds r.mu.
func (r *recorder) room(p place, size int) bool {
	f := r.flow(p)
	for _, s := range f.subs {
		state := &r.subs[s]
		if state.stalled || r.faults[r.h.Subs[s].Node] || r.h.Nodes[r.h.Subs[s].Node].Close.Call.happened() {
			continue
		}
		messages, bytes := f.messages-state.messages, f.bytes-state.bytes
		if messages >= windowMessages || messages > 0 && bytes+size > windowBytes {
			return false
		}
	}
	return true
}

// delivered reports whether a subscription heard a publish or a gap after its call. The caller holds r.mu.
func (r *recorder) delivered(sub, pub int) bool {
	s := &r.subs[sub]
	return s.heard[pub] > 0 || s.lastGap > r.h.Pubs[pub].Call.Tick
}

// listening returns the subscriptions of a place that are in force. The caller holds r.mu.
func (r *recorder) listening(p place) []int {
	f := r.flows[p]
	if f == nil {
		return nil
	}
	var out []int
	for _, s := range f.subs {
		if !r.subs[s].stalled && !r.h.Nodes[r.h.Subs[s].Node].Close.Call.happened() {
			out = append(out, s)
		}
	}
	return out
}
