package inmem

import (
	"context"
	"fmt"

	"github.com/gobackplane/backplane/transport"
)

// Publish hands each frame to everybody who is subscribed before it turns to the next.
func (c *client) Publish(ctx context.Context, _ transport.Link, frames []transport.Frame) []error {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	k, err := c.current(ctx)
	if err != nil {
		return forEach(len(frames), err)
	}
	if err = c.send(ctx, k); err != nil {
		return forEach(len(frames), fmt.Errorf("%w: %w", transport.ErrUncertain, err))
	}
	var errs []error
	for i := range frames {
		if k.fate != nil {
			break // the broker is not there any more, and no answer will come
		}
		if err = b.publish(c, &frames[i]); err != nil {
			if errs == nil {
				errs = make([]error, len(frames))
			}
			errs[i] = err
		}
	}
	if err = c.answer(ctx, k); err != nil {
		return forEach(len(frames), fmt.Errorf("%w: %w", transport.ErrUncertain, err))
	}
	return errs
}

// publish takes one frame, or says why not. The caller holds mu.
func (b *Broker) publish(from *client, f *transport.Frame) error {
	if limit := b.options.Limits.MaxFrame; limit > 0 && len(f.Data) > limit {
		return fmt.Errorf("%w: the frame has %d bytes, the limit is %d", transport.ErrTooLarge, len(f.Data), limit)
	}
	if err := b.options.checkChannel(f.Channel); err != nil {
		return err
	}
	if b.denies(from, OpPublish, f.Channel) {
		return fmt.Errorf("%w: the broker refuses to publish on this channel", transport.ErrDenied)
	}
	members := b.channels[f.Channel]
	if len(members) == 0 {
		return nil
	}
	// One copy for all. Its capacity is its length, so that nobody's append can reach into another's view.
	data := make([]byte, len(f.Data))
	copy(data, f.Data)
	var overrun []*client
	for _, c := range members {
		if !c.receive(f.Channel, data) {
			overrun = append(overrun, c)
		}
	}
	for _, c := range overrun { // not inside the loop above: it takes them off the channel
		c.hangUp(errOverrun)
	}
	return nil
}

// receive hands a frame to the node, or does what a fault says. It returns false if the backlog is full. The caller
// holds broker.mu.
func (c *client) receive(channel string, data []byte) bool {
	if c.faults.drops(channel, data) {
		return true
	}
	if c.faults.deaf || c.faults.delay > 0 {
		return c.hold(c.conn, channel, data)
	}
	c.sink.Frame(transport.OnlyLink, channel, data)
	return true
}

// forEach returns one error for each of n requests.
func forEach(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
