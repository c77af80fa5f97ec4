package inmem

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gobackplane/backplane/transport"
)

var _ transport.Store = (*client)(nil)

// kept is a value in the broker.
type kept struct {
	value    []byte
	revision transport.Revision
	written  time.Time
	expires  time.Time // zero for never
}

func (k *kept) over(now time.Time) bool { return !k.expires.IsZero() && !now.Before(k.expires) }

// look returns what a key has, nil for nothing. The caller holds mu.
func (b *Broker) look(key string, now time.Time) *kept {
	k := b.kept[key]
	if k != nil && k.over(now) {
		delete(b.kept, key)
		k = nil
	}
	return k
}

// swept is how many other values a write looks at, so that those that are over do not stay for good.
const swept = 4

// keep writes a value. The caller holds mu.
func (b *Broker) keep(key string, value []byte, ttl time.Duration, now time.Time) transport.Revision {
	n := 0
	for other, k := range b.kept {
		if k.over(now) {
			delete(b.kept, other)
		}
		if n++; n == swept {
			break
		}
	}
	b.revision++
	k := &kept{value: slices.Clone(value), revision: b.revision, written: now}
	if ttl > 0 {
		k.expires = now.Add(ttl)
	}
	b.kept[key] = k
	b.storeChanged()
	return k.revision
}

// storeChanged makes watchers look again. The caller holds mu.
func (b *Broker) storeChanged() {
	close(b.stored)
	b.stored = make(chan struct{})
}

// forgetAll is what the end of the broker's process does to its store. The caller holds mu.
func (b *Broker) forgetAll() {
	clear(b.kept)
	b.storeChanged()
}

func (c *client) key(key string) string { return c.namespace + ":" + key }

// store does something in the broker for this node, under the faults that are in force. Until do has been called nothing
// was done.
func (c *client) store(ctx context.Context, key string, do func(now time.Time) error) error {
	b := c.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	k, err := c.current(ctx)
	if err != nil {
		return err
	}
	if err = c.send(ctx, k); err == nil && k.fate != nil {
		err = errGone
	}
	if err != nil {
		return fmt.Errorf("%w: %w", transport.ErrUncertain, err) // as over a network: who knows
	}
	if b.denies(c, OpStore, key) {
		return fmt.Errorf("%w: the broker refuses this key", transport.ErrDenied)
	}
	did := do(time.Now())
	if err = c.answer(ctx, k); err != nil {
		return fmt.Errorf("%w: %w", transport.ErrUncertain, err)
	}
	return did
}

// Get reads. Where no answer comes nothing is uncertain.
func (c *client) Get(ctx context.Context, key string) (e transport.Entry, err error) {
	key = c.key(key)
	err = c.store(ctx, key, func(now time.Time) error {
		k := c.broker.look(key, now)
		if k == nil {
			return transport.ErrKeyNotFound
		}
		e = k.entry(now)
		return nil
	})
	if errors.Is(err, transport.ErrUncertain) {
		err = fmt.Errorf("%w: no answer came", transport.ErrUnavailable)
	}
	if err != nil {
		return transport.Entry{}, err
	}
	return e, nil
}

func (k *kept) entry(now time.Time) transport.Entry {
	return transport.Entry{Value: slices.Clone(k.value), Revision: k.revision, Age: now.Sub(k.written)}
}

// Create writes where nothing is.
func (c *client) Create(ctx context.Context, key string, value []byte, ttl time.Duration) (r transport.Revision, err error) {
	key = c.key(key)
	err = c.store(ctx, key, func(now time.Time) error {
		if c.broker.look(key, now) != nil {
			return fmt.Errorf("%w: the key has a value", transport.ErrConflict)
		}
		r = c.broker.keep(key, value, ttl, now)
		return nil
	})
	return r, err
}

// Update writes where the revision seen is.
func (c *client) Update(ctx context.Context, key string, value []byte, ttl time.Duration, seen transport.Revision) (r transport.Revision, err error) {
	key = c.key(key)
	err = c.store(ctx, key, func(now time.Time) error {
		if k := c.broker.look(key, now); k == nil || k.revision != seen {
			return transport.ErrConflict
		}
		r = c.broker.keep(key, value, ttl, now)
		return nil
	})
	return r, err
}

// Delete removes the revision seen.
func (c *client) Delete(ctx context.Context, key string, seen transport.Revision) error {
	key = c.key(key)
	return c.store(ctx, key, func(now time.Time) error {
		switch k := c.broker.look(key, now); {
		case k == nil:
			return transport.ErrKeyNotFound
		case k.revision != seen:
			return transport.ErrConflict
		}
		delete(c.broker.kept, key)
		c.broker.storeChanged()
		return nil
	})
}

// Expire sets the end of a value.
func (c *client) Expire(ctx context.Context, key string, ttl time.Duration) error {
	key = c.key(key)
	return c.store(ctx, key, func(now time.Time) error {
		k := c.broker.look(key, now)
		if k == nil {
			return transport.ErrKeyNotFound
		}
		if k.expires = (time.Time{}); ttl > 0 {
			k.expires = now.Add(ttl)
		}
		c.broker.storeChanged()
		return nil
	})
}

// Watch tells every revision that is there when it looks, and the end of each at the moment of it. It sees nothing while
// the node is not connected, or under a fault.
func (c *client) Watch(ctx context.Context, key string, f func(*transport.Entry)) error {
	key = c.key(key)
	b := c.broker
	told, never := transport.Revision(0), true
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case c.closed:
			return fmt.Errorf("%w: the transport was closed", transport.ErrClosed)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		now := time.Now()
		var end <-chan time.Time
		var timer *time.Timer
		if c.conn != nil && c.conn.fate == nil && !c.faults.deaf && !c.faults.mute {
			if b.denies(c, OpStore, key) {
				return fmt.Errorf("%w: the broker refuses this key", transport.ErrDenied)
			}
			k := b.look(key, now)
			var e *transport.Entry
			revision := transport.Revision(0)
			if k != nil {
				entry := k.entry(now)
				e, revision = &entry, k.revision
			}
			if never || revision != told {
				told, never = revision, false
				b.mu.Unlock()
				f(e)
				b.mu.Lock()
				continue
			}
			if k != nil && !k.expires.IsZero() {
				timer = time.NewTimer(k.expires.Sub(now))
				end = timer.C
			}
		}
		changed, stored := c.changed, b.stored
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-stored:
		case <-end:
		}
		if timer != nil {
			timer.Stop()
		}
		b.mu.Lock()
	}
}
