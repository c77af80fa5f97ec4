// Package conntest is a connection for unit tests of hub servers: it records what the hub writes, can be blocked in the
// middle of a write, and can fail. Everything is waited for by event, nothing by time.
package conntest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gobackplane/backplane/hubkit"
)

// ErrClosed is returned by a Write that Close interrupted, and by a wait that Close made hopeless.
var ErrClosed = errors.New("conntest: closed")

// Conn is a recording [hubkit.Conn]. Make one with [New]. All methods may be called concurrently.
type Conn struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, with every change; guarded by mu, as all that follows
	written []hubkit.Delivery
	writes  int
	blocked bool  // Block was called
	waiting int   // writes that wait because of it
	err     error // what Fail was given
	closed  bool
	reason  hubkit.Reason
	writing int // calls of Write under way
	misuse  error
}

var _ hubkit.Conn = (*Conn)(nil)

// New returns a connection that takes every write at once.
func New() *Conn { return &Conn{changed: make(chan struct{})} }

// Write implements [hubkit.Conn].
func (c *Conn) Write(ctx context.Context, batch []hubkit.Delivery) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing++
	defer func() { c.writing-- }()
	switch {
	case c.writing > 1:
		c.misuse = errors.New("conntest: two writes at a time")
	case len(batch) == 0:
		c.misuse = errors.New("conntest: an empty write")
	}
	if c.blocked {
		c.waiting++
		defer func() { c.waiting-- }()
		c.change() // for WaitBlocked
	}
	for c.blocked && c.err == nil && !c.closed {
		if err := c.await(ctx); err != nil {
			return err
		}
	}
	switch {
	case c.closed:
		return ErrClosed
	case c.err != nil:
		return c.err
	}
	c.writes++
	c.written = append(c.written, batch...)
	c.change()
	return nil
}

// Close implements [hubkit.Conn]. It ends a blocked Write.
func (c *Conn) Close(reason hubkit.Reason) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.misuse = errors.New("conntest: closed twice")
		return c.misuse
	}
	c.closed, c.reason = true, reason
	c.change()
	return nil
}

// Block makes writes from now on wait until Unblock, Close, Fail or the end of their context: a client that does not
// read.
func (c *Conn) Block() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = true
	c.change()
}

// Unblock lets blocked and later writes through.
func (c *Conn) Unblock() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked = false
	c.change()
}

// Fail makes blocked and later writes return err, without recording anything; nil ends that.
func (c *Conn) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.change()
}

// Wait returns the n-th delivery, counted from 1, as soon as it was written: a notice without payload counts as one. It
// returns an error when ctx ends or the connection is closed first.
func (c *Conn) Wait(ctx context.Context, n int) (hubkit.Delivery, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.until(ctx, func() bool { return len(c.written) >= n }); err != nil {
		return hubkit.Delivery{}, fmt.Errorf("conntest: waiting for delivery %d, %d were written: %w", n, len(c.written), err)
	}
	return c.written[n-1], nil
}

// WaitPayload returns as soon as a delivery with this payload was written; the errors are those of Wait.
func (c *Conn) WaitPayload(ctx context.Context, payload string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.until(ctx, func() bool {
		return slices.ContainsFunc(c.written, func(d hubkit.Delivery) bool { return string(d.Payload) == payload })
	})
	if err != nil {
		return fmt.Errorf("conntest: waiting for payload %q, %d deliveries were written: %w", payload, len(c.written), err)
	}
	return nil
}

// WaitBlocked returns when a write is blocked; the errors are those of Wait.
func (c *Conn) WaitBlocked(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.until(ctx, func() bool { return c.waiting > 0 }); err != nil {
		return fmt.Errorf("conntest: waiting for a blocked write: %w", err)
	}
	return nil
}

// WaitClosed returns the reason when the hub has closed the connection.
func (c *Conn) WaitClosed(ctx context.Context) (hubkit.Reason, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.closed {
		if err := c.await(ctx); err != nil {
			return hubkit.Reason{}, fmt.Errorf("conntest: waiting for Close: %w", err)
		}
	}
	return c.reason, nil
}

// Deliveries returns what was written so far, notices without payload included.
func (c *Conn) Deliveries() []hubkit.Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.written)
}

// Payloads returns the payloads written so far, as strings.
func (c *Conn) Payloads() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var payloads []string
	for _, d := range c.written {
		if d.Payload != nil {
			payloads = append(payloads, string(d.Payload))
		}
	}
	return payloads
}

// ResumeToken returns the newest resume token that was written, "" for none.
func (c *Conn) ResumeToken() (token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.written {
		if d.Resume != "" {
			token = d.Resume
		}
	}
	return token
}

// Writes returns how many calls of Write were let through.
func (c *Conn) Writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// Misuse returns an error if the hub has broken a rule of [hubkit.Conn]: two writes at a time, an empty
// write, a second Close.
func (c *Conn) Misuse() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.misuse
}

// change wakes everybody who waits. Called with mu held.
func (c *Conn) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// until waits until something is true, which nothing becomes after Close. Called with mu held.
func (c *Conn) until(ctx context.Context, is func() bool) error {
	for !is() {
		if c.closed {
			return ErrClosed
		}
		if err := c.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// await waits for a change without mu, which is held before and after.
func (c *Conn) await(ctx context.Context) error {
	changed := c.changed
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
