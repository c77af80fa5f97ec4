package inmem

import (
	"context"
	"fmt"

	"github.com/gobackplane/backplane/transport"
)

// Subscribe is effective before it returns: every frame that the broker takes once it has registered a channel reaches
// the sink. A channel that is subscribed already is confirmed again.
func (c *client) Subscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return c.request(ctx, channels, func(k *conn, channel string) error {
		b := c.broker
		if err := b.options.checkChannel(channel); err != nil {
			return err
		}
		if b.denies(c, OpSubscribe, channel) {
			return fmt.Errorf("%w: the broker refuses to subscribe to this channel", transport.ErrDenied)
		}
		if _, twice := k.channels[channel]; twice {
			return nil
		}
		k.channels[channel] = struct{}{}
		b.channels[channel] = append(b.channels[channel], c)
		return nil
	})
}

// Unsubscribe is effective before it returns. A channel that is not subscribed is confirmed.
func (c *client) Unsubscribe(ctx context.Context, _ transport.Link, channels []string) []error {
	return c.request(ctx, channels, func(k *conn, channel string) error {
		if _, ok := k.channels[channel]; ok {
			delete(k.channels, channel)
			c.broker.remove(c, channel)
		}
		return nil
	})
}

// request does one thing, under broker.mu, for each channel. An answer that cannot come is ErrUnavailable.
func (c *client) request(ctx context.Context, channels []string, do func(*conn, string) error) []error {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	k, err := c.current(ctx)
	if err != nil {
		return forEach(len(channels), err)
	}
	if err = c.send(ctx, k); err != nil {
		return forEach(len(channels), fmt.Errorf("%w: %w", transport.ErrUnavailable, err))
	}
	var errs []error
	for i, channel := range channels {
		if k.fate != nil {
			break // the broker is not there any more, and no answer will come
		}
		if err = do(k, channel); err != nil {
			if errs == nil {
				errs = make([]error, len(channels))
			}
			errs[i] = err
		}
	}
	if err = c.answer(ctx, k); err != nil {
		return forEach(len(channels), fmt.Errorf("%w: %w", transport.ErrUnavailable, err))
	}
	return errs
}
