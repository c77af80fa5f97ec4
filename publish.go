package backplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	if err := n.send(ctx, to, wire.Data, payload); err != nil {
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
	var errs []error
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(batch))
		}
		errs[i] = n.error("publish", batch[i].To, err)
	}
	refused := 0
	var stop error // set by what makes the rest of the batch pointless
	var o *outlet
	for i := range batch {
		out, it := &batch[i], &c.items[i]
		it.payload, it.typ = out.Payload, wire.Data
		err := stop
		if err == nil {
			err = n.checkOutgoing(ctx, out.To, out.Payload)
		}
		if err == nil {
			if o == nil || o.addr != out.To {
				o = n.outletFor(out.To)
			}
			if o, err = n.enqueue(ctx, o, it); err != nil && ctx.Err() != nil {
				stop = err
			}
		}
		if err != nil {
			fail(i, err)
			refused++
		}
	}
	whole := c.wait(refused)
	for i := range c.items {
		if err := c.items[i].err; err != nil && (errs == nil || errs[i] == nil) {
			fail(i, err)
		}
	}
	if whole {
		n.endCall(c)
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
	ctx   context.Context
	left  atomic.Int32  // items whose fate is open
	done  chan struct{} // gets one value when left reaches 0
	items []item
}

// keptItems is the number of items up to which a call keeps their memory for the next one: 40 KiB.
const keptItems = 512

func (n *Node) newCall(ctx context.Context, items int) *call {
	c, ok := n.calls.Get().(*call)
	if !ok {
		c = &call{done: make(chan struct{}, 1)}
	}
	c.ctx = ctx
	c.left.Store(int32(items)) //nolint:gosec // bounded by the length of a slice in memory
	c.items = slices.Grow(c.items, items)[:items]
	for i := range c.items {
		c.items[i].call = c
	}
	return c
}

// endCall keeps a call for the next one. Nothing may refer to it or its items any more.
func (n *Node) endCall(c *call) {
	c.ctx = nil
	clear(c.items)
	if c.items = c.items[:0]; cap(c.items) > keptItems {
		c.items = nil
	}
	n.calls.Put(c)
}

// send is the life of a single message: it is queued, and its fate waited for.
func (n *Node) send(ctx context.Context, to Address, typ wire.Type, payload []byte) error {
	c := n.newCall(ctx, 1)
	it := &c.items[0]
	it.payload, it.typ = payload, typ
	if _, err := n.enqueue(ctx, n.outletFor(to), it); err != nil {
		n.endCall(c)
		return err
	}
	whole := c.wait(0)
	err := it.err
	if whole {
		n.endCall(c)
	}
	return err
}

// wait waits for all items but those that were not queued, or abandons what is open when the context ends. It then returns
// false: queues and frames refer to the items, which are left to the collector.
func (c *call) wait(refused int) (whole bool) {
	if refused > 0 && c.left.Add(int32(-refused)) == 0 { //nolint:gosec // at most as many as there are items
		return true
	}
	select {
	case <-c.done:
		return true
	case <-c.ctx.Done():
	}
	whole = true
	for i := range c.items {
		if c.items[i].abandon(context.Cause(c.ctx)) {
			whole = false
		}
	}
	if whole {
		<-c.done
	}
	return whole
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

// enqueue puts an item into the lane of its outlet, or of the one that has taken its place, which it returns. It blocks
// while the lane is full, until ctx ends. An error is definite: the item was not queued.
func (n *Node) enqueue(ctx context.Context, o *outlet, it *item) (*outlet, error) {
	for {
		queued, err := o.lane.add(ctx, o, it)
		if queued || err != nil {
			return o, err
		}
		o = n.outletFor(o.addr)
	}
}
