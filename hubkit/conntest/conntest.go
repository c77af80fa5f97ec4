// Package conntest is a connection for unit tests of hub servers: it records what the hub writes, can be blocked in the
// middle of a write, and can fail. Everything is waited for by event, nothing by time.
package conntest

import (
	"context"

	"github.com/gobackplane/backplane/hubkit"
)

// Conn is a recording [hubkit.Conn]. Make one with [New]. All methods may be called concurrently.
type Conn struct{}

var _ hubkit.Conn = (*Conn)(nil)

// New returns a connection that takes every write at once.
func New() *Conn { panic("soon") }

// Write implements [hubkit.Conn].
func (c *Conn) Write(ctx context.Context, batch []hubkit.Delivery) error { panic("soon") }

// Close implements [hubkit.Conn]. It ends a blocked Write.
func (c *Conn) Close(reason hubkit.Reason) error { panic("soon") }

// Block makes writes from now on wait until Unblock, Close, or the end of their context: a client that does not read.
func (c *Conn) Block() { panic("soon") }

// Unblock lets blocked and later writes through.
func (c *Conn) Unblock() { panic("soon") }

// Fail makes writes from now on return err, without recording anything; nil ends that.
func (c *Conn) Fail(err error) { panic("soon") }

// Wait returns the n-th delivery, counted from 1, as soon as it was written: also a notice without payload is one. It
// returns an error when ctx ends or the connection is closed first.
func (c *Conn) Wait(ctx context.Context, n int) (hubkit.Delivery, error) { panic("soon") }

// WaitBlocked returns when a write is blocked.
func (c *Conn) WaitBlocked(ctx context.Context) error { panic("soon") }

// WaitClosed returns the reason when the hub has closed the connection.
func (c *Conn) WaitClosed(ctx context.Context) (hubkit.Reason, error) { panic("soon") }

// Deliveries returns what was written so far, notices without payload included.
func (c *Conn) Deliveries() []hubkit.Delivery { panic("soon") }

// Payloads returns the payloads written so far, as strings.
func (c *Conn) Payloads() []string { panic("soon") }

// Writes returns how many calls of Write were let through.
func (c *Conn) Writes() int { panic("soon") }
