package backplane

import (
	"context"
	"slices"
	"time"
)

// Close implements [Backplane]. It first finishes what was accepted, then ends the contexts of handlers and of answering
// functions and waits for them, then tells its last numbers and says goodbye; where one does not return, it says so shortly before
// ctx ends at its deadline. Called with a context that derives from a
// handler's it does not wait for handlers.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	first := !n.closing
	n.closing = true
	n.mu.Unlock()
	inside := n.insideHandler(ctx)
	if !first {
		if !inside {
			select {
			case <-n.gone:
			case <-ctx.Done():
			}
		}
		return nil
	}
	n.ending.Store(true)
	if inside { // Close itself ends the context of the handler, and must not be ended by that
		deadline, ok := ctx.Deadline()
		ctx = context.WithoutCancel(ctx)
		if ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
	}
	go n.shutDown(ctx, inside)
	select {
	case <-n.gone:
	case <-ctx.Done():
		n.cancel(ErrClosed) // what still waits for the broker ends now
		return n.error("close", Address{}, context.Cause(ctx))
	}
	if n.stuck {
		return n.error("close", Address{}, context.Cause(ctx))
	}
	return nil
}

// shutDown is the work of the first Close, on a goroutine of its own so that Close can return when its context ends.
func (n *Node) shutDown(ctx context.Context, inside bool) {
	defer close(n.gone)
	// No handler starts from here on.
	for _, s := range n.interests.close() {
		if s.end() {
			n.stats.subscriptions.Add(-1)
		}
	}
	n.questions.close()

	links := n.allLinks()
	drain := func() bool {
		for _, l := range links {
			if l.lane.drain(ctx) != nil {
				return false
			}
		}
		return true
	}
	finished := drain()
	n.stopHandlers(ErrClosed)
	returned := make(chan struct{})
	go func() { // ends with the last handler
		n.running.Wait()
		close(returned)
	}()
	early := inside || wait(ctx, returned, lastWordsTime(ctx))
	if finished {
		n.lastWords(links, drain)
	}
	n.stuck = !early && !wait(ctx, returned, 0)
	n.cancel(ErrClosed)
	if err := n.t.Close(); err != nil {
		n.log.Warn("closing the transport", "err", err)
	}
	n.work.Wait()
	n.health.end(ctx)
}

// lastWords tells the last numbers and says goodbye. Nothing is published any more.
func (n *Node) lastWords(links []*link, drain func() bool) {
	if n.membersLink.barrier.clustered() && slices.ContainsFunc(links, func(l *link) bool { return l.lane.unmarked() }) {
		// A route that was away until now may come back between the marks, which are lost, and the goodbye. Then this one is
		// missing as well, and its number tells.
		n.sendHeartbeat(flagOwed)
		if !drain() {
			return
		}
	}
	if n.ctx.Err() != nil {
		return
	}
	for _, l := range links {
		l.lane.markAll()
	}
	if drain() { // the goodbye is believed to be the last word: it must not overtake the marks
		n.sendHeartbeat(flagGoodbye)
		drain()
	}
}

// lastWordsTime is how long before its end a Close gives up waiting for a handler, and says goodbye all the same. Without it the
// others would have to take this node for dead: a wait, and in a cluster a gap.
func lastWordsTime(ctx context.Context) time.Duration {
	const (
		part = 8
		most = 250 * time.Millisecond
	)
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return min(time.Until(deadline)/part, most)
}

// wait waits until something is done, or until some time before ctx ends. It returns false if it is not done.
func wait(ctx context.Context, done <-chan struct{}, before time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && before > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-before))
		defer cancel()
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}
