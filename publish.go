package backplane

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gobackplane/backplane/internal/wire"
	"github.com/gobackplane/backplane/transport"
)

// Publish implements [Backplane].
func (n *Node) Publish(ctx context.Context, to Address, payload []byte) error {
	if err := n.checkOutgoing(ctx, to, payload); err != nil {
		n.stats.publishFailed.Add(1)
		return n.error("publish", to, err)
	}
	c := n.newCall(ctx, 1)
	c.one = item{call: c, payload: payload, typ: wire.Data}
	err := c.run(n, to, &c.one)
	if err != nil {
		n.stats.publishFailed.Add(1)
		return n.error("publish", to, err)
	}
	n.stats.published.Add(1)
	return nil
}

// PublishBatch publishes several messages, in order, as if by Publish one after the other but with one wait for all of
// them. It returns nil if the broker has taken every message; else an error that wraps a [*BatchError] with one error
// for each message, of the classes that Publish documents. Messages to different addresses are independent: one may fail
// and a later one be taken. The batch and its payloads may be reused when PublishBatch has returned.
func (n *Node) PublishBatch(ctx context.Context, batch []Outgoing) error {
	if len(batch) == 0 {
		return nil
	}
	c := n.newCall(ctx, len(batch))
	items := make([]item, len(batch))
	var errs []error
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(batch))
		}
		errs[i] = n.error("publish", batch[i].To, err)
	}
	refused := 0
	var stop error // set by what makes the rest of the batch pointless
	for i, out := range batch {
		items[i] = item{call: c, payload: out.Payload, typ: wire.Data}
		err := stop
		if err == nil {
			err = n.checkOutgoing(ctx, out.To, out.Payload)
		}
		if err == nil {
			if err = n.enqueue(ctx, out.To, &items[i]); err != nil && ctx.Err() != nil {
				stop = err
			}
		}
		if err != nil {
			fail(i, err)
			refused++
		}
	}
	if refused > 0 && c.left.Add(int32(-refused)) == 0 {
		c.done <- struct{}{}
	}
	c.wait(items)
	for i := range items {
		if items[i].err != nil && (errs == nil || errs[i] == nil) {
			fail(i, items[i].err)
		}
	}
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	n.stats.published.Add(uint64(len(batch) - failed))
	n.stats.publishFailed.Add(uint64(failed))
	if failed > 0 {
		return n.error("publish", Address{}, &BatchError{Errors: errs})
	}
	return nil
}

// checkOutgoing finds what is wrong before any I/O.
func (n *Node) checkOutgoing(ctx context.Context, to Address, payload []byte) error {
	if n.closed() {
		return ErrClosed
	}
	if err := to.Validate(); err != nil {
		return err
	}
	if len(payload) > n.o.MaxPayload {
		return fmt.Errorf("%w: %d bytes, MaxPayload is %d", ErrTooLarge, len(payload), n.o.MaxPayload)
	}
	if err := ctx.Err(); err != nil {
		return notSent(context.Cause(ctx))
	}
	return nil
}

// notSent is the error of a message that was taken back before any byte of it left: definite, and the context's.
func notSent(cause error) error {
	return fmt.Errorf("%w: not sent: %w", ErrUnavailable, cause)
}

// uncertain is the error of a message of which bytes may have left.
func uncertain(cause error) error { return &uncertainError{cause} }

// uncertainError is ErrUncertain with its cause. It does not match the definite sentinels although its cause may: who
// sends again on ErrUnavailable must not do so here.
type uncertainError struct{ cause error }

func (e *uncertainError) Error() string {
	if errors.Is(e.cause, ErrUncertain) {
		return e.cause.Error()
	}
	return ErrUncertain.Error() + ": " + e.cause.Error()
}

// Is matches ErrUncertain, and what the cause matches except the definite sentinels.
func (e *uncertainError) Is(target error) bool {
	switch target {
	case ErrUncertain:
		return true
	case ErrClosed, ErrTooLarge, ErrInvalidAddress, ErrUnavailable, ErrDenied, ErrUnsupported, transport.ErrReadOnly:
		return false
	}
	return errors.Is(e.cause, target)
}

// As finds what the cause holds, for example a *net.OpError.
func (e *uncertainError) As(target any) bool { return errors.As(e.cause, target) }

// call is one Publish or PublishBatch that waits for the fate of its items.
type call struct {
	ctx  context.Context
	left atomic.Int32  // items whose fate is open
	done chan struct{} // gets one value when left reaches 0
	one  item          // the item of a Publish, here to save an allocation
}

func (n *Node) newCall(ctx context.Context, items int) *call {
	c, ok := n.calls.Get().(*call)
	if !ok {
		c = &call{done: make(chan struct{}, 1)}
	}
	c.ctx = ctx
	c.left.Store(int32(items)) //nolint:gosec // bounded by the length of a slice in memory
	return c
}

// run is the life of a Publish: it queues the item, waits, and gives the call back where nobody refers to it any more.
func (c *call) run(n *Node, to Address, it *item) error {
	if err := n.enqueue(c.ctx, to, it); err != nil {
		c.ctx = nil
		c.one = item{}
		n.calls.Put(c)
		return err
	}
	select {
	case <-c.done:
	default:
		select {
		case <-c.done:
		case <-c.ctx.Done():
			if abandoned := it.abandon(context.Cause(c.ctx)); abandoned {
				return it.err // a queue or a frame refers to the item, and so to the call: leave both to the collector
			}
			<-c.done
		}
	}
	err := it.err
	c.ctx = nil
	c.one = item{}
	n.calls.Put(c)
	return err
}

// wait waits for all items of a batch, or abandons what is open when the context ends.
func (c *call) wait(items []item) {
	select {
	case <-c.done:
	case <-c.ctx.Done():
		for i := range items {
			items[i].abandon(context.Cause(c.ctx))
		}
	}
}

// abandon gives up waiting for an item: one that still waits is taken back, which is definite; one that is in a frame
// may have been heard. It returns false if the fate was known already.
func (it *item) abandon(cause error) bool {
	if it.outlet == nil {
		return false // never queued
	}
	l := it.outlet.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	switch it.state {
	case itemQueued:
		if l.held != 0 {
			cause = fmt.Errorf("%w (held until every member has answered%s)", cause, l.link.barrier.silence())
		}
		l.takeBack(it, notSent(cause))
		return true
	case itemSent:
		it.state = itemAbandoned
		it.err = uncertain(cause)
		return true
	case itemNew, itemAbandoned, itemDone:
	}
	return false
}

// settle fixes an item's fate. The lane's mutex is held.
func (it *item) settle(err error) {
	if it.state == itemAbandoned || it.state == itemDone {
		it.state = itemDone
		return
	}
	it.state = itemDone
	it.err = err
	if c := it.call; c != nil && c.left.Add(-1) == 0 {
		c.done <- struct{}{}
	}
}

// enqueue puts an item into the lane of its address. It blocks while the lane is full, until ctx ends. An error is
// definite: the item was not queued.
func (n *Node) enqueue(ctx context.Context, to Address, it *item) error {
	for {
		o := n.outletFor(to)
		queued, err := o.lane.add(ctx, o, it)
		if queued || err != nil {
			return err
		}
	}
}
