package backplane

import (
	"context"
)

// Close implements [Backplane].
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	first := !n.closing
	n.closing = true
	n.mu.Unlock()
	if first {
		n.ending.Store(true)
		go n.shutDown(ctx)
	} else if n.insideHandler(ctx) {
		return nil
	}
	select {
	case <-n.gone:
		return nil
	case <-ctx.Done():
		if !first {
			return nil
		}
		n.cancel(ErrClosed) // what still waits for the broker ends now
		return n.error("close", Address{}, context.Cause(ctx))
	}
}

// shutDown is the work of the first Close, on a goroutine of its own so that Close can return when its context ends.
func (n *Node) shutDown(ctx context.Context) {
	defer close(n.gone)
	inside := n.insideHandler(ctx)

	// End the subscriptions: no handler starts from here on.
	subs := n.interests.subscriptions()
	for _, s := range subs {
		s.end()
	}
	if !inside {
		for _, s := range subs {
			if s.wait(ctx) != nil {
				break
			}
		}
	}
	// Finish what was accepted, close the epochs, say goodbye.
	links := n.allLinks()
	for _, l := range links {
		if l.lane.drain(ctx) != nil {
			break
		}
	}
	if n.ctx.Err() == nil && ctx.Err() == nil {
		for _, l := range links {
			l.lane.markAll()
		}
		n.sendHeartbeat(flagGoodbye)
		for _, l := range links {
			if l.lane.drain(ctx) != nil {
				break
			}
		}
	}
	n.cancel(ErrClosed)
	if err := n.t.Close(); err != nil {
		n.log.Warn("closing the transport", "err", err)
	}
	n.work.Wait()
	n.health.end()
}
